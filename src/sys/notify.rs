//! Messages to the service manager, by the protocol of sd_notify(3).

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The environment variable with the manager's socket: a path, or `@` and a name in the abstract namespace.
const SOCKET: &str = "NOTIFY_SOCKET";

/// How long a manager that is busy may keep a message from being sent.
const PATIENCE: Duration = Duration::from_millis(100);

/// Whether a service manager listens to this process.
pub fn is_heard() -> bool {
    std::env::var_os(SOCKET).is_some_and(|socket| !socket.is_empty())
}

/// Shows `status` beside the unit, and asks for more time before the unit's stop counts as timed out, from now on.
/// Whether the manager took it; one that is gone does not matter to a run, which ends by its own clock.
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
