//! Looks at file systems that may never answer, each taken by a child that can be killed.
//!
//! A thread that touches a mount whose server is dead stays in the kernel for ever, and its process with it. So farewell
//! runs itself again with a hidden first argument, and only that process touches the path.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use nix::errno::Errno;
use nix::libc::O_NONBLOCK;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::statvfs::fstatvfs;
use nix::unistd::syncfs;

use super::cancel::{Cancel, millis};
use crate::deadline::{Deadline, Reason};

/// The hidden first argument.
const FLAG: &str = "--guarded";

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Children that were killed and had not ended then.
static LEFT: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// Why there is no answer.
#[derive(Debug)]
pub enum Trouble {
    /// None came before a deadline with this reason.
    TimedOut(Reason),
    /// The run was told to stop.
    Cancelled,
    /// The system's answer is an error.
    Io(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Trouble::Io(error)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::TimedOut(_) => out.write_str("does not answer"),
            Trouble::Cancelled => out.write_str("told to stop"),
            Trouble::Io(error) => error.fmt(out),
        }
    }
}

/// What a probe saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The id of the mount that the path is on, as in `/proc/self/mountinfo`.
    pub mount: u32,
    /// The path without symbolic links.
    pub canonical: PathBuf,
}

/// What removing a file came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It is gone now, and the disk knows.
    Removed,
    /// It was gone before.
    AlreadyGone,
    /// The directory that it would be in is not there.
    NoParent,
}

/// Makes the looks run `program`, a farewell, for processes that are none themselves: tests. The first call counts.
pub fn use_program(program: impl Into<PathBuf>) {
    let _ = PROGRAM.set(program.into());
}

/// Whether there is anything at `path`, at the end of its symbolic links.
///
/// # Errors
/// When that cannot be known in time; see [`Trouble`].
pub fn exists(path: &Path, deadline: Deadline, cancel: &Cancel) -> Result<bool, Trouble> {
    Ok(ask("exists", path, deadline, cancel)? == b"yes")
}

/// Whether there is anything at `path` itself, be it a symbolic link that leads nowhere.
///
/// # Errors
/// When that cannot be known in time; see [`Trouble`].
pub fn remains(path: &Path, deadline: Deadline, cancel: &Cancel) -> Result<bool, Trouble> {
    Ok(ask("remains", path, deadline, cancel)? == b"yes")
}

/// Opens the file or directory at `path`, which triggers an automount, asks its file system for its state (so that a
/// cache alone cannot answer), and reads a directory's first entry.
///
/// # Errors
/// When there is no good answer in time; see [`Trouble`].
pub fn probe(path: &Path, deadline: Deadline, cancel: &Cancel) -> Result<Probe, Trouble> {
    let answer = ask("probe", path, deadline, cancel)?;
    let mut parts = answer.splitn(2, |byte| *byte == b' ');
    let mount = parts
        .next()
        .and_then(|id| str::from_utf8(id).ok()?.parse().ok());
    match (mount, parts.next()) {
        (Some(mount), Some(canonical)) => Ok(Probe {
            mount,
            canonical: OsString::from_vec(canonical.to_owned()).into(),
        }),
        _ => Err(no_answer().into()),
    }
}

/// Flushes the file system that `path` is on, and no other (syncfs(2)).
///
/// # Errors
/// When it did not end in time, or something was not written; see [`Trouble`].
pub fn sync(path: &Path, deadline: Deadline, cancel: &Cancel) -> Result<(), Trouble> {
    ask("sync", path, deadline, cancel).map(drop)
}

/// Removes the file at `path` (not a directory) and flushes the directory that it was in.
///
/// # Errors
/// When it could not be removed in time; see [`Trouble`].
pub fn remove(path: &Path, deadline: Deadline, cancel: &Cancel) -> Result<Removal, Trouble> {
    match ask("remove", path, deadline, cancel)?.as_slice() {
        b"removed" => Ok(Removal::Removed),
        b"gone" => Ok(Removal::AlreadyGone),
        b"no-parent" => Ok(Removal::NoParent),
        _ => Err(no_answer().into()),
    }
}

fn no_answer() -> io::Error {
    io::Error::other("the process that looked at it ended without an answer")
}

