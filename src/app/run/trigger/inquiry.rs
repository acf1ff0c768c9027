//! Asks PID 1 why this process runs, for as long as the budget allows: while PID 1 is silent it stops nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use log::Level;

use super::end;
use crate::logging::message_id;
use crate::model::deadline::{Deadline, Reason};
use crate::model::trigger::Trigger;
use crate::sys::dbus::BusError;
use crate::sys::systemd::{Job, Logind, Manager};
use crate::sys::threads::{self, WhenIdle};
use crate::sys::{notify, signals};
use crate::text::elapsed;

/// How long only PID 1 is asked.
const FIRST: Duration = Duration::from_millis(500);

/// The time limit of one request. It is answered as soon as PID 1 continues; a new one is only for a connection that
/// broke silently.
const QUESTION: Duration = Duration::from_secs(5);

/// The pause after a failed request.
const PAUSE: Duration = Duration::from_millis(100);

/// How often logind is asked: what it knows may change.
const LOGIND_EVERY: Duration = Duration::from_millis(500);

/// The time limit for logind to name a shutdown that PID 1 has begun.
const KIND_PATIENCE: Duration = Duration::from_secs(1);

/// How often the status in systemd is updated.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// How long PID 1 is asked at least, if half of the budget allows it.
const LEAST: Duration = Duration::from_secs(15);

/// How long PID 1 is asked where the smallest budget is `budget`: the larger of a quarter of it and 15 s, and never more
/// than half of it.
pub fn patience(budget: Duration) -> Duration {
    (budget / 4).max(LEAST).min(budget / 2)
}

/// What an inquiry needs.
pub struct Inquiry<'a> {
    /// The start of the budget.
    pub begun: Instant,
    /// Returns the smallest budget, and what a run may take beyond it. Called only if PID 1 is silent.
    pub budget: &'a dyn Fn() -> (Duration, Duration),
    /// Whether this process was told to stop.
    pub is_told_to_stop: &'a dyn Fn() -> bool,
}

/// The result of an inquiry.
pub(super) enum Answer {
    /// The jobs, and the state of the system.
    Queue(Vec<Job>, String),
    /// The kind of the shutdown that logind prepares.
    Kind(Trigger),
    /// No answer; what was asked, and for how long.
    Nothing(String),
}

impl Inquiry<'_> {
    pub(super) fn ask(&self) -> Answer {
        let first = Deadline::after(FIRST, Reason::Attempt);
        let error = match queue(Manager::connect, first) {
            Ok((jobs, state)) => return Answer::Queue(jobs, state),
            Err(error) => error,
        };
        let (budget, closing) = (self.budget)();
        let deadline = Deadline::at(self.begun + patience(budget), Reason::Attempt);
        let text = format!(
            "systemd (PID 1) does not say why this unit stops ({error}): asking it for up to {} more, and logind \
             beside it",
            elapsed::whole(deadline.left().unwrap_or_default())
        );
        message_id::TRIGGER.log(Level::Warn, &text, &[]);
        let over = Arc::new(AtomicBool::new(false));
        let end = Deadline::at(self.begun + budget + closing, Reason::Budget);
        start(tell_on(over.clone(), deadline, end));
        let answer = self.ask_on(deadline, &over);
        over.store(true, Ordering::Relaxed);
        answer
    }

    fn ask_on(&self, deadline: Deadline, over: &Arc<AtomicBool>) -> Answer {
        let (sender, answers) = mpsc::channel();
        if signals::is_root() {
            start(ask_pid_1(
                Manager::connect,
                deadline,
                sender.clone(),
                over.clone(),
            ));
        }
        let over_bus = Manager::connect_over_bus;
        start(ask_pid_1(over_bus, deadline, sender.clone(), over.clone()));
        start(ask_logind(deadline, sender, over.clone()));
        let mut logind = "logind does not answer".to_owned();
        loop {
            let is_told = (self.is_told_to_stop)();
            let Some(left) = deadline.left().filter(|_| !is_told) else {
                let asked = elapsed::short(self.begun.elapsed());
                let why = if is_told {
                    ", and was told to stop"
                } else {
                    ""
                };
                let seen = format!("systemd (PID 1) has not said why for {asked}{why}; {logind}");
                return Answer::Nothing(seen);
            };
            match answers.recv_timeout(left.min(PAUSE)) {
                Ok(Word::Queue(jobs, state)) => return Answer::Queue(jobs, state),
                Ok(Word::Logind(Ok(said))) => {
                    if let Some(trigger) = kind(&said) {
                        return Answer::Kind(trigger);
                    }
                    logind = match said.is_preparing {
                        true => "logind prepares for a shutdown of unknown kind",
                        false => "logind is not preparing for a shutdown",
                    }
                    .to_owned();
                }
                Ok(Word::Logind(Err(error))) => logind = format!("logind: {error}"),
                Err(RecvTimeoutError::Timeout) => {}
                // No thread was available.
                Err(RecvTimeoutError::Disconnected) => thread::sleep(PAUSE.min(left)),
            }
        }
    }

    /// The kind that logind has for a shutdown that PID 1 has begun with a target of its own.
    pub(super) fn kind_of_shutdown(&self) -> Option<Trigger> {
        let said = Logind::ask(Deadline::after(KIND_PATIENCE, Reason::Attempt)).ok()?;
        kind(&said)
    }
}

