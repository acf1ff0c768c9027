//! A run as D-Bus tells it, made from its progress; and the events that two of these are apart.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::history::line::usec;
use crate::printable::plain;
use crate::progress::{Progress, StepProgress};
use crate::sys::bus::agent::{Snapshot, Span, Step};

/// A run that began at `begun`, as D-Bus tells it.
pub fn of(progress: &Progress, begun: Instant) -> Snapshot {
    let budget = progress.started.checked_add(progress.budget);
    Snapshot {
        run: progress.run.clone(),
        trigger: progress.trigger.to_string(),
        result: progress.result.map(|result| result.as_str().to_owned()),
        started_usec: since_epoch(progress.started),
        deadline_usec: budget.map_or(u64::MAX, since_epoch),
        steps: (progress.steps.iter())
            .map(|step| of_step(step, begun))
            .collect(),
    }
}

/// A step of a run that began at `begun`, as D-Bus tells it.
pub fn of_step(step: &StepProgress, begun: Instant) -> Step {
    let span = match (step.started, step.took) {
        (Some(started), None) => Span::Since(begun + started),
        (_, took) => Span::Over(took.unwrap_or_default()),
    };
    let message = match (&step.waiting, &step.failure, &step.reason) {
        (Some(what), _, _) => what.clone(),
        (None, Some(failure), _) => format!("{}: {failure}", failure.word),
        (None, None, reason) => reason.clone().unwrap_or_default(),
    };
    Step {
        name: step.name.clone(),
        kind: step.kind.clone(),
        state: step.state,
        // A string on D-Bus must not hold a NUL, and one on a terminal should not hold much else.
        message: plain(&message).into_owned(),
        attempt: step.attempts,
        span,
    }
}

fn since_epoch(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, usec)
}
