//! Examines file systems that may never answer, each time in a child process that can be killed.
//!
//! A thread that accesses a mount whose server is dead stays in the kernel for ever, and so does its process. So
//! farewell runs itself again with a hidden first argument, and only that process accesses the path.

mod child;
mod executable;
mod worker;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::cancel::{Cancel, millis};
use super::process_session;
use crate::model::deadline::{Deadline, Reason};
use crate::model::error::{ErrorKind, Failure};
use crate::sys::sync::Mutex;

pub use self::child::serve;
pub use self::executable::{Obstacle, startable};
pub use self::worker::Worker;

/// The hidden first argument.
const FLAG: &str = "--guarded";

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Children that were killed and are not reaped yet.
static LEFT: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// Why there is no answer.
#[derive(Debug)]
pub enum ProbeError {
    /// None came before the deadline.
    TimedOut(Reason),
    /// The run was told to stop.
    Cancelled,
    /// An I/O error.
    Io(io::Error),
}

impl From<io::Error> for ProbeError {
    fn from(error: io::Error) -> Self {
        ProbeError::Io(error)
    }
}

impl fmt::Display for ProbeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProbeError::TimedOut(_) => out.write_str("does not answer"),
            ProbeError::Cancelled => out.write_str("told to stop"),
            ProbeError::Io(error) => error.fmt(out),
        }
    }
}

impl ProbeError {
    /// The failure of a step that examined `subject`. A timeout is retryable; an I/O error is not.
    pub fn failure(&self, subject: impl Into<String>) -> Failure {
        let kind = match self {
            ProbeError::TimedOut(_) | ProbeError::Cancelled => ErrorKind::TimedOut,
            ProbeError::Io(_) => ErrorKind::Io,
        };
        Failure::new(kind, subject, self.to_string())
    }
}

/// The result of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The id of the mount that the path is on, as in `/proc/self/mountinfo`.
    pub mount: u32,
    /// The path without symbolic links.
    pub canonical: PathBuf,
}

/// The result of removing a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It was removed, and its directory was flushed.
    Removed,
    /// It did not exist.
    AlreadyGone,
    /// Its directory does not exist.
    NoParent,
}

/// The result that removing a file would have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prospect {
    /// The expected result: `Removed` means "would be removed".
    pub removal: Removal,
    /// The id of the mount that its directory is on, as in `/proc/self/mountinfo`; 0 where there is no directory.
    pub mount: u32,
}

/// Uses `program`, a farewell binary, for probes; for tests, which are not farewell themselves. Only the first call
/// counts.
pub fn use_program(program: impl Into<PathBuf>) {
    let _ = PROGRAM.set(program.into());
}

/// Whether `path` exists, following symbolic links.
///
/// # Errors
/// When that cannot be known in time; see [`ProbeError`].
pub fn exists(path: &Path, deadline: Deadline, cancel: &Cancel) -> Result<bool, ProbeError> {
    Ok(ask_about("exists", path, deadline, cancel)? == b"yes")
}

/// Whether there is anything at `path` itself, even a dangling symbolic link.
///
/// # Errors
/// When that cannot be known in time; see [`ProbeError`].
pub fn remains(path: &Path, deadline: Deadline, cancel: &Cancel) -> Result<bool, ProbeError> {
    Ok(ask_about("remains", path, deadline, cancel)? == b"yes")
}

/// Opens the file or directory at `path`, which triggers an automount, stats its file system (so that the answer does
/// not come from a cache), and reads a directory's first entry.
///
/// # Errors
/// If the file system does not answer in time, or with an error; see [`ProbeError`].
pub fn probe(path: &Path, deadline: Deadline, cancel: &Cancel) -> Result<Probe, ProbeError> {
    let answer = ask_about("probe", path, deadline, cancel)?;
    let (mount, canonical) = split(&answer);
    Ok(Probe {
        mount: number(mount).ok_or_else(no_answer)?,
        canonical: path_of(canonical.ok_or_else(no_answer)?),
    })
}

/// Flushes the file system that `path` is on, and no other (syncfs(2)).
///
/// # Errors
/// If it did not end in time, or failed; see [`ProbeError`].
pub fn sync(path: &Path, deadline: Deadline, cancel: &Cancel) -> Result<(), ProbeError> {
    ask_about("sync", path, deadline, cancel).map(drop)
}

