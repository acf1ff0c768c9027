//! Copying to a directory.

use super::source::{count, cut, failed, place};
use super::tally::{Done, Tally, files, size};
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
    let mut tally = Tally::new(context.events, done);
    let mut hear = |told: Report| match told {
        Report::Skipped(why) => context.events.remark(&why),
        Report::Found { files, bytes } => tally.found(files, bytes),
        Report::Progress(bytes) => tally.progress(bytes),
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
            tally.copied(copy, version);
        }
        told => tally.failed(failed(told)),
    };
    let ended = copy::copy(&order, context.deadline, context.cancel, &mut hear);
    if ended.is_ok() {
        tally.ended();
    }
    let cut = ended.err().map(|error| cut(&order, context, error));
    tally.end(cut)
}

/// Looks what would be copied, and whether the directory can be written.
pub(super) fn rehearse(order: Order, context: &AttemptContext<'_>) -> Result<String, Failure> {
    let (count, bytes) = count(&order, context)?;
    Ok(format!(
        "{} now, {}; {} can be written",
        files(count),
        size(bytes),
        place(&order)
    ))
}