fn ask(verb: &str, path: &Path, deadline: Deadline, cancel: &Cancel) -> Result<Vec<u8>, Trouble> {
    let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
    left.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    drop(left);
    let program = PROGRAM
        .get()
        .map_or(Path::new("/proc/self/exe"), PathBuf::as_path);
    let mut child = Command::new(program)
        .args([OsStr::new(FLAG), OsStr::new(verb), path.as_os_str()])
        .env_clear()
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let answer = listen(&mut child, deadline, cancel);
    // Without an answer it may be in the kernel for ever, so nobody waits for its end.
    if answer.is_err() {
        let _ = child.kill();
    }
    if !matches!(child.try_wait(), Ok(Some(_))) {
        LEFT.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(child);
    }
    let answer = answer?;
    let answer = answer.strip_suffix(b"\n").ok_or_else(no_answer)?;
    match answer.strip_prefix(b"error ") {
        None => Ok(answer.to_owned()),
        Some(number) => match str::from_utf8(number).ok().and_then(|it| it.parse().ok()) {
            Some(number) => Err(io::Error::from_raw_os_error(number).into()),
            None => Err(no_answer().into()),
        },
    }
}

fn listen(child: &mut Child, deadline: Deadline, cancel: &Cancel) -> Result<Vec<u8>, Trouble> {
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    let Some(pipe) = &mut child.stdout else {
        return Err(no_answer().into());
    };
    loop {
        let left = deadline
            .left()
            .ok_or(Trouble::TimedOut(deadline.reason()))?;
        let mut polled = [
            PollFd::new(pipe.as_fd(), PollFlags::POLLIN),
            PollFd::new(cancel.as_fd(), PollFlags::POLLIN),
        ];
        let left = PollTimeout::try_from(millis(left)).unwrap_or(PollTimeout::MAX);
        match poll(&mut polled, left) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(Trouble::Io(error.into())),
        }
        let [said, turned] = polled.map(|fd| fd.revents().is_some_and(|it| !it.is_empty()));
        if said {
            match pipe.read(&mut buffer)? {
                0 => return Ok(answer),
                read => answer.extend_from_slice(&buffer[..read]),
            }
        } else if turned {
            return Err(Trouble::Cancelled);
        }
    }
}

/// The child's side: does what `args` (with the program's name) ask for and writes the answer, or returns `None` where
/// this is not such a child. To be called before anything else in `main`.
pub fn serve(args: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut args = args.into_iter().skip(1);
    if args.next()? != FLAG {
        return None;
    }
    let (Some(verb), Some(path), None) = (args.next(), args.next(), args.next()) else {
        return Some(ExitCode::from(64));
    };
    let path = Path::new(&path);
    let mut answer = match verb.to_str() {
        Some("exists") => path.try_exists().map(yes_or_no),
        Some("remains") => remains_now(path).map(yes_or_no),
        Some("probe") => probe_now(path),
        Some("sync") => sync_now(path).map(|()| b"ok".to_vec()),
        Some("remove") => remove_now(path),
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

fn remains_now(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn open(path: &Path) -> io::Result<File> {
    // A pipe without a writer would keep it waiting otherwise.
    OpenOptions::new()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open(path)
}

fn probe_now(path: &Path) -> io::Result<Vec<u8>> {
    let canonical = path.canonicalize()?;
    let file = open(&canonical)?;
    fstatvfs(file.as_fd())?;
    if file.metadata()?.is_dir() {
        fs::read_dir(&canonical)?.next().transpose()?;
    }
    // The kernel's own word on the mount: names alone cannot tell mounts that hide each other.
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd()))?;
    let mount = info
        .lines()
        .find_map(|line| line.strip_prefix("mnt_id:"))
        .ok_or_else(no_answer)?;
    let mut answer = format!("{} ", mount.trim()).into_bytes();
    answer.extend_from_slice(canonical.as_os_str().as_bytes());
    Ok(answer)
}

fn sync_now(path: &Path) -> io::Result<()> {
    Ok(syncfs(open(path)?.as_fd())?)
}

fn remove_now(path: &Path) -> io::Result<Vec<u8>> {
    let parent = path
        .parent()
        .ok_or_else(|| io::Error::from(Errno::EISDIR))?;
    let directory = match File::open(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(b"no-parent".to_vec()),
        opened => opened?,
    };
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(b"gone".to_vec()),
        removed => removed?,
    }
    match directory.sync_all() {
        // Some network file systems know no flush of a directory; what they were told they have.
        Err(error) if error.raw_os_error() == Some(Errno::EINVAL as i32) => {}
        synced => synced?,
    }
    Ok(b"removed".to_vec())
}
