//! The directory that files are copied to: each is written under another name, flushed, read back and renamed.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Seek as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, fchmod, fstat, futimens, mkdirat};
use nix::sys::time::TimeSpec;
use nix::unistd::{AccessFlags, UnlinkatFlags, faccessat, syncfs, unlinkat};

use super::directory_walk::{open_below, open_directory, open_source};
use super::progress::Progress;
use super::{CHUNK, Order, PART, Source};
use crate::sys::digest::{Sha256, hexadecimal};

/// The permission bits that a copy keeps: another user's program must not become a set-user-ID program of root.
const MODE: u32 = 0o777;

/// Why a file was not copied.
pub(super) enum CopyError {
    /// It could not be read.
    Source(io::Error),
    /// It could not be written.
    Target(io::Error),
    /// The copy, read back, differs from what was written.
    Differs,
    /// The file became shorter while it was read.
    Shrank,
}

impl CopyError {
    pub(super) fn of_source(error: io::Error) -> CopyError {
        CopyError::Source(error)
    }

    /// Whether an error is usually temporary.
    pub(super) fn passes(error: &io::Error) -> bool {
        let code = error.raw_os_error().map(Errno::from_raw);
        matches!(
            code,
            Some(Errno::ESTALE | Errno::ETIMEDOUT | Errno::EAGAIN | Errno::EIO | Errno::EHOSTDOWN)
        )
    }

    pub(super) fn retryable(&self) -> bool {
        match self {
            CopyError::Source(error) | CopyError::Target(error) => CopyError::passes(error),
            CopyError::Differs | CopyError::Shrank => true,
        }
    }

    /// Whether the next file would fail in the same way.
    pub(super) fn ends(&self) -> bool {
        let CopyError::Target(error) = self else {
            return false;
        };
        let is_of_name = matches!(
            error.raw_os_error().map(Errno::from_raw),
            Some(
                Errno::ENAMETOOLONG
                    | Errno::EISDIR
                    | Errno::ENOTDIR
                    | Errno::EILSEQ
                    | Errno::EINVAL
            )
        );
        !is_of_name
    }

    /// Whether the file is gone, or became something that is not copied.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self, CopyError::Source(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput))
    }
}

impl fmt::Display for CopyError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CopyError::Source(error) => write!(out, "cannot be read: {error}"),
            CopyError::Target(error) => write!(out, "cannot be written: {error}"),
            CopyError::Differs => {
                out.write_str("the copy, read back, differs from what was written")
            }
            CopyError::Shrank => out.write_str("became shorter while it was read"),
        }
    }
}

/// The length and the SHA-256 of a copy, or why there is none.
pub(super) type CopyResult = Result<(u64, String), CopyError>;

/// A file that is written and not yet renamed.
struct Pending {
    source: Source,
    directory: OwnedFd,
    part: OsString,
    file: File,
    bytes: u64,
    sha256: String,
}

/// The directory.
pub(super) struct Target {
    path: PathBuf,
    directory: OwnedFd,
    pending: Vec<Pending>,
    token: String,
    /// The tokens of interrupted attempts, and the directories that were searched for their files.
    cut: Vec<String>,
    searched: HashSet<PathBuf>,
    count: usize,
    buffer: Vec<u8>,
}