/// Messages of the asking threads.
enum Word {
    Queue(Vec<Job>, String),
    Logind(Result<Logind, BusError>),
}

fn kind(said: &Logind) -> Option<Trigger> {
    let trigger = Trigger::parse(said.kind.as_deref()?)?;
    (trigger != Trigger::Stop).then_some(trigger)
}

/// The jobs and the state of the system.
fn queue(
    connect: fn(Deadline) -> Result<Manager, BusError>,
    deadline: Deadline,
) -> Result<(Vec<Job>, String), BusError> {
    let manager = connect(deadline)?;
    let mut jobs = manager.jobs(deadline)?;
    let state = manager.state(deadline)?;
    // It may have begun between the two questions.
    if state == "stopping" && end(&jobs).is_none() {
        jobs = manager.jobs(deadline)?;
    }
    Ok((jobs, state))
}

/// Starts a detached thread. If none is available, the other threads still ask.
fn start(work: impl FnOnce() + Send + 'static) {
    let job = move || -> WhenIdle {
        work();
        Box::new(|| {})
    };
    if let Err(error) = threads::start(job) {
        log::warn!("no thread to find out why this unit stops: {error}");
    }
}

fn ask_pid_1(
    connect: fn(Deadline) -> Result<Manager, BusError>,
    deadline: Deadline,
    sender: Sender<Word>,
    over: Arc<AtomicBool>,
) -> impl FnOnce() + Send + 'static {
    move || {
        while deadline.left().is_some() && !over.load(Ordering::Relaxed) {
            let question = deadline.earlier(Deadline::after(QUESTION, Reason::Attempt));
            match queue(connect, question) {
                Ok((jobs, state)) => {
                    // Another thread may have got an answer.
                    let _ = sender.send(Word::Queue(jobs, state));
                    return;
                }
                Err(BusError::TimedOut) => {}
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }
}

fn ask_logind(
    deadline: Deadline,
    sender: Sender<Word>,
    over: Arc<AtomicBool>,
) -> impl FnOnce() + Send + 'static {
    move || {
        while deadline.left().is_some() && !over.load(Ordering::Relaxed) {
            let question = deadline.earlier(Deadline::after(QUESTION, Reason::Attempt));
            if sender.send(Word::Logind(Logind::ask(question))).is_err() {
                return;
            }
            thread::sleep(LOGIND_EVERY);
        }
    }
}

/// Tells systemd what this process waits for, and extends its timeout, for when it listens again. A systemd that does not
/// read delays this thread.
fn tell_on(
    over: Arc<AtomicBool>,
    deadline: Deadline,
    end: Deadline,
) -> impl FnOnce() + Send + 'static {
    move || {
        while !over.load(Ordering::Relaxed) && notify::is_heard() {
            let Some(left) = deadline.left() else { return };
            let status = format!(
                "waiting for systemd to say why this unit stops, {} left",
                elapsed::whole(left)
            );
            notify::send(Some(&status), end.left());
            thread::sleep(TELL_EVERY.min(left));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pid_1_has_a_quarter_of_the_budget_or_15_s_but_never_more_than_half() {
        let seconds = Duration::from_secs;
        for (budget, patient) in [
            (4, 2),
            (20, 10),
            (30, 15),
            (60, 15),
            (90, 22),
            (120, 30),
            (1500, 375),
        ] {
            assert_eq!(patience(seconds(budget)).as_secs(), patient, "{budget} s");
        }
    }

    #[test]
    fn logind_names_a_shutdown_and_nothing_else() {
        let kind = |word: &str| {
            let kind = Some(word.to_owned());
            super::kind(&Logind {
                is_preparing: true,
                kind,
            })
        };
        assert_eq!(kind("reboot"), Some(Trigger::Reboot));
        assert_eq!(kind("soft-reboot"), Some(Trigger::SoftReboot));
        assert_eq!(kind("stop"), None);
        assert_eq!(kind("dry-reboot"), None);
    }
}
