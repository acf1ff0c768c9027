//! When a run leaves itself out, and what comes of that.

use std::path::Path;

use log::Level;

use crate::app::complain;
use crate::app::run::trigger::{Cause, DetectedTrigger, Inquiry};
use crate::logging::Sink;
use crate::logging::message_id;
use crate::plan::settings::Restart;
use crate::sys::systemd;

/// Lets the unit stop without a farewell. Only root can make it, and it is gone with the boot.
const SKIP: &str = "/run/farewell/skip";

/// The occasion that a farewell is said on; `None` where there is none, which the journal then knows.
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
            "{SKIP} is there: this unit stops WITHOUT A FAREWELL (trigger {trigger}: {seen}); remove that file to have \
             one again"
        );
        tell(Level::Warn, &text);
        return None;
    }
    if detected.cause != Cause::Restart || restart == Restart::Run {
        return Some(detected);
    }
    let text = format!("a restart is no farewell (restart = \"skip\"): nothing is run ({seen})");
    tell(Level::Info, &text);
    // The last look, as late as can be: what comes after it finds the unit stopped.
    DetectedTrigger::shutdown_by_now(inquiry)
}
