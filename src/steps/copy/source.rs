//! What the process that looks for files tells.

use super::tally::failure;
use crate::model::deadline::Deadline;
use crate::model::error::{Failure, Word};
use crate::step::Scope;
use crate::sys::copy::{self, Listed, Order, Told};
use crate::sys::probe::Trouble;

/// What was found, and what could not be looked at.
#[derive(Default)]
pub(super) struct Found {
    /// How many files there are, and their bytes.
    pub(super) count: usize,
    pub(super) bytes: u64,
    pub(super) files: Vec<Listed>,
    pub(super) failures: Vec<Failure>,
}

/// Looks for what no earlier attempt has copied, and lists it unless the order is a rehearsal's.
pub(super) fn find(order: &Order, deadline: Deadline, scope: &Scope<'_>) -> Result<Found, Failure> {
    let mut found = Found::default();
    let mut hear = |told: Told| match told {
        Told::Skipped(why) => scope.voice.remark(&why),
        Told::Found { files, bytes } => (found.count, found.bytes) = (files, bytes),
        Told::Listed(file) => found.files.push(file),
        Told::Progress(_) | Told::Copied { .. } => {}
        told => found.failures.push(failed(told)),
    };
    copy::copy(order, deadline, scope.cancel, &mut hear)
        .map_err(|trouble| cut(order, scope, trouble))?;
    Ok(found)
}

/// Counts what would be copied, with its bytes.
pub(super) fn count(order: &Order, scope: &Scope<'_>) -> Result<(usize, u64), Failure> {
    let found = find(order, scope.request(), scope)?;
    match found.failures.into_iter().next() {
        Some(failure) => Err(failure),
        None => Ok((found.count, found.bytes)),
    }
}

pub(super) fn failed(told: Told) -> Failure {
    match told {
        Told::Collision { name, paths } => {
            let [one, other] = paths;
            let cause = format!("{one} and {other} would both be copied to it; nothing was copied");
            Failure::new(Word::Config, name, cause)
        }
        Told::Failed {
            path,
            cause,
            passing,
        } => failure(&path, &cause, passing),
        _ => failure("", "told something unknown", false),
    }
}

/// The target, in words.
pub(super) fn place(order: &Order) -> String {
    match &order.to {
        Some(to) => to.display().to_string(),
        None => "the files".to_owned(),
    }
}

/// Why the process did not come to its end.
pub(super) fn cut(order: &Order, scope: &Scope<'_>, trouble: Trouble) -> Failure {
    let failed = |word, cause: String| Failure::new(word, place(order), cause);
    match trouble {
        Trouble::TimedOut(reason) => {
            let cause = match order.to {
                Some(_) => format!("the copy did not end within the {}", reason.noun()),
                None => format!("were not found within the {}", reason.noun()),
            };
            failed(Word::TimedOut, cause)
        }
        Trouble::Cancelled => failed(Word::TimedOut, "told to stop".to_owned()),
        Trouble::Io(error) => {
            let passing = scope.deadline.left().is_some();
            failed(Word::Io, format!("the copying process failed: {error}")).passing(passing)
        }
    }
}
