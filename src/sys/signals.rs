//! Signals that this process gets, and the one that it sends to another farewell.

use std::io;
use std::thread;

use nix::sys::signal::Signal;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Calls `told` at each SIGTERM or SIGINT from now on. SIGHUP does nothing: a farewell that a person started goes on
/// when their connection is lost. (It is caught, not ignored, since children would inherit that it is ignored.)
///
/// # Errors
/// When the handlers or the thread cannot be set up.
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

/// A signal by its name, `SIGQUIT` say, and its number; `None` where there is none of this name.
pub fn named(name: &str) -> Option<(&'static str, i32)> {
    let signal: Signal = name.parse().ok()?;
    Some((signal.as_str(), signal as i32))
}

/// Whether this process is root's.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The user that this process acts as.
pub fn user() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Whether PID 1 is the parent of this process, which leads a session of its own.
pub fn is_child_of_init() -> bool {
    let own = nix::unistd::getpid();
    nix::unistd::getppid().as_raw() == 1 && nix::unistd::getsid(None) == Ok(own)
}
