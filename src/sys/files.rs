//! Small files, read within a time limit, and names that last.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::workers;

/// The largest file that is read; facts and credentials are small.
const LIMIT: u64 = 1 << 20;

/// How long a read may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Does what may block for ever, as any access to a dead network mount does, on a thread that is left behind after
/// `patience`.
///
/// # Errors
/// Those of `access`; `TimedOut` when it has not ended by then.
pub fn within<T: Send + 'static>(
    patience: Duration,
    access: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    workers::within(patience, access)?
        .unwrap_or_else(|| Err(io::Error::new(io::ErrorKind::TimedOut, "does not answer")))
}

/// Reads a small text file.
///
/// # Errors
/// What the system says; `TimedOut` when it says nothing for 5 s; `InvalidData` for a file over 1 MiB or not in UTF-8.
pub fn read(path: &Path) -> io::Result<String> {
    let path: PathBuf = path.to_owned();
    within(PATIENCE, move || read_now(&path))
}

fn read_now(path: &Path) -> io::Result<String> {
    use io::Read as _;
    let mut bytes = Vec::new();
    let unusable = |why| io::Error::new(io::ErrorKind::InvalidData, why);
    std::fs::File::open(path)?
        .take(LIMIT + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LIMIT {
        return Err(unusable("larger than 1 MiB"));
    }
    String::from_utf8(bytes).map_err(|_| unusable("not in UTF-8"))
}

/// Has the file system keep this much room for a file, also behind its end; `false` where it cannot.
///
/// # Errors
/// What the system says: that there is no room, say.
pub fn keep_room(file: &std::fs::File, size: u64) -> io::Result<bool> {
    use nix::errno::Errno;
    use nix::fcntl::{FallocateFlags, fallocate};
    let size = i64::try_from(size).unwrap_or(i64::MAX);
    loop {
        return match fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, size) {
            Ok(()) => Ok(true),
            Err(Errno::EINTR) => continue,
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) => Ok(false),
            Err(errno) => Err(errno.into()),
        };
    }
}

/// Has the names in a directory reach the disk.
///
/// # Errors
/// What the system says.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    std::fs::File::open(directory)?.sync_all()
}
