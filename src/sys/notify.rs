//! Messages to the service manager, by the protocol of sd_notify(3).
//!
//! Written here instead of with the crate `sd-notify`: its extension of the timeout is a `u32` of microseconds, which ends at
//! 72 minutes, less than a budget may be, and its socket blocks for as long as the manager reads nothing.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The environment variable with the manager's socket: a path, or `@` and a name in the abstract namespace.
const SOCKET: &str = "NOTIFY_SOCKET";

/// How long to wait for a busy manager to accept a message.
const PATIENCE: Duration = Duration::from_millis(100);

/// Whether a service manager listens to this process.
pub fn is_heard() -> bool {
    std::env::var_os(SOCKET).is_some_and(|socket| !socket.is_empty())
}

/// Sets the unit's `status`, and extends its stop timeout from now on. Returns whether the manager accepted the
/// message; a run does not depend on it, since it ends by its own clock.
pub fn send(status: Option<&str>, extend: Option<Duration>) -> bool {
    let mut message = String::new();
    if let Some(time) = extend {
        message += &format!("EXTEND_TIMEOUT_USEC={}\n", time.as_micros());
    }
    if let Some(status) = status {
        message += &format!("STATUS={}\n", status.replace(['\n', '\r'], " "));
    }
    message.is_empty() || deliver(message.as_bytes()).is_ok()
}

fn deliver(message: &[u8]) -> io::Result<()> {
    let path = std::env::var_os(SOCKET).unwrap_or_default();
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&path)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.send_to_addr(message, &address).map(drop)
}
