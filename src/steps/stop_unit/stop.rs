//! The stop itself: stops units in order, polls them until nothing of them runs, and stops them again if they come
//! back.

use std::path::Path;
use std::time::{Duration, Instant};

use super::Manner;
use super::client::Client;
use super::stopping::{StopPhase, StoppingUnit};
use crate::model::error::{ErrorKind, Failure};
use crate::step::Outcome;
use crate::sys::cancel::Waited;
use crate::sys::dbus::BusError;
use crate::sys::mount_users::holders;
use crate::sys::systemd::{self, Closure, Permission, StopCause};

/// The poll interval.
const EVERY: Duration = Duration::from_millis(200);

/// The poll interval of a long stop.
const SLOWLY: Duration = Duration::from_secs(1);

/// When a stop counts as long.
const LONG: Duration = Duration::from_secs(60);

/// The poll interval for a signalled process: systemd restarts a service 100 ms after its end by default.
const CLOSELY: Duration = Duration::from_millis(25);

/// How long to wait for processes that outlive their unit, after the unit is down.
const LINGER: Duration = Duration::from_secs(10);

/// The first and the longest pause before a failed stop is repeated.
const AGAIN: Duration = Duration::from_millis(500);
const RARELY: Duration = Duration::from_secs(15);

/// How many of those that keep a mount busy are named.
const NAMED: usize = 3;

const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";
const ONLY_BY_DEPENDENCY: &str = "org.freedesktop.systemd1.OnlyByDependency";

/// One attempt to stop units.
pub(super) struct Stop<'a> {
    pub(super) client: Client<'a>,
    pub(super) manner: Manner,
    pub(super) closure: Closure,
    pub(super) units: Vec<StoppingUnit>,
    /// For each unit, those that must be down first.
    waits: Vec<Vec<usize>>,
    /// Protected units, whose processes in a slice do not count.
    pub(super) spared: Vec<String>,
    /// Patterns that no unit matches.
    pub(super) unmatched: Vec<String>,
    begun: Instant,
    /// From then on units are stopped without waiting for others.
    late: Instant,
    pub(super) has_acted: bool,
    permission: Option<Permission>,
}

