//! flock(2): a file lock that ends with its holder.

use std::fs::File;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, Flock, FlockArg, fcntl};
use nix::libc::{F_UNLCK, F_WRLCK, SEEK_SET, flock};

/// A file that this process has locked; unlocked when dropped.
pub struct Locked(Flock<File>);

impl Locked {
    pub fn file(&mut self) -> &mut File {
        &mut self.0
    }
}

/// Locks a file, or returns it if it is locked already.
///
/// # Errors
/// If the file system does not support locks.
pub fn try_lock(file: File) -> io::Result<Result<Locked, File>> {
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Ok(Locked(lock))),
        Err((file, Errno::EWOULDBLOCK)) => Ok(Err(file)),
        Err((_, errno)) => Err(errno.into()),
    }
}

/// The file, if somebody holds a lock on it.
pub fn is_locked(file: File) -> Option<File> {
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Err((file, Errno::EWOULDBLOCK)) => Some(file),
        _ => None,
    }
}

/// Whether another process has an fcntl(2) record lock on a file, as dpkg has on its lock file. `false` also if the
/// file does not exist or cannot be examined.
pub fn is_record_locked(path: &Path) -> bool {
    let Ok(file) = File::open(path) else {
        return false;
    };
    let mut lock = flock {
        l_type: F_WRLCK as i16,
        l_whence: SEEK_SET as i16,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_GETLK(&mut lock)).is_ok() && i32::from(lock.l_type) != F_UNLCK
}
