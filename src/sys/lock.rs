//! flock(2): a lock on a file that ends with its holder.

use std::fs::File;
use std::io;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// A file that this process has locked; unlocked when dropped.
pub struct Locked(Flock<File>);

impl Locked {
    /// The file.
    pub fn file(&mut self) -> &mut File {
        &mut self.0
    }
}

/// Locks a file if nobody has; gives the file back if somebody has.
///
/// # Errors
/// Where the file system has no locks.
pub fn try_lock(file: File) -> io::Result<Result<Locked, File>> {
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Ok(Locked(lock))),
        Err((file, Errno::EWOULDBLOCK)) => Ok(Err(file)),
        Err((_, errno)) => Err(errno.into()),
    }
}

/// The file, if somebody has locked it. Looking does not keep anybody from locking it.
pub fn is_locked(file: File) -> Option<File> {
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Err((file, Errno::EWOULDBLOCK)) => Some(file),
        _ => None,
    }
}
