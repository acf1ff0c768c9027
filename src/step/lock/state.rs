//! The state of a lock, shared by the thread that takes it and the one that releases it.

use std::sync::MutexGuard;
use std::time::Duration;

use crate::config::section::Section;
use crate::config::template::Fact;
use crate::model::deadline::Deadline;
use crate::model::error::{ErrorKind, Failure};
use crate::model::intent::{Chain, Datum, Intent, IntentId};
use crate::step::{AttemptContext, Outcome, Undo};
use crate::sys::sync::{Condvar, Mutex};
use crate::text::duration::print;

/// What is held or requested. The thread that takes a lock may be abandoned in the middle of a request; a release
/// closes the state first, and nothing new is requested from then on.
pub struct LockState<T> {
    inner: Mutex<Inner<T>>,
    idle: Condvar,
}

struct Inner<T> {
    value: T,
    is_busy: bool,
    is_closed: bool,
}

impl<T: Clone + Default> Default for LockState<T> {
    fn default() -> Self {
        LockState {
            inner: Mutex::new(Inner {
                value: T::default(),
                is_busy: false,
                is_closed: false,
            }),
            idle: Condvar::default(),
        }
    }
}

impl<T: Clone + Default> LockState<T> {
    /// The current value.
    pub fn value(&self) -> T {
        self.inner.lock().value.clone()
    }

    /// Changes the value.
    pub fn change(&self, change: impl FnOnce(&mut T)) {
        change(&mut self.inner.lock().value);
    }

    /// Records what is about to be requested. Fails if the state is closed: then it must not be requested.
    pub fn ask(&self, change: impl FnOnce(&mut T)) -> Result<(), Failure> {
        self.open(change).map(drop)
    }

    fn open(&self, change: impl FnOnce(&mut T)) -> Result<MutexGuard<'_, Inner<T>>, Failure> {
        let mut inner = self.inner.lock();
        if inner.is_closed {
            let cause = "not requested, because the lock is being released";
            return Err(Failure::new(ErrorKind::TimedOut, "the lock", cause).retryable(false));
        }
        change(&mut inner.value);
        Ok(inner)
    }

    /// As [`LockState::ask`], for a request that must end before the lock can be released: drop the result when it has.
    pub fn turn(&self, change: impl FnOnce(&mut T)) -> Result<Turn<'_, T>, Failure> {
        self.open(change)?.is_busy = true;
        Ok(Turn(self))
    }

    /// Closes it, and waits until a request in progress has ended, for at most `patience`. Returns whether it has.
    pub fn close(&self, patience: Duration) -> bool {
        let mut inner = self.inner.lock();
        inner.is_closed = true;
        !self.idle.wait_while(inner, patience, |it| it.is_busy).1
    }
}

/// A request in progress.
pub struct Turn<'a, T: Clone + Default>(&'a LockState<T>);

impl<T: Clone + Default> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        self.0.inner.lock().is_busy = false;
        self.0.idle.notify_all();
    }
}

/// A place in the queue.
#[derive(Clone)]
pub struct Place {
    /// The lock's name.
    pub lock: String,
    /// Its key in the queue.
    pub key: String,
    /// The value of its key: who this is.
    pub holder: String,
    /// Its grants, oldest first.
    pub grants: Vec<String>,
    pub(super) intent: IntentId,
    /// Whether it has the lock.
    pub is_held: bool,
    /// Whether its removal was requested and the answer is missing.
    pub(super) is_left: bool,
}

impl Place {
    /// The last grant.
    pub fn grant(&self) -> &str {
        self.grants.last().map_or("", String::as_str)
    }
}

/// The times of a lock that expires by itself, in whole seconds. Its keys:
///
/// - `ttl` (duration; default "30s"): whole seconds, at least 2s: how long a dead holder blocks the others
/// - `hold` (duration; default "10m"): whole seconds: how long it stays held while this machine reboots
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// The time from the last renewal to expiry.
    pub ttl: Duration,
    /// The time from the end of the run to expiry, should the machine not come back.
    pub hold: Duration,
}

/// How often a lock is renewed within its `ttl`.
const RENEWALS: u32 = 4;