impl Target {
    /// Opens it; a rehearsal also checks that it is writable.
    pub(super) fn open(path: &Path, order: &Order) -> io::Result<Target> {
        let directory = open_directory(path)?;
        if order.rehearses {
            let change = AccessFlags::W_OK | AccessFlags::X_OK;
            faccessat(&directory, ".", change, AtFlags::AT_EACCESS)?;
        }
        Ok(Target {
            path: path.to_owned(),
            directory,
            pending: Vec::new(),
            token: order.token.clone(),
            cut: order.cut.clone(),
            searched: HashSet::new(),
            count: 0,
            buffer: vec![0; CHUNK],
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Its device and inode.
    pub(super) fn inode(&self) -> io::Result<(u64, u64)> {
        let state = fstat(&self.directory)?;
        Ok((state.st_dev, state.st_ino))
    }

    /// How many files are not renamed yet.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Writes a file under a temporary name, and returns its length.
    pub(super) fn write(
        &mut self,
        source: &Source,
        from: &OwnedFd,
        progress: &mut Progress,
    ) -> Result<u64, CopyError> {
        let name = source.name.file_name().unwrap_or_default();
        let mut reading = open_source(from, name).map_err(CopyError::Source)?;
        let directory = self.parent(&source.name).map_err(CopyError::Target)?;
        self.search(source.name.parent().unwrap_or(Path::new("")), &directory);
        self.count += 1;
        let part = OsString::from(format!("{PART}{}-{}", self.token, self.count));
        let file = create(&directory, &part).map_err(CopyError::Target)?;
        let copied = self.fill(&mut reading, &file, progress);
        match copied {
            Ok((bytes, sha256)) => {
                self.pending.push(Pending {
                    source: source.clone(),
                    directory,
                    part,
                    file,
                    bytes,
                    sha256,
                });
                Ok(bytes)
            }
            Err(fault) => {
                remove(&directory, &part);
                Err(fault)
            }
        }
    }

    /// Copies what the file holds now; what is appended meanwhile is left to another attempt.
    fn fill(
        &mut self,
        reading: &mut File,
        mut file: &File,
        progress: &mut Progress,
    ) -> Result<(u64, String), CopyError> {
        let state = reading.metadata().map_err(CopyError::Source)?;
        let (mut left, mut digest) = (state.len(), Sha256::new());
        while left > 0 {
            let most = self
                .buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            let read = match reading.read(&mut self.buffer[..most]) {
                Ok(0) => return Err(CopyError::Shrank),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(CopyError::Source(error)),
            };
            digest.update(&self.buffer[..read]);
            file.write_all(&self.buffer[..read])
                .map_err(CopyError::Target)?;
            left -= read as u64;
            progress.wrote(read);
        }
        let time = |seconds, nanos| TimeSpec::new(seconds, nanos);
        let mode = Permissions::from_mode(state.mode() & MODE);
        file.set_permissions(mode).map_err(CopyError::Target)?;
        let (read, changed) = (
            time(state.atime(), state.atime_nsec()),
            time(state.mtime(), state.mtime_nsec()),
        );
        // Some file systems cannot store times.
        let _ = futimens(file, &read, &changed);
        Ok((state.len(), hexadecimal(&digest.finish())))
    }

    /// Removes unfinished files of interrupted attempts from a directory.
    fn search(&mut self, path: &Path, directory: &OwnedFd) {
        if self.cut.is_empty() || self.searched.contains(path) {
            return;
        }
        self.searched.insert(path.to_owned());
        let begins: Vec<String> = (self.cut.iter())
            .map(|token| format!("{PART}{token}-"))
            .collect();
        let listed = format!("/proc/self/fd/{}", directory.as_raw_fd());
        for entry in fs::read_dir(listed).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let bytes = name.as_bytes();
            if begins.iter().any(|it| bytes.starts_with(it.as_bytes())) {
                remove(directory, &name);
            }
        }
    }

    /// The directory of a name, created if it is missing.
    fn parent(&self, name: &Path) -> io::Result<OwnedFd> {
        let mut directory = self.directory.try_clone()?;
        let mode = Mode::from_bits_truncate(0o755);
        for name in name.parent().into_iter().flatten() {
            directory = match open_below(directory.as_fd(), name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    match mkdirat(&directory, name, mode) {
                        Ok(()) => {
                            let made = open_below(directory.as_fd(), name)?;
                            // Whatever the umask is. A file system without modes has the directory all the same.
                            let _ = fchmod(&made, mode);
                            made
                        }
                        Err(Errno::EEXIST) => open_below(directory.as_fd(), name)?,
                        Err(error) => return Err(error.into()),
                    }
                }
                opened => opened?,
            };
        }
        Ok(directory)
    }

    /// Flushes what is written, reads it back, and gives it its name.
    pub(super) fn finish(&mut self) -> Vec<(Source, CopyResult)> {
        let pending = std::mem::take(&mut self.pending);
        let flushed = match pending.as_slice() {
            [] => return Vec::new(),
            [one] => one.file.sync_all().map_err(|error| error.raw_os_error()),
            _ => self.sync().map_err(|error| error.raw_os_error()),
        };
        let mut ended = Vec::with_capacity(pending.len());
        for pending in pending {
            let Pending { source, .. } = &pending;
            let source = source.clone();
            let named = match flushed {
                Ok(()) => self.name(&pending),
                Err(code) => {
                    let code = code.unwrap_or(Errno::EIO as i32);
                    Err(CopyError::Target(io::Error::from_raw_os_error(code)))
                }
            };
            if named.is_err() {
                remove(&pending.directory, &pending.part);
            }
            ended.push((source, named.map(|()| (pending.bytes, pending.sha256))));
        }
        ended
    }

    fn name(&mut self, pending: &Pending) -> Result<(), CopyError> {
        let mut file = &pending.file;
        file.rewind().map_err(CopyError::Target)?;
        let (mut bytes, mut digest) = (0, Sha256::new());
        loop {
            match file.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(read) => {
                    bytes += read as u64;
                    digest.update(&self.buffer[..read]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(CopyError::Target(error)),
            }
        }
        if bytes != pending.bytes || hexadecimal(&digest.finish()) != pending.sha256 {
            return Err(CopyError::Differs);
        }
        let name = pending.source.name.file_name().unwrap_or_default();
        renameat(
            &pending.directory,
            pending.part.as_os_str(),
            &pending.directory,
            name,
        )
        .map_err(|error| CopyError::Target(error.into()))
    }

    /// Flushes its file system.
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(syncfs(&self.directory)?)
    }
}

/// Creates a file whose name only this process knows.
fn create(directory: &OwnedFd, part: &OsStr) -> io::Result<File> {
    let flags =
        OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(openat(directory, part, flags, Mode::from_bits_truncate(0o600))?.into())
}

fn remove(directory: &OwnedFd, part: &OsStr) {
    // If it stays, no copy has its name.
    let _ = unlinkat(directory, part, UnlinkatFlags::NoRemoveDir);
}
