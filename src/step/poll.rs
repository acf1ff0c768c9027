//! Polls a condition until it holds or the attempt's time is over.

use std::time::Duration;

use super::AttemptContext;
use crate::model::deadline::{Deadline, Reason};
use crate::model::error::{ErrorKind, Failure};
use crate::sys::cancel::Waited;

/// The result of one check of a condition.
pub enum Poll<T> {
    /// It holds.
    Ready(T),
    /// It does not hold: what to wait for, as a noun phrase, and the pause before the next check.
    Pending(String, Duration),
}

impl AttemptContext<'_> {
    /// Calls `check` until the condition holds, and reports meanwhile what it waits for.
    ///
    /// # Errors
    /// Those of `check`; `timed-out` for `subject`, with what it still waits for, at the attempt's deadline or if the
    /// run was told to stop.
    pub fn poll<T>(
        &self,
        subject: &dyn Fn() -> String,
        check: &mut dyn FnMut() -> Result<Poll<T>, Failure>,
    ) -> Result<T, Failure> {
        let mut last = None;
        loop {
            let (what, pause) = match check() {
                Ok(Poll::Ready(value)) => return Ok(value),
                Ok(Poll::Pending(what, pause)) => (what, pause),
                Err(failure) => return Err(self.waited(last.as_deref(), failure)),
            };
            self.events.waiting(&what);
            if !self.pause(pause) {
                return Err(late(subject(), &what));
            }
            last = Some(what);
        }
    }

    /// Pauses between two checks, no longer than the attempt lasts. Returns whether there is time for another check:
    /// the deadline is not reached, and the run was not told to stop.
    pub fn pause(&self, time: Duration) -> bool {
        let next = Deadline::after(time, Reason::Attempt).earlier(self.deadline);
        self.cancel.sleep_until(next) == Waited::Elapsed && self.deadline.left().is_some()
    }

    /// The failure of a check. At the deadline it reports what was waited for, rather than the timeout of the last
    /// request.
    fn waited(&self, what: Option<&str>, failure: Failure) -> Failure {
        match what {
            Some(what) if failure.kind == ErrorKind::TimedOut && self.deadline.left().is_none() => {
                let cause = format!("still waiting for {what}; last: {}", failure.cause);
                Failure { cause, ..failure }
            }
            _ => failure,
        }
    }
}

/// The failure of a condition that did not hold in time.
pub fn late(subject: String, what: &str) -> Failure {
    let cause = format!("still waiting for {what}");
    Failure::new(ErrorKind::TimedOut, subject, cause)
}
