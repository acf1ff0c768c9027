//! The timer that retries a pending undo; see units/farewell-undo.timer.

use std::time::Duration;

use super::UndoOutcome;
use crate::app::cli::Options;
use crate::app::{complain, print};
use crate::model::deadline::{Deadline, Reason};
use crate::sys::dbus::BusError;
use crate::sys::signals;
use crate::sys::systemd::{self, Manager, START_UNIT, UNDO_TIMER};

/// The time limit for an answer of PID 1.
const ANSWER: Duration = Duration::from_secs(30);

/// Whether the records are the installed ones, which the timer uses.
fn is_installed(options: &Options) -> bool {
    systemd::is_booted()
        && signals::is_root()
        && options.state.is_none()
        && options.config.is_none()
}

/// Starts the timer, unless it is active already: systemd then retries each minute.
pub fn begin(options: &Options) {
    if !is_installed(options) {
        return;
    }
    if let Err(error) = tell(|manager, deadline| manager.start(UNDO_TIMER, deadline)) {
        complain(&format!(
            "farewell start: {UNDO_TIMER} cannot be started ({error}): a pending undo is retried only by \
             another `farewell start`"
        ));
    }
}

/// Stops the timer. If farewell-start.service failed only because of a pending undo, it is started once more.
pub fn end(options: &Options, outcome: UndoOutcome) {
    if !is_installed(options) {
        return;
    }
    let ended = tell(|manager, deadline| {
        let timer = manager.unit(UNDO_TIMER, deadline)?;
        if !timer.is_down() {
            manager.stop(UNDO_TIMER, deadline)?;
        }
        if outcome == UndoOutcome::Undone && manager.unit(START_UNIT, deadline)?.active == "failed"
        {
            print(&format!(
                "farewell start: starting {START_UNIT} again, which had failed\n"
            ));
            manager.start(START_UNIT, deadline)?;
        }
        Ok(())
    });
    if let Err(error) = ended {
        complain(&format!(
            "farewell start: {UNDO_TIMER} cannot be stopped: {error}"
        ));
    }
}

fn tell(what: impl FnOnce(&Manager, Deadline) -> Result<(), BusError>) -> Result<(), BusError> {
    let deadline = Deadline::after(ANSWER, Reason::Attempt);
    what(&Manager::connect(deadline)?, deadline)
}
