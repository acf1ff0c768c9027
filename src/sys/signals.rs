//! Signals to this process, and facts about the process itself.

use std::io;
use std::thread;

use nix::sys::signal::Signal;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Calls `told` at each SIGTERM or SIGINT from now on. SIGHUP does nothing: a run that a person started goes on when
/// their connection is lost. (It is caught rather than ignored, since children would inherit an ignored signal.)
pub fn on_stop(mut told: impl FnMut() + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    thread::Builder::new()
        .name("signals".into())
        .stack_size(64 << 10)
        .spawn(move || {
            for signal in signals.forever() {
                if signal != SIGHUP {
                    told();
                }
            }
        })?;
    Ok(())
}

/// A signal and its number by its name, such as `SIGQUIT`; `None` for an unknown name.
pub fn named(name: &str) -> Option<(&'static str, i32)> {
    let signal: Signal = name.parse().ok()?;
    Some((signal.as_str(), signal as i32))
}

/// Whether this process runs as root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The effective user id of this process.
pub fn user() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Whether PID 1 is the parent of this process, which leads a session of its own.
pub fn is_child_of_init() -> bool {
    let own = nix::unistd::getpid();
    nix::unistd::getppid().as_raw() == 1 && nix::unistd::getsid(None) == Ok(own)
}
