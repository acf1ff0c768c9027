//! The limit of file descriptors (RLIMIT_NOFILE, getrlimit(2)): raised for a run, and given back to its children.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::OnceLock;

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

/// The soft and the hard limit that this process was started with, where the soft one was raised.
static FIRST: OnceLock<(rlim_t, rlim_t)> = OnceLock::new();

/// Raises the soft limit to the hard one: hundreds of commands and connections side by side need more than the usual
/// 1024. The soft limit is that low for the sake of select(2), which farewell does not use; its children may.
pub fn raise_limit() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return;
    };
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        // A second call finds nothing to raise.
        let _ = FIRST.set((soft, hard));
    }
}

/// Has `command` begin with the limit that this process was started with.
pub(super) fn give_back(command: &mut Command) {
    let Some((soft, hard)) = FIRST.get().copied() else {
        return;
    };
    let lower = move || Ok(setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?);
    // SAFETY: between fork and exec the closure makes one system call with values that were made before, and allocates
    // nothing, not even for an error, which is a number.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(lower);
    }
}
