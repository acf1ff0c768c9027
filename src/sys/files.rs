//! Small files, read within a time limit, and names that last.

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

/// Does what may block for ever, as any access to a dead network mount does, on a thread that is left behind after
/// `patience`.
///
/// # Errors
/// Those of `access`; `TimedOut` when it has not ended by then.
pub fn within<T: Send + 'static>(
    patience: Duration,
    access: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    threads::within(patience, access)?
        .unwrap_or_else(|| Err(io::Error::new(io::ErrorKind::TimedOut, "does not answer")))
}

/// Reads a small text file. Only a regular file is opened: a FIFO would block, and a device can do anything when it is
/// opened.
///
/// # Errors
/// What the system says; `TimedOut` when it says nothing for 5 s; `InvalidInput` for what is no regular file;
/// `InvalidData` for a file over 1 MiB or not in UTF-8.
pub fn read(path: &Path) -> io::Result<String> {
    let path: PathBuf = path.to_owned();
    within(PATIENCE, move || text_of(open_regular(&path)?))
}

/// As [`read`], for a configuration, which may come through a pipe or be masked by a link to /dev/null.
///
/// # Errors
/// As [`read`].
pub fn read_any(path: &Path) -> io::Result<String> {
    let path: PathBuf = path.to_owned();
    within(PATIENCE, move || text_of(File::open(&path)?))
}

/// Opens a regular file, without blocking whatever the path leads to.
fn open_regular(path: &Path) -> io::Result<File> {
    let is_regular = |about: Metadata| match about.is_file() {
        true => Ok(()),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        )),
    };
    // Opening a device can have an effect (a watchdog starts), so it is looked at first.
    is_regular(std::fs::metadata(path)?)?;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY)
        .open(path)?;
    // It can have been replaced since.
    is_regular(file.metadata()?)?;
    Ok(file)
}

fn text_of(file: File) -> io::Result<String> {
    use io::Read as _;
    let mut bytes = Vec::new();
    let unusable = |why| io::Error::new(io::ErrorKind::InvalidData, why);
    file.take(LIMIT + 1).read_to_end(&mut bytes)?;
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
/// The error of the system call.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    std::fs::File::open(directory)?.sync_all()
}
