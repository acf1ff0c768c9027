//! Copying to a directory.

use super::tally::{Done, Tally, failure, files, size};
use crate::event::Copied;
use crate::failure::{Failure, Word};
use crate::step::{Effect, Scope};
use crate::sys::copying::{self, Order, Told};
use crate::sys::guarded::Trouble;

/// Copies what no earlier attempt has copied.
pub(super) fn copy(
    mut order: Order,
    done: &mut Done,
    scope: &Scope<'_>,
) -> Result<Effect, Failure> {
    order.done.clone_from(&done.versions);
    order.cut.clone_from(&done.cut);
    order.token = copying::token();
    done.cut.push(order.token.clone());
    let mut tally = Tally::new(scope.voice, done);
    let mut hear = |told: Told| match told {
        Told::Skipped(why) => scope.voice.remark(&why),
        Told::Found { files, bytes } => tally.found(files, bytes),
        Told::Progress(bytes) => tally.progress(bytes),
        Told::Copied {
            name,
            bytes,
            sha256,
            version,
        } => {
            let copy = Copied {
                name,
                bytes,
                sha256,
            };
            tally.copied(copy, version);
        }
        told => tally.failed(failed(told)),
    };
    let ended = copying::copy(&order, scope.deadline, scope.cancel, &mut hear);
    if ended.is_ok() {
        tally.ended();
    }
    let cut = ended.err().map(|trouble| cut(&order, scope, trouble));
    tally.end(cut)
}

/// Looks what would be copied, and whether the directory can be written.
pub(super) fn rehearse(order: Order, scope: &Scope<'_>) -> Result<String, Failure> {
    let (mut found, mut bad) = (None, None);
    let mut hear = |told: Told| match told {
        Told::Skipped(why) => scope.voice.remark(&why),
        Told::Found { files, bytes } => found = Some((files, bytes)),
        Told::Progress(_) | Told::Copied { .. } => {}
        told => {
            bad.get_or_insert_with(|| failed(told));
        }
    };
    let ended = copying::copy(&order, scope.request(), scope.cancel, &mut hear);
    if let Err(trouble) = ended {
        return Err(cut(&order, scope, trouble));
    }
    if let Some(failure) = bad {
        return Err(failure);
    }
    let (count, bytes) = found.unwrap_or_default();
    Ok(format!(
        "{} now, {}; {} can be written",
        files(count),
        size(bytes),
        order.to.display()
    ))
}

fn failed(told: Told) -> Failure {
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

fn cut(order: &Order, scope: &Scope<'_>, trouble: Trouble) -> Failure {
    let to = order.to.display();
    let failed = |word, cause: String| Failure::new(word, to.to_string(), cause);
    match trouble {
        Trouble::TimedOut(reason) => {
            let cause = format!("the copy did not end within the {}", reason.noun());
            failed(Word::TimedOut, cause)
        }
        Trouble::Cancelled => failed(Word::TimedOut, "told to stop".to_owned()),
        Trouble::Io(error) => {
            let passing = scope.deadline.left().is_some();
            failed(Word::Io, format!("the copying process failed: {error}")).passing(passing)
        }
    }
}
