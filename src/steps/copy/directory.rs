//! Copying to a directory.

use super::file_search::{count, cut, destination, failed};
use super::progress::{CopyProgress, Done, files, size};
use crate::model::error::Failure;
use crate::model::event::Copied;
use crate::step::{AttemptContext, Outcome};
use crate::sys::copy::{self, Order, Report};

/// Copies what no earlier attempt has copied.
pub(super) fn copy(
    mut order: Order,
    done: &mut Done,
    context: &AttemptContext<'_>,
) -> Result<Outcome, Failure> {
    order.done.clone_from(&done.versions);
    order.cut.clone_from(&done.cut);
    order.token = copy::token();
    done.cut.push(order.token.clone());
    let mut progress = CopyProgress::new(context.events, done);
    let mut hear = |told: Report| match told {
        Report::Skipped(why) => context.events.remark(&why),
        Report::Found { files, bytes } => progress.found(files, bytes),
        Report::Progress(bytes) => progress.advance(bytes),
        Report::Copied {
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
            progress.copied(copy, version);
        }
        told => progress.failed(failed(told)),
    };
    let ended = copy::copy(&order, context.deadline, context.cancel, &mut hear);
    if ended.is_ok() {
        progress.ended();
    }
    let cut = ended.err().map(|error| cut(&order, context, error));
    progress.end(cut)
}

/// Checks what would be copied, and whether the directory is writable.
pub(super) fn rehearse(order: Order, context: &AttemptContext<'_>) -> Result<String, Failure> {
    let (count, bytes) = count(&order, context)?;
    Ok(format!(
        "{} now, {}; {} can be written",
        files(count),
        size(bytes),
        destination(&order)
    ))
}
