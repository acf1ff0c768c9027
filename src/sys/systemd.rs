//! What systemd knows of its units.

use std::path::Path;
use std::time::Duration;

use super::cancel::Cancel;
use super::process::{End, Process, Refusal};
use crate::deadline::Deadline;
use crate::event::Stream;

/// A unit's state, in systemd's words (`LoadState` and `ActiveState` of org.freedesktop.systemd1(5)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitState {
    /// loaded, not-found, masked …
    pub load: String,
    /// active, inactive, deactivating …
    pub active: String,
}

/// Whether systemd is this machine's init; see sd_booted(3).
pub fn is_booted() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Asks systemctl, which goes to PID 1's own socket when the bus is gone.
///
/// # Errors
/// Why there is no answer.
pub fn unit_state(unit: &str, deadline: Deadline, cancel: &Cancel) -> Result<UnitState, String> {
    let argv = [
        "systemctl",
        "show",
        "--property=LoadState,ActiveState",
        "--",
        unit,
    ];
    let process = Process {
        argv: argv.map(str::to_owned).to_vec(),
        user: None,
        working_directory: None,
        environment: Vec::new(),
        grace: Duration::ZERO,
    };
    let (mut state, mut complaint) = (UnitState::default(), String::new());
    let outcome = process.run(deadline, cancel, &mut |stream, line| match (
        stream,
        line.split_once('='),
    ) {
        (Stream::Out, Some(("LoadState", load))) => state.load = load.to_owned(),
        (Stream::Out, Some(("ActiveState", active))) => state.active = active.to_owned(),
        (Stream::Out, _) => {}
        (Stream::Err, _) => complaint = line.to_owned(),
    });
    match outcome.map(|outcome| outcome.end) {
        Ok(End::Exited(0)) if !state.active.is_empty() => Ok(state),
        Ok(End::TimedOut(_) | End::Cancelled) => Err("systemctl does not answer".to_owned()),
        Ok(_) => Err(format!("systemctl failed: {complaint}")),
        Err(Refusal::Io(error)) => Err(format!("systemctl cannot be started: {error}")),
        Err(Refusal::UnknownUser(user)) => Err(format!("no user {user}")),
    }
}
