//! The signal to another farewell that has to make way.

use std::{fmt, fs, io};

use super::host;

/// Sends SIGTERM to another process of this program, if it is the one that began at `began`, in clock ticks since the boot:
/// by a descriptor of it, so that no other process can get its number between the look and the signal.
///
/// # Errors
/// When it is gone, is another process or another program, or is somebody else's.
pub fn terminate(pid: i32, began: u64) -> io::Result<()> {
    let other = || io::Error::new(io::ErrorKind::NotFound, "that process is not farewell");
    // A number below 1 would name a group of processes.
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

/// The path of a process' program, which an upgrade may have replaced meanwhile.
fn program(process: &dyn fmt::Display) -> Option<String> {
    let path = fs::read_link(format!("/proc/{process}/exe")).ok()?;
    let path = path.to_string_lossy().into_owned();
    Some(path.strip_suffix(" (deleted)").unwrap_or(&path).to_owned())
}
