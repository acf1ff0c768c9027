//! What the process that looks for files tells.

use super::tally::failure;
use crate::failure::{Failure, Word};
use crate::step::Scope;
use crate::sys::copying::{self, Listed, Order, Told};
use crate::sys::guarded::Trouble;

/// What was found, and what could not be looked at.
pub(super) struct Found {
    pub(super) files: Vec<Listed>,
    pub(super) failures: Vec<Failure>,
}

/// Lists what no earlier attempt has copied.
pub(super) fn list(order: &Order, scope: &Scope<'_>) -> Result<Found, Failure> {
    let (mut files, mut failures) = (Vec::new(), Vec::new());
    let mut hear = |told: Told| match told {
        Told::Skipped(why) => scope.voice.remark(&why),
        Told::Found { .. } | Told::Progress(_) | Told::Copied { .. } => {}
        Told::Listed(file) => files.push(file),
        told => failures.push(failed(told)),
    };
    copying::copy(order, scope.deadline, scope.cancel, &mut hear)
        .map_err(|trouble| cut(order, scope, trouble))?;
    Ok(Found { files, failures })
}

/// Counts what would be copied, with its bytes.
pub(super) fn count(order: &Order, scope: &Scope<'_>) -> Result<(usize, u64), Failure> {
    let (mut found, mut bad) = ((0, 0), None);
    let mut hear = |told: Told| match told {
        Told::Skipped(why) => scope.voice.remark(&why),
        Told::Found { files, bytes } => found = (files, bytes),
        Told::Listed(_) | Told::Progress(_) | Told::Copied { .. } => {}
        told => {
            bad.get_or_insert_with(|| failed(told));
        }
    };
    copying::copy(order, scope.request(), scope.cancel, &mut hear)
        .map_err(|trouble| cut(order, scope, trouble))?;
    match bad {
        Some(failure) => Err(failure),
        None => Ok(found),
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
