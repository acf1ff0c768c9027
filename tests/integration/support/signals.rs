//! Signals to processes that a test has started.

use std::time::Duration;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

/// Sends a signal to a process that was not waited for; one that stops it has done so when this returns: its other threads
/// go on until the one that gets the signal has had its turn.
pub fn send(pid: u32, signal: Signal) {
    signal::kill(Pid::from_raw(pid.cast_signed()), signal).expect("signalled");
    while signal == Signal::SIGSTOP && !is_stopped(pid) {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Kills a process that may have ended by now.
pub fn kill(pid: u32) {
    let _ = signal::kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
}

/// Whether each thread of a process stands still, or the process has ended.
fn is_stopped(pid: u32) -> bool {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return true;
    };
    let stats = tasks.flatten();
    let mut stats = stats.filter_map(|it| std::fs::read_to_string(it.path().join("stat")).ok());
    stats.all(|stat| {
        let behind = stat.rsplit_once(')').expect("a name in brackets").1;
        behind.trim_start().starts_with(['T', 'Z', 'X'])
    })
}
