//! Waiting until nothing is in flight any more, whatever the balancer.

use std::time::Duration;

use crate::model::deadline::{Deadline, Reason};
use crate::model::error::{ErrorKind, Failure};
use crate::step::AttemptContext;
use crate::sys::cancel::Waited;

/// Between two looks.
const EVERY: Duration = Duration::from_millis(200);

/// Looks again and again, until `look` sees nothing in flight (`None`). What it sees is told as what the step waits for: how
/// much, and where. A balancer that does not answer for a time is looked at again.
///
/// # Errors
/// What does not pass by itself, at once; at the deadline what was left then.
pub(super) fn until_quiet(
    context: &AttemptContext<'_>,
    look: &mut dyn FnMut() -> Result<Option<String>, Failure>,
) -> Result<(), Failure> {
    let mut seen: Option<String> = None;
    loop {
        let error = match look() {
            Ok(None) => return Ok(()),
            Ok(Some(subject)) => {
                context.events.waiting(&subject);
                seen = Some(subject);
                None
            }
            Err(mut failure) if failure.retryable => {
                if let Some(seen) = &seen {
                    failure.cause = format!("{}; seen last: {seen}", failure.cause);
                }
                context.events.waiting(&failure.to_string());
                Some(failure)
            }
            Err(failure) => return Err(failure),
        };
        if let Some(over) = pause(context, EVERY) {
            let left = || Failure::new(ErrorKind::TimedOut, seen.unwrap_or_default(), over);
            return Err(error.unwrap_or_else(left));
        }
    }
}

/// Waits for this long, whatever is in flight; `subject` is what it is for.
///
/// # Errors
/// That there is less time than that.
pub(super) fn settle(
    context: &AttemptContext<'_>,
    subject: &str,
    time: Duration,
) -> Result<(), Failure> {
    context.events.waiting(subject);
    match context.deadline.left() {
        Some(left) if left > time => match pause(context, time) {
            None => Ok(()),
            Some(over) => Err(Failure::new(ErrorKind::TimedOut, subject, over)),
        },
        _ => {
            // As long as there is time for: some of them have looked by then.
            let _ = pause(context, context.deadline.left().unwrap_or_default());
            let cause = "less time is left than that takes";
            Err(Failure::new(ErrorKind::TimedOut, subject, cause))
        }
    }
}

/// Waits for a while. Why there is no time left, where there is none.
pub(super) fn pause(context: &AttemptContext<'_>, time: Duration) -> Option<String> {
    let next = Deadline::after(time, Reason::Attempt);
    match context.cancel.sleep_until(context.deadline.earlier(next)) {
        Waited::Elapsed if context.deadline.left().is_some() => None,
        Waited::Elapsed => {
            let limit = context.deadline.reason().describe();
            Some(format!("still there when the {limit} was over"))
        }
        Waited::Cancelled => Some("told to stop".to_owned()),
    }
}

/// The failures of several balancers as one. It passes where one of them does.
pub(super) fn together(failures: Vec<Failure>) -> Option<Failure> {
    failures.into_iter().reduce(|all, failure| Failure {
        cause: format!("{}; {failure}", all.cause),
        retryable: all.retryable || failure.retryable,
        ..all
    })
}
