//! Finds regular files below a directory without following links that another user could have planted.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::geteuid;

use super::glob::{Pattern, Positions, matches};
use super::{PART, Source};

/// The deepest level that is read, counted from the base: each level holds a descriptor.
const DEEPEST: usize = 100;

/// How many symbolic links the base may go through, as in the kernel.
const LINKS: usize = 40;

/// A walk below one base.
pub(super) struct DirectoryWalk<'a> {
    pub(super) pattern: &'a Pattern,
    /// Its fixed part.
    pub(super) base: Arc<Path>,
    pub(super) exclude: &'a [String],
    /// The device and inode of the destination directory, if there is one, which is not read.
    pub(super) target: Option<(u64, u64)>,
    /// What is found.
    pub(super) found: &'a mut dyn FnMut(Source),
    /// Called with the reason why something that matches is left out.
    pub(super) skipped: &'a mut dyn FnMut(String),
}

impl DirectoryWalk<'_> {
    /// Walks.
    pub(super) fn go(&mut self) -> io::Result<()> {
        let base = open_directory(self.pattern.base())?;
        self.directory(&base, Path::new(""), &self.pattern.begin(), 0)
    }

    fn directory(
        &mut self,
        directory: &OwnedFd,
        below: &Path,
        positions: &Positions,
        depth: usize,
    ) -> io::Result<()> {
        // By its descriptor: the name may belong to another directory by now.
        let listed = format!("/proc/self/fd/{}", directory.as_raw_fd());
        for entry in fs::read_dir(listed)? {
            let name = entry?.file_name();
            let bytes = name.as_bytes();
            let is_excluded = |glob: &String| matches(glob.as_bytes(), bytes);
            if bytes.starts_with(PART.as_bytes()) || self.exclude.iter().any(is_excluded) {
                continue;
            }
            let (takes, enter) = (
                self.pattern.takes(positions, bytes),
                self.pattern.enter(positions, bytes),
            );
            if !takes && enter.is_empty() {
                continue;
            }
            let path = below.join(&name);
            let state = match fstatat(directory, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(state) => state,
                Err(Errno::ENOENT) => continue,
                Err(error) => {
                    self.skip(&path, io::Error::from(error).to_string());
                    continue;
                }
            };
            match kind(&state) {
                SFlag::S_IFREG if takes => self.file(path, &state),
                SFlag::S_IFDIR if self.target == Some((state.st_dev, state.st_ino)) => {}
                SFlag::S_IFDIR if depth == DEEPEST => {
                    self.skip(&path, format!("more than {DEEPEST} directories deep"));
                }
                SFlag::S_IFDIR if !enter.is_empty() => {
                    let entered = open_below(directory, &name)
                        .and_then(|it| self.directory(&it, &path, &enter, depth + 1));
                    if let Err(error) = entered {
                        self.skip(&path, error.to_string());
                    }
                }
                SFlag::S_IFREG | SFlag::S_IFDIR => {}
                _ if !takes => {}
                SFlag::S_IFLNK => self.skip(&path, "a symbolic link".to_owned()),
                _ => self.skip(&path, "not a regular file".to_owned()),
            }
        }
        Ok(())
    }

    fn skip(&mut self, path: &Path, why: String) {
        let path = self.pattern.base().join(path);
        (self.skipped)(format!("{} was left out: {why}", path.display()));
    }

    fn file(&mut self, name: PathBuf, state: &FileStat) {
        let source = Source {
            base: self.base.clone(),
            name: name.into_boxed_path(),
            size: u64::try_from(state.st_size).unwrap_or_default(),
            inode: (state.st_dev, state.st_ino),
            changed: (state.st_mtime, state.st_mtime_nsec),
        };
        (self.found)(source);
    }
}

fn kind(state: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(state.st_mode) & SFlag::S_IFMT
}

const DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// Opens a directory in another one, and no symbolic link to one.
pub(super) fn open_below(directory: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    Ok(openat(directory, name, DIRECTORY, Mode::empty())?)
}

/// Opens a directory. A symbolic link on the way is followed only if nobody but root and this process' user could have
/// created it.
///
/// # Errors
/// Any I/O error; `PermissionDenied` for such a link.
pub(super) fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let root = || Ok::<_, io::Error>(OwnedFd::from(File::open("/")?));
    let mut directories = vec![root()?];
    let mut left: Vec<PathBuf> = components(path);
    let mut links = 0;
    while let Some(name) = left.pop() {
        let here = directories.last().ok_or(Errno::ENOENT)?;
        if name == Path::new("..") {
            if directories.len() > 1 {
                directories.pop();
            }
            continue;
        }
        let state = fstatat(here, &name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        if kind(&state) != SFlag::S_IFLNK {
            let next = open_below(here, name.as_os_str())?;
            directories.push(next);
            continue;
        }
        links += 1;
        if links > LINKS {
            return Err(Errno::ELOOP.into());
        }
        if !is_ours(state.st_uid) || !is_safe(&fstat(here)?) {
            let cause = format!(
                "the symbolic link {} on the way to {} is in a directory that others can write, and is not followed",
                name.display(),
                path.display()
            );
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, cause));
        }
        let target = PathBuf::from(readlinkat(here, &name)?);
        if target.is_absolute() {
            directories = vec![root()?];
        }
        left.extend(components(&target));
    }
    directories.pop().ok_or_else(|| Errno::ENOENT.into())
}

/// The names in a path, the last one first.
fn components(path: &Path) -> Vec<PathBuf> {
    let named = path.components().filter_map(|it| match it {
        Component::Normal(name) => Some(PathBuf::from(name)),
        Component::ParentDir => Some(PathBuf::from("..")),
        _ => None,
    });
    let mut named: Vec<PathBuf> = named.collect();
    named.reverse();
    named
}

fn is_ours(uid: u32) -> bool {
    uid == 0 || uid == geteuid().as_raw()
}

/// Whether nobody else can replace an entry of this directory.
fn is_safe(directory: &FileStat) -> bool {
    let is_writable = directory.st_mode & 0o022 != 0;
    let is_sticky = directory.st_mode & 0o1000 != 0;
    is_ours(directory.st_uid) && (!is_writable || is_sticky)
}

/// Opens a file that a walk has found, if it is still a regular file.
///
/// # Errors
/// Any I/O error; `InvalidInput` if it is no longer a regular file, or is a hard link that another user made to a file
/// of root.
pub(super) fn open_source(directory: &OwnedFd, name: &OsStr) -> io::Result<File> {
    let flags = OFlag::O_RDONLY
        | OFlag::O_NOFOLLOW
        | OFlag::O_NONBLOCK
        | OFlag::O_NOCTTY
        | OFlag::O_CLOEXEC;
    let unusable = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, why);
    let file = match openat(directory, name, flags, Mode::empty()) {
        Err(Errno::ELOOP) => return Err(unusable("became a symbolic link")),
        opened => File::from(opened?),
    };
    let state = file.metadata()?;
    if !state.is_file() {
        return Err(unusable("became something other than a regular file"));
    }
    let owner = fstat(directory)?.st_uid;
    if state.nlink() > 1 && state.uid() != owner && !is_ours(owner) {
        return Err(unusable(
            "has another hard link, and does not belong to the owner of its directory",
        ));
    }
    Ok(file)
}
