//! Waiting until nothing is in flight, for every balancer.

use std::time::Duration;

use crate::model::error::{ErrorKind, Failure};
use crate::step::AttemptContext;

/// The interval between two checks.
const EVERY: Duration = Duration::from_millis(200);

/// Checks until `look` finds nothing in flight (`None`). What it finds is reported as what the step waits for: how much, and
/// where. A balancer that does not answer for a time is asked again.
///
/// # Errors
/// Permanent failures at once; what is left at the deadline.
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

/// As [`until_quiet`], in several balancers at once. One that refuses does not hold up the others: it is left out from then
/// on, and reported when they are quiet.
///
/// # Errors
/// As [`until_quiet`], and what was refused.
pub(super) fn until_all_quiet<T>(
    context: &AttemptContext<'_>,
    targets: &mut Vec<T>,
    advance: &dyn Fn(&mut T) -> Result<Option<String>, Failure>,
) -> Result<(), Failure> {
    let mut refusals = Vec::new();
    until_quiet(context, &mut || {
        let (mut subjects, mut failures) = (Vec::new(), Vec::new());
        targets.retain_mut(|target| match advance(target) {
            Ok(None) => true,
            Ok(Some(subject)) => {
                subjects.push(subject);
                true
            }
            Err(failure) if failure.retryable => {
                failures.push(failure);
                true
            }
            Err(failure) => {
                context.events.note(&failure.to_string());
                refusals.push(failure);
                false
            }
        });
        match together(failures) {
            Some(failure) if subjects.is_empty() => return Err(failure),
            error => subjects.extend(error.map(|it| it.to_string())),
        }
        Ok((!subjects.is_empty()).then(|| subjects.join(", ")))
    })?;
    match together(refusals) {
        Some(refusal) => Err(refusal.retryable(false)),
        None => Ok(()),
    }
}

/// Joins what a rehearsal says of several balancers.
///
/// # Errors
/// The failures of all of them, if there are any.
pub(super) fn rehearse_all(
    answers: impl Iterator<Item = Result<String, Failure>>,
) -> Result<String, Failure> {
    let (mut said, mut failures) = (Vec::new(), Vec::new());
    for answer in answers {
        match answer {
            Ok(sentence) => said.push(sentence),
            Err(failure) => failures.push(failure),
        }
    }
    match together(failures) {
        Some(failure) => Err(failure),
        None => Ok(said.join(", ")),
    }
}

/// Waits for a fixed time; `subject` says what for.
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

/// Pauses as [`AttemptContext::pause`] does. Returns why there is no time left, if there is none.
pub(super) fn pause(context: &AttemptContext<'_>, time: Duration) -> Option<String> {
    if context.pause(time) {
        return None;
    }
    Some(match context.cancel.is_cancelled() {
        true => "told to stop".to_owned(),
        false => {
            let limit = context.deadline.reason().describe();
            format!("still there when the {limit} was over")
        }
    })
}

/// Merges the failures of several balancers. The result is retryable if one of them is.
fn together(failures: Vec<Failure>) -> Option<Failure> {
    failures.into_iter().reduce(|all, failure| Failure {
        cause: format!("{}; {failure}", all.cause),
        retryable: all.retryable || failure.retryable,
        ..all
    })
}