impl<'a> Stop<'a> {
    pub(super) fn new(
        client: Client<'a>,
        manner: Manner,
        closure: Closure,
        names: &[String],
    ) -> Stop<'a> {
        let deadline = client.context.deadline;
        let grace = manner.grace.min(deadline.left().unwrap_or_default() / 2);
        let now = Instant::now();
        let matches = |pattern: &String| {
            let causes = closure.members.iter().map(|it| &it.cause);
            let mut causes = causes.chain(closure.spared.iter().map(|it| &it.cause));
            causes.any(|cause| *cause == StopCause::Matches(pattern.clone()))
        };
        let patterns = names.iter().filter(|name| systemd::is_pattern(name));
        let unmatched = patterns.filter(|it| !matches(it)).cloned().collect();
        Stop {
            manner,
            units: closure
                .members
                .iter()
                .cloned()
                .map(StoppingUnit::new)
                .collect(),
            waits: systemd::waits(&closure.members),
            spared: closure.spared.iter().map(|it| it.unit.id.clone()).collect(),
            unmatched,
            begun: now,
            late: deadline.instant().checked_sub(grace).unwrap_or(now),
            has_acted: false,
            permission: None,
            closure,
            client,
        }
    }

    pub(super) fn run(mut self) -> Result<Outcome, Failure> {
        self.announce();
        let ended = self.work();
        self.take_back();
        ended?;
        self.verdict()
    }

    /// Reports what is stopped along, and what is not.
    fn announce(&self) {
        let events = self.client.context.events;
        for also in self.closure.along() {
            events.note(&format!("also stops {also}"));
        }
        for left in self.closure.left_alone() {
            events.note(&format!("does not stop {left}"));
        }
    }

    fn work(&mut self) -> Result<(), Failure> {
        loop {
            self.look()?;
            if self.units.iter().all(|stopping| self.is_finished(stopping)) {
                return Ok(());
            }
            self.act();
            let what = self.waiting();
            self.client.context.events.waiting(&what);
            if self.pause() == Waited::Cancelled {
                return Err(Failure::new(ErrorKind::TimedOut, what, "told to stop"));
            }
            if self.client.context.deadline.left().is_none() {
                return Err(Failure::new(ErrorKind::TimedOut, what, self.details()));
            }
        }
    }

    /// Reads the state of every unit. If PID 1 answers too late, the last state is reported.
    fn look(&mut self) -> Result<(), Failure> {
        let names: Vec<String> = self.units.iter().map(|it| it.name().to_owned()).collect();
        if names.is_empty() {
            return Ok(());
        }
        let states = self.client.ask("systemd", |manager, deadline| {
            manager.states(&names, deadline)
        });
        let states = states.map_err(|failure| {
            if self.client.context.deadline.left().is_none() && self.has_acted {
                let cause = format!("{}; {failure}", self.details());
                return Failure::new(ErrorKind::TimedOut, self.waiting(), cause);
            }
            failure
        })?;
        for (stopping, state) in self.units.iter_mut().zip(states) {
            let was_down = stopping.down.is_some();
            stopping.see(state, &self.spared);
            // It has come back, and is stopped in its turn like any other.
            if was_down
                && stopping.down.is_none()
                && !matches!(stopping.phase, StopPhase::Refused(_))
            {
                stopping.phase = StopPhase::Waiting;
            }
        }
        Ok(())
    }

    /// Whether a unit needs no more waiting.
    pub(super) fn is_finished(&self, stopping: &StoppingUnit) -> bool {
        if matches!(stopping.phase, StopPhase::Refused(_)) || stopping.is_gone() {
            return true;
        }
        let Some(down) = stopping.down else {
            return false;
        };
        match self.manner.leave_behind {
            Some(is_left) => is_left,
            None => stopping.member.unit.lets_processes_stay() && down.elapsed() >= LINGER,
        }
    }

    /// For each unit, whether those that wait for it may be stopped: it and what it waited for are down.
    fn settled(&self) -> Vec<bool> {
        let mut settled = vec![false; self.units.len()];
        loop {
            let mut has_changed = false;
            for (at, stopping) in self.units.iter().enumerate() {
                let is_down =
                    stopping.down.is_some() || matches!(stopping.phase, StopPhase::Refused(_));
                if !settled[at] && is_down && self.waits[at].iter().all(|it| settled[*it]) {
                    settled[at] = true;
                    has_changed = true;
                }
            }
            if !has_changed {
                return settled;
            }
        }
    }

    /// Stops every unit whose turn it is.
    fn act(&mut self) {
        let settled = self.settled();
        let is_late = Instant::now() >= self.late;
        for at in 0..self.units.len() {
            let stopping = &self.units[at];
            if stopping.down.is_some() {
                continue;
            }
            let is_free = is_late || self.waits[at].iter().all(|it| settled[*it]);
            match stopping.phase {
                // A start job is cancelled at once.
                StopPhase::Waiting if stopping.state.is_down() => self.ask(at),
                StopPhase::Waiting if is_free => self.begin(at, is_late),
                StopPhase::Waiting | StopPhase::Refused(_) => {}
                StopPhase::Signalled(pid) => {
                    let is_restarting = stopping.state.sub.starts_with("auto-restart");
                    if is_late || is_restarting || systemd::has_ended(pid) {
                        self.ask(at);
                    }
                }
                StopPhase::Asked(times, last) => self.insist(at, times, last),
            }
        }
    }

    /// Stops a unit whose turn it is: by its signal, or by itself.
    fn begin(&mut self, at: usize, is_late: bool) {
        self.has_acted = true;
        let stopping = &self.units[at];
        let is_named = !matches!(stopping.member.cause, StopCause::Tied(..));
        let is_running = !stopping.state.sub.starts_with("auto-restart");
        match self.manner.signal {
            Some((_, signal)) if is_named && is_running && !is_late => {
                let name = stopping.name().to_owned();
                let signalled = self.client.tell(|manager, deadline| {
                    let pid = manager.unit(&name, deadline)?.main_pid;
                    if pid > 0 {
                        manager.signal_main(&name, signal, deadline)?;
                    }
                    Ok(pid)
                });
                match signalled {
                    Ok(pid) if pid > 0 => {
                        let stopping = &mut self.units[at];
                        stopping.since = stopping.since.or(Some(Instant::now()));
                        stopping.phase = StopPhase::Signalled(pid);
                    }
                    // It has no main process, or has just lost it.
                    Ok(_) | Err(_) => self.ask(at),
                }
            }
            _ => self.ask(at),
        }
    }

    /// Handles a unit whose stop was requested: it may have been restarted, or its stop may have failed.
    fn insist(&mut self, at: usize, times: u32, last: Instant) {
        let stopping = &mut self.units[at];
        let is_stopping = stopping.state.job == "stop" || stopping.state.active == "deactivating";
        if stopping.state.is_to_start() {
            return self.ask(at);
        }
        if is_stopping {
            return;
        }
        // systemd does not repeat a failed stop, such as that of a busy mount.
        let point = stopping.member.unit.mount_point.clone();
        let pause = (AGAIN * 2_u32.saturating_pow(times.saturating_sub(1))).min(RARELY);
        if last.elapsed() < pause {
            return;
        }
        if !point.is_empty() {
            stopping.busy = holders(Path::new(&point), NAMED);
        }
        self.ask(at);
    }

    /// Queues the stop of a unit.
    fn ask(&mut self, at: usize) {
        self.has_acted = true;
        let name = self.units[at].name().to_owned();
        let asked = self.request(&name);
        let asked = match asked {
            Err(error) if error.is(ONLY_BY_DEPENDENCY) => match self.permit(at) {
                Ok(()) => self.request(&name),
                Err(reason) => return self.refused(at, &error, &reason),
            },
            asked => asked,
        };
        match asked {
            Ok(()) => {
                let stopping = &mut self.units[at];
                let times = match stopping.phase {
                    StopPhase::Asked(times, _) => times + 1,
                    _ => 1,
                };
                stopping.since = stopping.since.or(Some(Instant::now()));
                stopping.phase = StopPhase::Asked(times, Instant::now());
            }
            Err(error @ BusError::Refused(..)) => self.refused(at, &error, ""),
            // Repeated after the next poll.
            Err(_) => {}
        }
    }

    fn request(&mut self, name: &str) -> Result<(), BusError> {
        self.client.tell(|manager, deadline| {
            match manager.stop(name, deadline) {
                // systemd has unloaded it.
                Err(error) if error.is(NO_SUCH_UNIT) => Ok(()),
                asked => asked,
            }
        })
    }

    fn refused(&mut self, at: usize, error: &BusError, reason: &str) {
        let stopping = &mut self.units[at];
        let cause = format!("systemd does not stop it: {error}{reason}");
        // Another attempt would fail in the same way.
        let failure = Failure::new(ErrorKind::Unit, stopping.name(), cause).retryable(false);
        stopping.phase = StopPhase::Refused(failure);
    }

    /// Makes systemd allow the stop of units with RefuseManualStop=yes that it would stop by itself now: in a shutdown,
    /// or with the unit that they depend on. SIGTERM to their processes would skip their ExecStop=.
    ///
    /// # Errors
    /// Why it stays forbidden, to be appended to systemd's message.
    fn permit(&mut self, at: usize) -> Result<(), String> {
        const LEFT: &str = "; a shutdown stops it after farewell";
        if self.permission.is_some() {
            return Err(String::new());
        }
        let state = self
            .client
            .tell(|manager, deadline| manager.state(deadline));
        let is_ending = state.is_ok_and(|state| state == "stopping");
        let is_due = |stopping: &StoppingUnit| {
            is_ending || matches!(stopping.member.cause, StopCause::Tied(..))
        };
        if !is_due(&self.units[at]) {
            return Err(LEFT.to_owned());
        }
        let refusing = self.units.iter().filter(|it| it.member.unit.refuses_stop);
        let due = refusing
            .filter(|it| is_due(it))
            .map(|it| it.name().to_owned());
        let due: Vec<String> = due.collect();
        let permission = Permission::of(&due);
        let permission = permission.map_err(|error| format!("; /run/systemd: {error}{LEFT}"))?;
        let reloaded = self
            .client
            .tell(|manager, deadline| manager.reload(deadline));
        self.permission = Some(permission);
        reloaded.map_err(|error| format!("; daemon-reload: {error}{LEFT}"))
    }

    /// Reverts [`Stop::permit`].
    fn take_back(&mut self) {
        if self.permission.take().is_none() {
            return;
        }
        let taken = self.client.tell(
            |manager, deadline| match manager.state(deadline)?.as_str() {
                "stopping" => Ok(()),
                _ => manager.reload(deadline),
            },
        );
        if let Err(error) = taken {
            let remark =
                format!("RefuseManualStop= comes back with the next daemon-reload: {error}");
            self.client.context.events.remark(&remark);
        }
    }

    /// Waits until the next poll; shorter while a signalled process ends.
    fn pause(&self) -> Waited {
        let pause = match self.begun.elapsed() < LONG {
            true => EVERY,
            false => SLOWLY,
        };
        let mut signalled = Vec::new();
        for it in &self.units {
            if let StopPhase::Signalled(pid) = it.phase {
                signalled.push(pid);
            }
        }
        if signalled.is_empty() {
            return self.client.pause(pause);
        }
        let end = Instant::now() + pause;
        while Instant::now() < end && !signalled.iter().any(|pid| systemd::has_ended(*pid)) {
            if self.client.pause(CLOSELY) == Waited::Cancelled {
                return Waited::Cancelled;
            }
            if self.client.context.deadline.left().is_none() {
                break;
            }
        }
        Waited::Elapsed
    }
}
