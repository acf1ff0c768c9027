//! The progress of one unit's stop.

use std::time::Instant;

use crate::model::error::Failure;
use crate::sys::systemd::{Member, Process, UnitState, control_group, remaining};
use crate::text::elapsed;

/// How many processes are named of a unit.
const NAMED: usize = 5;

/// How far a unit's stop has come.
#[derive(Clone, Debug)]
pub(super) enum StopPhase {
    /// Its stop was not requested yet.
    Waiting,
    /// Its main process, with this id, was sent the configured signal.
    Signalled(u32),
    /// Its stop was requested this many times, the last time at this moment.
    Asked(u32, Instant),
    /// systemd refuses to stop it.
    Refused(Failure),
}

/// One unit of the closure.
pub(super) struct StoppingUnit {
    pub(super) member: Member,
    pub(super) phase: StopPhase,
    /// Its state at the last poll.
    pub(super) state: UnitState,
    /// Where its processes are.
    group: Option<String>,
    /// When its stop was first requested, or it was signalled.
    pub(super) since: Option<Instant>,
    /// Since when it is down.
    pub(super) down: Option<Instant>,
    /// Processes that are left although it is down.
    pub(super) left: Vec<Process>,
    /// What keeps a mount busy.
    pub(super) busy: Vec<String>,
}

impl StoppingUnit {
    pub(super) fn new(member: Member) -> StoppingUnit {
        let unit = &member.unit;
        let state = UnitState {
            name: unit.id.clone(),
            id: unit.id.clone(),
            active: unit.active.clone(),
            sub: unit.sub.clone(),
            job: String::new(),
        };
        StoppingUnit {
            group: control_group(unit),
            member,
            phase: StopPhase::Waiting,
            state,
            since: None,
            down: None,
            left: Vec::new(),
            busy: Vec::new(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.member.unit.id
    }

    /// Updates the unit's state. `except`: units whose processes do not count in a slice around them.
    pub(super) fn see(&mut self, state: UnitState, except: &[String]) {
        let is_down = state.is_down() && !state.is_to_start();
        self.state = state;
        self.left = match &self.group {
            Some(group) if is_down => remaining(group, except),
            _ => Vec::new(),
        };
        self.down = is_down.then(|| self.down.unwrap_or_else(Instant::now));
        if is_down {
            self.busy.clear();
        }
    }

    /// Whether nothing of it runs any more, processes included.
    pub(super) fn is_gone(&self) -> bool {
        self.down.is_some() && self.left.is_empty()
    }

    /// Its processes, whatever its state.
    fn processes(&self, except: &[String]) -> Vec<Process> {
        match &self.group {
            Some(group) if self.down.is_none() => remaining(group, except),
            _ => self.left.clone(),
        }
    }

    /// Its state, how long the step has waited for it, and its processes.
    pub(super) fn detail(&self, except: &[String]) -> String {
        let name = self.name();
        let UnitState { active, sub, .. } = &self.state;
        if let StopPhase::Refused(failure) = &self.phase {
            return failure.to_string();
        }
        let processes = list(&self.processes(except));
        if self.down.is_some() {
            let setting = self.member.unit.kill_setting();
            return format!("{name} is down, but {processes} run on ({setting})");
        }
        let since = self.since.map_or_else(String::new, |since| {
            format!(" for {}", elapsed::whole(since.elapsed()))
        });
        if !self.busy.is_empty() {
            let busy = self.busy.join(", ");
            return format!("{name} is busy{since}, kept by {busy}");
        }
        if self.state.is_down() {
            return format!(
                "{name} is down, but has a {} job in the queue",
                self.state.job
            );
        }
        format!("{name} is {active} ({sub}){since}, with {processes}")
    }
}

fn list(processes: &[Process]) -> String {
    let mut told: Vec<String> = (processes.iter().take(NAMED))
        .map(|process| format!("{} ({})", process.pid, process.command))
        .collect();
    if processes.len() > NAMED {
        told.push(format!("{} more", processes.len() - NAMED));
    }
    match told.as_slice() {
        [] => "no process".to_owned(),
        told => format!("processes {}", told.join(", ")),
    }
}
