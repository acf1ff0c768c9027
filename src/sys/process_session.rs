//! Sessions of processes: a child in a session of its own has no terminal.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::unistd::setsid;

/// Starts `command` as the leader of a session and process group of its own, so that it has no controlling terminal: it
/// cannot open /dev/tty, insert input into it, or get its signals.
pub fn detach(command: &mut Command) {
    let detach = || {
        setsid()?;
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes one system call, and allocates nothing, not even for an error, which
    // is a number.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(detach);
    }
}
