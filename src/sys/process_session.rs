//! Sessions of processes: a child in a session of its own has no terminal.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::unistd::setsid;

/// Has `command` begin as the leader of a session and a process group of its own, both with its process id as number. So
/// the terminal that this process may have is not its: it cannot open /dev/tty, put input into it, or be sent its signals.
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
