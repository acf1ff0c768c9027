//! Decides whether a run is skipped.

use std::path::Path;

use log::Level;

use crate::app::complain;
use crate::app::run::trigger::{Cause, DetectedTrigger, Inquiry};
use crate::logging::Sink;
use crate::logging::message_id;
use crate::plan::settings::Restart;
use crate::sys::systemd;

/// This file lets the unit stop without a farewell. Only root can create it, and it is gone after a reboot.
const SKIP: &str = "/run/farewell/skip";

/// The trigger of the run; `None` if it is skipped, which is logged.
pub fn unless_skipped(
    detected: DetectedTrigger,
    restart: Restart,
    inquiry: &Inquiry<'_>,
    sink: Sink,
) -> Option<DetectedTrigger> {
    let trigger = detected.cause.as_str();
    let tell = |level, text: &str| {
        match sink {
            Sink::Journal => {
                message_id::RUN_SKIPPED.log(level, text, &[("FAREWELL_TRIGGER", trigger)]);
            }
            Sink::Lines => complain(&format!("farewell run: {text}")),
        };
    };
    let seen = &detected.seen;
    if systemd::is_command_of_unit() && Path::new(SKIP).exists() {
        let text = format!(
            "{SKIP} exists: this unit stops WITHOUT A FAREWELL (trigger {trigger}: {seen}); remove that file to have \
             one again"
        );
        tell(Level::Warn, &text);
        return None;
    }
    if detected.cause != Cause::Restart || restart == Restart::Run {
        return Some(detected);
    }
    let text = format!("a restart runs no farewell (restart = \"skip\"; {seen})");
    tell(Level::Info, &text);
    // Checked as late as possible: a shutdown that begins later finds the unit stopped.
    DetectedTrigger::shutdown_by_now(inquiry)
}
