//! The child process of a probe.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::libc::O_NONBLOCK;
use nix::sys::statvfs::fstatvfs;
use nix::unistd::{AccessFlags, faccessat, syncfs};

use super::{FLAG, no_answer};

/// A verb, and what a child started as a [`super::Worker`] with it does.
pub type Served<'a> = (&'a str, fn() -> io::Result<()>);

/// Does what `args` (with the program's name) ask for and writes the answer, or returns `None` if this process is not
/// such a child. Call it before anything else in `main`.
pub fn serve(
    args: impl IntoIterator<Item = OsString>,
    conversations: &[Served<'_>],
) -> Option<ExitCode> {
    let mut args = args.into_iter().skip(1);
    if args.next()? != FLAG {
        return None;
    }
    let args: Vec<OsString> = args.collect();
    let args: Vec<&OsStr> = args.iter().map(OsString::as_os_str).collect();
    let (verb, args) = args.split_first()?;
    let served = conversations.iter().find(|(it, _)| *verb == *it);
    if let (Some((_, serve)), []) = (served, args) {
        return Some(match serve() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        });
    }
    let mut answer = match (verb.to_str(), args) {
        (Some("exists"), [path]) => Path::new(path).try_exists().map(yes_or_no),
        (Some("remains"), [path]) => remains(Path::new(path)).map(yes_or_no),
        (Some("probe"), [path]) => probe(Path::new(path)),
        (Some("sync"), [path]) => sync(Path::new(path)).map(|()| b"ok".to_vec()),
        (Some("remove"), [path]) => remove(Path::new(path)),
        (Some("prospect"), [path]) => prospect(Path::new(path)),
        (Some(super::executable::VERB), [program, user, directory]) => {
            super::executable::answer(program, user, directory)
        }
        _ => return Some(ExitCode::from(64)),
    }
    .unwrap_or_else(|error| {
        let number = error.raw_os_error().unwrap_or(Errno::EIO as i32);
        format!("error {number}").into_bytes()
    });
    answer.push(b'\n');
    match io::stdout().write_all(&answer) {
        Ok(()) => Some(ExitCode::SUCCESS),
        Err(_) => Some(ExitCode::FAILURE),
    }
}

fn yes_or_no(yes: bool) -> Vec<u8> {
    if yes { b"yes".to_vec() } else { b"no".to_vec() }
}

fn remains(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn open(path: &Path) -> io::Result<File> {
    // Otherwise a pipe without a writer would block.
    OpenOptions::new()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open(path)
}

fn probe(path: &Path) -> io::Result<Vec<u8>> {
    let canonical = path.canonicalize()?;
    let file = open(&canonical)?;
    fstatvfs(file.as_fd())?;
    if file.metadata()?.is_dir() {
        fs::read_dir(&canonical)?.next().transpose()?;
    }
    let mut answer = format!("{} ", mount_of(&file)?).into_bytes();
    answer.extend_from_slice(canonical.as_os_str().as_bytes());
    Ok(answer)
}

/// The mount's id from the kernel: names alone cannot distinguish mounts that hide each other.
fn mount_of(file: &File) -> io::Result<u32> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd()))?;
    let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    mount
        .and_then(|id| id.trim().parse().ok())
        .ok_or_else(no_answer)
}

fn sync(path: &Path) -> io::Result<()> {
    Ok(syncfs(open(path)?.as_fd())?)
}

fn remove(path: &Path) -> io::Result<Vec<u8>> {
    let Some(directory) = directory_of(path)? else {
        return Ok(b"no-parent".to_vec());
    };
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(b"gone".to_vec()),
        removed => removed?,
    }
    match directory.sync_all() {
        // Some network file systems cannot flush a directory: they have applied the change already.
        Err(error) if error.raw_os_error() == Some(Errno::EINVAL as i32) => {}
        synced => synced?,
    }
    Ok(b"removed".to_vec())
}

/// The directory that `path` would be in; `None` if it does not exist.
fn directory_of(path: &Path) -> io::Result<Option<File>> {
    let parent = path
        .parent()
        .ok_or_else(|| io::Error::from(Errno::EISDIR))?;
    match File::open(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}

fn prospect(path: &Path) -> io::Result<Vec<u8>> {
    let Some(directory) = directory_of(path)? else {
        return Ok(b"no-parent".to_vec());
    };
    let word = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => return Err(Errno::EISDIR.into()),
        Ok(_) => "removed",
        Err(error) if error.kind() == io::ErrorKind::NotFound => "gone",
        Err(error) => return Err(error),
    };
    let change = AccessFlags::W_OK | AccessFlags::X_OK;
    faccessat(&directory, ".", change, AtFlags::AT_EACCESS)?;
    Ok(format!("{word} {}", mount_of(&directory)?).into_bytes())
}
