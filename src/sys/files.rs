//! Reads small files within a time limit, and makes directory entries durable.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::threads;

/// The largest file that is read; facts and credentials are small.
const LIMIT: u64 = 1 << 20;

/// A flag of open(2): a symbolic link at the end of the path is an error.
pub const NO_LINK: i32 = nix::libc::O_NOFOLLOW;

/// How long a read may take.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Runs an access that may block for ever, as on a dead network mount, on a thread that is abandoned after `patience`.
///
/// # Errors
/// Those of `access`; `TimedOut` if it has not ended by then.
pub fn within<T: Send + 'static>(
    patience: Duration,
    access: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    threads::within(patience, access)?
        .unwrap_or_else(|| Err(io::Error::new(io::ErrorKind::TimedOut, "does not answer")))
}

/// Reads a small text file. Only a regular file is opened: a FIFO would block, and opening a device can have side
/// effects.
///
/// # Errors
/// Any I/O error; `TimedOut` after 5 s; `InvalidInput` for anything but a regular file; `InvalidData` for a file over 1
/// MiB or not in UTF-8.
pub fn read(path: &Path) -> io::Result<String> {
    let path: PathBuf = path.to_owned();
    within(PATIENCE, move || text_of(open_regular(&path, 0)?))
}

/// As [`read`], for a configuration, which may come through a pipe or be masked by a link to /dev/null.
pub fn read_any(path: &Path) -> io::Result<String> {
    let path: PathBuf = path.to_owned();
    within(PATIENCE, move || text_of(File::open(&path)?))
}

/// Opens a regular file to read it, without blocking on anything else; `flags` are further ones of open(2). With
/// [`NO_LINK`] a link to a regular file is none.
///
/// # Errors
/// Any I/O error; `InvalidInput` for anything but a regular file.
pub(super) fn open_regular(path: &Path, flags: i32) -> io::Result<File> {
    let is_regular = |about: Metadata| match about.is_file() {
        true => Ok(()),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        )),
    };
    // Opening a device can have an effect (a watchdog starts), so the type is checked first.
    is_regular(match flags & NO_LINK {
        0 => std::fs::metadata(path)?,
        _ => std::fs::symlink_metadata(path)?,
    })?;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY | flags)
        .open(path)?;
    // It may have been replaced since.
    is_regular(file.metadata()?)?;
    Ok(file)
}

/// All of a file that was opened.
///
/// # Errors
/// Any I/O error; `InvalidData` for a file over 1 MiB or not in UTF-8.
pub(super) fn text_of(file: File) -> io::Result<String> {
    use io::Read as _;
    let mut bytes = Vec::new();
    let unusable = |why| io::Error::new(io::ErrorKind::InvalidData, why);
    file.take(LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LIMIT {
        return Err(unusable("larger than 1 MiB"));
    }
    String::from_utf8(bytes).map_err(|_| unusable("not in UTF-8"))
}

/// Preallocates space for a file, also beyond its end; `false` if the file system cannot.
///
/// # Errors
/// Any I/O error, such as a full disk.
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

/// Flushes the entries of a directory to disk.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    std::fs::File::open(directory)?.sync_all()
}