/// Removes the file at `path` (not a directory) and flushes the directory that it was in.
///
/// # Errors
/// If it could not be removed in time; see [`ProbeError`].
pub fn remove(path: &Path, deadline: Deadline, cancel: &Cancel) -> Result<Removal, ProbeError> {
    match ask_about("remove", path, deadline, cancel)?.as_slice() {
        b"removed" => Ok(Removal::Removed),
        b"gone" => Ok(Removal::AlreadyGone),
        b"no-parent" => Ok(Removal::NoParent),
        _ => Err(no_answer().into()),
    }
}

/// Checks whether [`remove`] would succeed, without removing anything.
///
/// # Errors
/// What keeps it from being removed: its directory cannot be written, or it is a directory itself; see [`ProbeError`].
pub fn prospect(path: &Path, deadline: Deadline, cancel: &Cancel) -> Result<Prospect, ProbeError> {
    let answer = ask_about("prospect", path, deadline, cancel)?;
    let (word, mount) = split(&answer);
    let removal = match word {
        b"removed" => Removal::Removed,
        b"gone" => Removal::AlreadyGone,
        b"no-parent" => Removal::NoParent,
        _ => return Err(no_answer().into()),
    };
    let mount = mount.and_then(number).unwrap_or_default();
    Ok(Prospect { removal, mount })
}

/// The first word of an answer, and what follows it.
fn split(answer: &[u8]) -> (&[u8], Option<&[u8]>) {
    match answer.iter().position(|byte| *byte == b' ') {
        Some(at) => (&answer[..at], Some(&answer[at + 1..])),
        None => (answer, None),
    }
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    str::from_utf8(text).ok()?.parse().ok()
}

fn path_of(bytes: &[u8]) -> PathBuf {
    OsString::from_vec(bytes.to_owned()).into()
}

fn no_answer() -> io::Error {
    io::Error::other("the probe process ended without an answer")
}

/// Probes one path with one verb.
fn ask_about(
    verb: &str,
    path: &Path,
    deadline: Deadline,
    cancel: &Cancel,
) -> Result<Vec<u8>, ProbeError> {
    ask(&[verb.as_ref(), path.as_os_str()], &[], deadline, cancel)
}

/// Starts a child and returns its answer.
fn ask(
    args: &[&OsStr],
    environment: &[(&str, &OsStr)],
    deadline: Deadline,
    cancel: &Cancel,
) -> Result<Vec<u8>, ProbeError> {
    let mut child = command()
        .args(args)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .spawn()?;
    let answer = listen(&mut child, deadline, cancel);
    // Without an answer it may be stuck in the kernel, so nobody waits for its end.
    if answer.is_err() {
        let _ = child.kill();
    }
    leave(child);
    let answer = answer?;
    let answer = answer.strip_suffix(b"\n").ok_or_else(no_answer)?;
    match answer.strip_prefix(b"error ") {
        None => Ok(answer.to_owned()),
        Some(code) => match number(code) {
            Some(code) => Err(io::Error::from_raw_os_error(code).into()),
            None => Err(no_answer().into()),
        },
    }
}

/// The command that starts a child.
fn command() -> Command {
    let mut left = LEFT.lock();
    left.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    drop(left);
    let program = PROGRAM
        .get()
        .map_or(Path::new("/proc/self/exe"), PathBuf::as_path);
    let mut command = Command::new(program);
    command
        .arg(FLAG)
        .env_clear()
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    process_session::detach(&mut command);
    command
}

/// Does not wait for a child that has not ended: it is reaped when the next one is started.
fn leave(mut child: Child) {
    if !matches!(child.try_wait(), Ok(Some(_))) {
        LEFT.lock().push(child);
    }
}

fn listen(child: &mut Child, deadline: Deadline, cancel: &Cancel) -> Result<Vec<u8>, ProbeError> {
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    let Some(pipe) = &mut child.stdout else {
        return Err(no_answer().into());
    };
    loop {
        let left = deadline
            .left()
            .ok_or(ProbeError::TimedOut(deadline.reason()))?;
        let mut polled = [
            PollFd::new(pipe.as_fd(), PollFlags::POLLIN),
            PollFd::new(cancel.as_fd(), PollFlags::POLLIN),
        ];
        let left = PollTimeout::try_from(millis(left)).unwrap_or(PollTimeout::MAX);
        match poll(&mut polled, left) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(ProbeError::Io(error.into())),
        }
        let [said, turned] = polled.map(|fd| fd.revents().is_some_and(|it| !it.is_empty()));
        if said {
            match pipe.read(&mut buffer)? {
                0 => return Ok(answer),
                read => answer.extend_from_slice(&buffer[..read]),
            }
        } else if turned {
            return Err(ProbeError::Cancelled);
        }
    }
}
