//! `farewell start`: what is done when a machine has booted, or has come back.

use super::{facts, print, store, undo};
use crate::cli::Options;
use crate::steps::KINDS;
use crate::sys::host;
use crate::trigger::Trigger;

/// Undoes what earlier runs have left. That is in their records: the configuration does not matter.
pub fn start(options: &Options) -> u8 {
    let facts = facts(options, Trigger::Stop, "start");
    let outcome = undo::undo(&store(options), &host::machine(), facts, KINDS, undo::LIMIT);
    if outcome == undo::Outcome::Nothing {
        print("farewell start: nothing is to be undone\n");
    }
    outcome.code()
}
