//! Settings of farewell that its children do not inherit: limits of descriptors and core dumps, the umask, and open
//! files.

use std::fs;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::OnceLock;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use nix::sys::stat::{Mode, umask};

/// A soft and a hard limit; see getrlimit(2).
type Limit = (rlim_t, rlim_t);

/// The original values of the limits that [`prepare`] has changed.
struct Started {
    descriptors: Option<Limit>,
    core: Option<Limit>,
}

static STARTED: OnceLock<Started> = OnceLock::new();

/// farewell's umask: only its own user can read what it writes, unless a mode says otherwise.
const OWN_UMASK: Mode = Mode::S_IRWXG.union(Mode::S_IRWXO);

/// The umask of its children: systemd's default for services.
const CHILDRENS_UMASK: Mode = Mode::S_IWGRP.union(Mode::S_IWOTH);

/// Prepares this process for a run, once: hundreds of parallel commands and connections need more descriptors than the
/// usual soft limit of 1024, which is that low for select(2); a core dump would contain credentials; and nobody else
/// may read what it writes. Children started by this module get the original limits, the umask 0022, and no files but
/// the standard three.
pub fn prepare() {
    STARTED.get_or_init(|| {
        umask(OWN_UMASK);
        close_at_exec();
        Started {
            descriptors: change(Resource::RLIMIT_NOFILE, |(_, hard)| hard),
            // The hard limit stays; otherwise a child's could not be restored.
            core: change(Resource::RLIMIT_CORE, |_| 0),
        }
    });
}

/// Keeps children from inheriting files that this process was started with, except the standard three: they belong to
/// the caller, and may be root's. Files that farewell opens are never inherited.
fn close_at_exec() {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        return;
    };
    let numbers =
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<RawFd>().ok());
    for number in numbers.filter(|number| *number > 2) {
        // SAFETY: it is borrowed for one call, which changes nothing but this flag, and fails where it is not open: the
        // one that lists the others is not any more.
        #[allow(unsafe_code)]
        let file = unsafe { BorrowedFd::borrow_raw(number) };
        let _ = fcntl(file, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
    }
}

/// Sets the soft limit of `resource`, and returns the old limit if it has changed.
fn change(resource: Resource, soft: impl Fn(Limit) -> rlim_t) -> Option<Limit> {
    let before = getrlimit(resource).ok()?;
    let soft = soft(before);
    (soft != before.0 && setrlimit(resource, soft, before.1).is_ok()).then_some(before)
}

/// Gives `command` the original limits, and the umask of a service.
pub(super) fn give_back(command: &mut Command) {
    let Some(&Started { descriptors, core }) = STARTED.get() else {
        return;
    };
    let give_back = move || {
        umask(CHILDRENS_UMASK);
        for (resource, limit) in [
            (Resource::RLIMIT_NOFILE, descriptors),
            (Resource::RLIMIT_CORE, core),
        ] {
            if let Some((soft, hard)) = limit {
                setrlimit(resource, soft, hard)?;
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes at most three system calls with values that were made before, and
    // allocates nothing, not even for an error, which is a number.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(give_back);
    }
}
