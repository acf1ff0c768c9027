//! The service manager's ear.

use std::time::Duration;

use sd_notify::NotifyState;

/// Whether a service manager listens to this process.
pub fn is_heard() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some_and(|socket| !socket.is_empty())
}

/// Shows `status` beside the unit, and asks for more time before the unit's stop counts as timed out, from now on.
///
/// A manager that is gone is no matter: the run ends by its own clock. One that does not listen blocks; call it from a
/// thread that nobody waits for.
pub fn tell(status: Option<&str>, extend: Option<Duration>) {
    let status = status.map(|it| it.replace(['\n', '\r'], " "));
    let mut states = Vec::with_capacity(2);
    if let Some(time) = extend {
        // The crate's type ends at 71 minutes; whoever needs more asks again long before.
        let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        states.push(NotifyState::ExtendTimeoutUsec(micros));
    }
    if let Some(status) = &status {
        states.push(NotifyState::Status(status));
    }
    if !states.is_empty() {
        let _ = sd_notify::notify(&states);
    }
}