impl Times {
    /// Reads them; a time shorter than `least` is a problem, with `subject` as its message.
    pub fn read(section: &Section<'_>, least: Duration, subject: &str) -> Option<Times> {
        let read = |key: &'static str, default: Duration| {
            if !section.has(key) {
                section.know(key);
                return Some(default);
            }
            let time = section.duration(key)?;
            if time < least || time.subsec_nanos() > 0 {
                section.problem(key, subject);
                return None;
            }
            Some(time)
        };
        let ttl = read("ttl", Duration::from_secs(30));
        let hold = read("hold", Duration::from_secs(10 * 60));
        Some(Times {
            ttl: ttl?,
            hold: hold?,
        })
    }

    /// How often it is renewed.
    pub fn renewal(self) -> Duration {
        self.ttl / RENEWALS
    }
}

/// This machine's name for others that wait for the same lock: `web-1 (run 20261125T190000-abcd)`.
pub fn holder(context: &AttemptContext<'_>) -> Result<String, Failure> {
    let facts = context.facts;
    match facts.value(&Fact::Hostname) {
        Ok(name) => Ok(format!("{name} (run {})", facts.run())),
        Err(cause) => Err(Failure::new(
            ErrorKind::Config,
            "the name of this machine",
            cause,
        )),
    }
}

/// Until when to wait for a lock: a little time is reserved for leaving the queue.
pub fn last_call(context: &AttemptContext<'_>) -> Deadline {
    let left = context.deadline.left().unwrap_or_default();
    let kept = (left / 10).min(Duration::from_secs(1));
    Deadline::after(left.saturating_sub(kept), context.deadline.reason())
}

/// Reports that a lock is kept at the end of the run; `limit`: when it expires by itself.
pub fn remark_kept(context: &AttemptContext<'_>, limit: Option<Duration>) {
    let limit = limit.map_or(String::new(), |it| format!(", for {} at most", print(it)));
    let remark = format!("kept while this machine comes back{limit}: `farewell start` releases it");
    context.events.remark(&remark);
}

/// Pending intents of earlier runs of this machine for a lock, whose name is at `key`; oldest first.
pub fn left_before(
    context: &AttemptContext<'_>,
    member: &str,
    key: &str,
    lock: &str,
) -> Vec<Intent> {
    let is_same = |it: &Intent| {
        let name = it.what.get(key).and_then(Datum::text);
        it.member == member && name.as_deref() == Some(lock)
    };
    let mut left = context.left_before();
    left.retain(is_same);
    left
}

/// Releases what earlier runs have left, in a run that has requested nothing itself and after which the machine is
/// gone.
///
/// # Errors
/// The first failure; the others are released all the same.
pub fn give_up(
    context: &AttemptContext<'_>,
    left: Vec<Intent>,
    undo: Undo,
) -> Result<Outcome, Failure> {
    let mut outcome = Ok(Outcome::AlreadyDone);
    for intent in left {
        let subject = intent.subject.clone();
        let given_up = undo(&Chain::new(intent))
            .map_err(|cause| Failure::new(ErrorKind::Config, subject, cause))
            .and_then(|it| it.attempt(context));
        outcome = match (outcome, given_up) {
            (Err(failure), _) | (_, Err(failure)) => Err(failure),
            (Ok(Outcome::AlreadyDone), Ok(outcome)) => Ok(outcome),
            (done, Ok(_)) => done,
        };
    }
    outcome
}

/// The failure of a lock that was not acquired in time.
pub fn not_acquired(context: &AttemptContext<'_>, subject: &str, held: &str) -> Failure {
    let cause = if context.cancel.is_cancelled() {
        format!("not acquired, because the run was told to stop; {held}")
    } else {
        let subject = context.deadline.reason().describe();
        format!("not acquired before the end of the {subject}; {held}")
    };
    Failure::new(ErrorKind::TimedOut, subject, cause).retryable(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_asked_for_once_it_is_closed() {
        let state = LockState::<u32>::default();
        assert!(state.ask(|it| *it = 1).is_ok());
        assert!(state.close(Duration::ZERO));
        let failure = state.ask(|it| *it = 2).expect_err("closed");
        assert!(!failure.retryable && state.turn(|it| *it = 2).is_err());
        state.change(|it| *it += 2);
        assert_eq!(state.value(), 3);
    }

    #[test]
    fn a_request_under_way_is_waited_for_but_not_for_ever() {
        let state = LockState::<u32>::default();
        let turn = state.turn(|it| *it = 1).expect("open");
        assert!(!state.close(Duration::from_millis(20)));
        std::thread::scope(|threads| {
            let closing = threads.spawn(|| state.close(Duration::from_secs(60)));
            drop(turn);
            assert!(closing.join().expect("no panic"));
        });
    }
}
