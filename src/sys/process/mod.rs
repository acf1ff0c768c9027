//! Child processes that are ended, with everything they started, at their deadline.

mod child;
mod environment;
mod group;
mod inheritance;
mod output;
mod poll;
mod program;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;

use self::child::RunningChild;
use self::group::Group;
use self::poll::ExitWaiter;
use super::cancel::{Cancel, Waited};
use super::probe::{self, Obstacle, ProbeError};
use super::{process_session, user};
use crate::model::deadline::{Deadline, Reason};
use crate::model::event::Stream;

pub use self::group::kill_all;
pub use self::inheritance::prepare;

/// The pause between two attempts to start a child while descriptors, processes or threads are exhausted.
const SHORTAGE: Duration = Duration::from_millis(50);

const NOT_STARTED: &str = "not started: its file system or the user database does not answer";

/// A child process to start.
#[derive(Clone, Default)]
pub struct Process {
    /// The program, searched for in `$PATH` if it has no slash, and its arguments.
    pub argv: Vec<String>,
    /// The user who runs it, by name or number; default: this process' user.
    pub user: Option<String>,
    /// Its working directory; default: this process' directory.
    pub working_directory: Option<PathBuf>,
    /// Variables added to this process' environment or, with `user`, to a fresh one.
    pub environment: Vec<(String, String)>,
    /// Whether neither it nor anything it starts can gain privileges, for example by a set-user-ID program.
    pub no_new_privileges: bool,
    /// The time between TERM and KILL.
    pub grace: Duration,
    /// Whether its background processes may stay when it has ended by itself. Otherwise it has ended when its whole
    /// process group has.
    pub leave_behind: bool,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with this exit code.
    Exited(i32),
    /// By a signal that farewell did not send.
    Signalled(i32),
    /// By farewell, at a deadline with this reason.
    TimedOut(Reason),
    /// By farewell, since the run was told to stop.
    Cancelled,
}

/// As the cause of a failure: `exited with 3`.
impl fmt::Display for End {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Exited(code) => write!(out, "exited with {code}"),
            End::Signalled(number) => write!(out, "ended by {}", signal_noun(*number)),
            End::TimedOut(reason) => {
                write!(out, "had not ended when the {} was over", reason.describe())
            }
            End::Cancelled => out.write_str("told to stop"),
        }
    }
}

/// The outcome of a child that has ended.
#[derive(Clone, Debug)]
pub struct ProcessOutcome {
    /// How it and its group ended.
    pub end: End,
    /// How the leader ended, if others of its group were still there and had to be ended.
    pub leader: Option<End>,
    /// The processes of its group that were still there at TERM, or when they were left behind.
    pub stayed: Vec<Member>,
    /// Bytes of its output that were dropped.
    pub dropped: u64,
    /// Where it is stuck, if it could not be ended in time.
    pub stuck: Option<&'static str>,
}

/// A process of a child's group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub pid: i32,
    /// Its name in the kernel: the first 15 bytes of its program's name.
    pub name: String,
}

/// Why a child was not started.
#[derive(Debug)]
pub enum Refusal {
    /// The user database has no such user.
    UnknownUser(String),
    /// The system's reason.
    Io(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Refusal::Io(error)
    }
}

impl ProcessOutcome {
    fn of(end: End, stuck: Option<&'static str>) -> ProcessOutcome {
        ProcessOutcome {
            end,
            leader: None,
            stayed: Vec::new(),
            dropped: 0,
            stuck,
        }
    }
}

/// `signal 9 (SIGKILL)`.
fn signal_noun(number: i32) -> String {
    match Signal::try_from(number) {
        Ok(signal) => format!("signal {number} ({signal})"),
        Err(_) => format!("signal {number}"),
    }
}

