//! Copying to a directory.

use super::source::{count, cut, failed, place};
use super::tally::{Done, Tally, files, size};
use crate::model::error::Failure;
use crate::model::event::Copied;
use crate::step::{Effect, Scope};
use crate::sys::copy::{self, Order, Told};

/// Copies what no earlier attempt has copied.
pub(super) fn copy(
    mut order: Order,
    done: &mut Done,
    scope: &Scope<'_>,
) -> Result<Effect, Failure> {
    order.done.clone_from(&done.versions);
    order.cut.clone_from(&done.cut);
    order.token = copy::token();
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
    let ended = copy::copy(&order, scope.deadline, scope.cancel, &mut hear);
    if ended.is_ok() {
        tally.ended();
    }
    let cut = ended.err().map(|trouble| cut(&order, scope, trouble));
    tally.end(cut)
}

/// Looks what would be copied, and whether the directory can be written.
pub(super) fn rehearse(order: Order, scope: &Scope<'_>) -> Result<String, Failure> {
    let (count, bytes) = count(&order, scope)?;
    Ok(format!(
        "{} now, {}; {} can be written",
        files(count),
        size(bytes),
        place(&order)
    ))
}
