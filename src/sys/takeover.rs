//! Ends another farewell process.

use std::{fmt, fs, io};

use super::host;

/// Sends SIGTERM to another process of this program if it began at `began`, in clock ticks since boot; through a pidfd,
/// so that its pid cannot be reused between check and signal.
///
/// # Errors
/// If it is gone, is another process or another program, or belongs to another user.
pub fn terminate(pid: i32, began: u64) -> io::Result<()> {
    let other = || io::Error::new(io::ErrorKind::NotFound, "that process is not farewell");
    // A number below 1 would name a process group.
    let number = (pid > 0).then(|| rustix::process::Pid::from_raw(pid));
    let number = number.flatten().ok_or_else(other)?;
    let process = rustix::process::pidfd_open(number, rustix::process::PidfdFlags::empty())?;
    let is_same = host::process_began(pid) == Some(began) && program(&pid) == program(&"self");
    if !is_same || program(&pid).is_none() {
        return Err(other());
    }
    rustix::process::pidfd_send_signal(process, rustix::process::Signal::TERM)?;
    Ok(())
}

/// The path of a process' program, even if an upgrade has replaced it.
fn program(process: &dyn fmt::Display) -> Option<String> {
    let path = fs::read_link(format!("/proc/{process}/exe")).ok()?;
    let path = path.to_string_lossy().into_owned();
    Some(path.strip_suffix(" (deleted)").unwrap_or(&path).to_owned())
}