impl Process {
    /// Runs it to its end, and returns at `deadline` at the latest. Calls back with each line of its output, masked and
    /// bounded (64 KiB a line, 1 MiB in all); the order between its two streams is not kept.
    ///
    /// It has ended when its whole process group has, unless it may leave processes behind. The group gets TERM `grace`
    /// (at most half of the time) before the deadline, or on cancellation, and then KILL. A process that leaves the
    /// group (a daemon) is not followed. While descriptors, processes or threads are exhausted, starting it is retried.
    pub fn run(
        &self,
        deadline: Deadline,
        cancel: &Cancel,
        tell: &mut dyn FnMut(Stream, &str),
    ) -> Result<ProcessOutcome, Refusal> {
        let Some(left) = deadline.left() else {
            return Ok(ProcessOutcome::of(End::TimedOut(deadline.reason()), None));
        };
        if cancel.is_cancelled() {
            return Ok(ProcessOutcome::of(End::Cancelled, None));
        }
        let (wake, group, child) = match self.start_patiently(deadline, cancel)? {
            Ok(started) => started,
            Err(waited) => {
                let end = match waited {
                    Waited::Elapsed => End::TimedOut(deadline.reason()),
                    Waited::Cancelled => End::Cancelled,
                };
                return Ok(ProcessOutcome::of(end, Some(NOT_STARTED)));
            }
        };
        RunningChild::new(self, child, group, wake, (deadline, left), cancel, tell).until_end()
    }

    /// Starts it, retrying while resources are exhausted: other steps release theirs.
    fn start_patiently(&self, deadline: Deadline, cancel: &Cancel) -> Result<Started, Refusal> {
        loop {
            let started = ExitWaiter::new().map_err(Refusal::Io).and_then(|wake| {
                let started = self.start(&wake, deadline, cancel)?;
                Ok(match started {
                    Ok(started) => started.map(|(group, child)| Ok((wake, group, child)))?,
                    Err(waited) => Err(waited),
                })
            });
            let has_time = || deadline.left().is_some_and(|left| left > SHORTAGE);
            match started {
                Err(Refusal::Io(error))
                    if is_shortage(&error)
                        && has_time()
                        && cancel.sleep(SHORTAGE) == Waited::Elapsed => {}
                started => return started,
            }
        }
    }

    /// Checks whether it could be started now, and where its program is. Nothing is started.
    pub fn check(
        &self,
        deadline: Deadline,
        cancel: &Cancel,
    ) -> Result<Result<PathBuf, Obstacle>, ProbeError> {
        let program = self.argv.first().map(OsStr::new).unwrap_or_default();
        let (user, directory) = (self.user.as_deref(), self.working_directory.as_deref());
        probe::startable(program, &self.search(), user, directory, deadline, cancel)
    }

    /// The `$PATH` in which its program is searched for: the one in its environment, if set.
    fn search(&self) -> OsString {
        let own = self.environment.iter().rfind(|(name, _)| name == "PATH");
        own.map_or_else(environment::search, |(_, value)| value.into())
    }

    /// Starts it on a thread of its own, which is abandoned if the program or its directory is on a file system that
    /// does not answer: `exec` then blocks for ever.
    fn start(
        &self,
        wake: &ExitWaiter,
        deadline: Deadline,
        cancel: &Cancel,
    ) -> io::Result<Result<Spawned, Waited>> {
        let process = self.clone();
        let make = move || group::start(|| process.spawn());
        let discard = |started: Result<(Group, Child), Refusal>| {
            if let Ok((group, mut child)) = started {
                group.signal(Signal::SIGKILL);
                group.forget();
                // Nobody waits for its end any more.
                let _ = child.wait();
            }
        };
        wake.wait_for(make, discard, deadline, cancel)
    }

    fn spawn(&self) -> Result<Child, Refusal> {
        let (first, arguments) = self.argv.split_first().ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "there is no program to start")
        })?;
        let mut command = Command::new(first);
        command
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        process_session::detach(&mut command);
        inheritance::give_back(&mut command);
        match &self.user {
            None => environment::pass_on(&mut command),
            Some(user) => {
                environment::begin_anew(&mut command);
                if !user::dress(&mut command, user)? {
                    return Err(Refusal::UnknownUser(user.clone()));
                }
            }
        }
        if self.no_new_privileges {
            user::forgo_privileges(&mut command);
        }
        if let Some(directory) = &self.working_directory {
            command.current_dir(directory);
        }
        let environment = self.environment.iter().map(|(name, value)| (name, value));
        command.envs(environment);
        program::execute(&mut command, &self.search())?;
        Ok(command.spawn()?)
    }
}

/// The result of starting a child.
type Spawned = Result<(Group, Child), Refusal>;

/// A started child, or how the wait for it ended.
type Started = Result<(ExitWaiter, Group, Child), Waited>;

/// Whether an error means exhausted descriptors, processes or threads.
fn is_shortage(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(code, Some(Errno::EMFILE | Errno::ENFILE | Errno::EAGAIN))
}
