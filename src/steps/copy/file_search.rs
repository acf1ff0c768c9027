//! Reads the reports of the process that searches for files.

use super::progress::failure;
use crate::model::deadline::Deadline;
use crate::model::error::{ErrorKind, Failure};
use crate::step::AttemptContext;
use crate::sys::copy::{self, Listed, Order, Report};
use crate::sys::probe::ProbeError;

/// What was found, and what could not be read.
#[derive(Default)]
pub(super) struct Found {
    /// How many files there are, and their bytes.
    pub(super) count: usize,
    pub(super) bytes: u64,
    pub(super) files: Vec<Listed>,
    pub(super) failures: Vec<Failure>,
}

/// Finds what no earlier attempt has copied, and lists it unless the order is a rehearsal's.
pub(super) fn find(
    order: &Order,
    deadline: Deadline,
    context: &AttemptContext<'_>,
) -> Result<Found, Failure> {
    let mut found = Found::default();
    let mut hear = |told: Report| match told {
        Report::Skipped(why) => context.events.remark(&why),
        Report::Found { files, bytes } => (found.count, found.bytes) = (files, bytes),
        Report::Listed(file) => found.files.push(file),
        Report::Progress(_) | Report::Copied { .. } => {}
        told => found.failures.push(failed(told)),
    };
    copy::copy(order, deadline, context.cancel, &mut hear)
        .map_err(|error| cut(order, context, error))?;
    Ok(found)
}

/// Counts what would be copied, with its bytes.
pub(super) fn count(order: &Order, context: &AttemptContext<'_>) -> Result<(usize, u64), Failure> {
    let found = find(order, context.request(), context)?;
    match found.failures.into_iter().next() {
        Some(failure) => Err(failure),
        None => Ok((found.count, found.bytes)),
    }
}

pub(super) fn failed(told: Report) -> Failure {
    match told {
        Report::Collision { name, paths } => {
            let [one, other] = paths;
            let cause = format!("{one} and {other} would both be copied to it; nothing was copied");
            Failure::new(ErrorKind::Config, name, cause)
        }
        Report::Failed {
            path,
            cause,
            retryable,
        } => failure(&path, &cause, retryable),
        _ => failure("", "reported something unknown", false),
    }
}

/// The target, in words.
pub(super) fn destination(order: &Order) -> String {
    match &order.to {
        Some(to) => to.display().to_string(),
        None => "the files".to_owned(),
    }
}

/// Why the process did not finish.
pub(super) fn cut(order: &Order, context: &AttemptContext<'_>, error: ProbeError) -> Failure {
    let failed = |word, cause: String| Failure::new(word, destination(order), cause);
    match error {
        ProbeError::TimedOut(reason) => {
            let cause = match order.to {
                Some(_) => format!("the copy did not end within the {}", reason.describe()),
                None => format!("were not found within the {}", reason.describe()),
            };
            failed(ErrorKind::TimedOut, cause)
        }
        ProbeError::Cancelled => failed(ErrorKind::TimedOut, "told to stop".to_owned()),
        ProbeError::Io(error) => {
            let retryable = context.deadline.left().is_some();
            failed(
                ErrorKind::Io,
                format!("the copying process failed: {error}"),
            )
            .retryable(retryable)
        }
    }
}
