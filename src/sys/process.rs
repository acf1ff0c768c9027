//! Child processes that end, with everything that they started, when their time is over.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;

use self::group::Group;
use self::output::Output;
use self::wake::Wake;
use super::cancel::{Cancel, Waited};
use super::guarded::{self, Obstacle, Trouble};
use super::user;
use crate::deadline::{Deadline, Reason};
use crate::event::Stream;

mod group;
mod output;
mod wake;

pub use self::group::kill_all;

/// What a child must not inherit: systemctl and other children of systemd report their own errors and status for the
/// unit where they find the socket, a watchdog's time is the unit's, and credentials are handed on one by one, through
/// the step's `environment`.
const KEPT_FROM_CHILDREN: [&str; 4] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "CREDENTIALS_DIRECTORY",
];

/// The shortest time between TERM and KILL of a child that is told to stop.
const SHORTEST_GRACE: Duration = Duration::from_millis(100);

/// How long the rest of a group may outlive its leader unasked: a `tee` that writes its last line needs no signal.
const COURTESY: Duration = Duration::from_millis(100);

/// Kept between KILL and the deadline, to see that everything is gone and to reap.
const MARGIN: Duration = Duration::from_millis(100);

const NOT_STARTED: &str =
    "not even started, since its file system or the user database does not answer";

const NOT_ENDED: &str = "still there after SIGKILL, in a call to the kernel that does not return";

/// A child process, not started yet.
#[derive(Clone)]
pub struct Process {
    /// The program, looked for in `$PATH` where there is no slash in it, and its arguments.
    pub argv: Vec<String>,
    /// Who runs it, by name or number; the same user as this process when absent.
    pub user: Option<String>,
    /// Where it runs; where this process does when absent.
    pub working_directory: Option<PathBuf>,
    /// What is in its environment beside what this process has in its own.
    pub environment: Vec<(String, String)>,
    /// What it gets between TERM and KILL.
    pub grace: Duration,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with this exit code.
    Exited(i32),
    /// By a signal that did not come from here.
    Signalled(i32),
    /// By us, at a deadline with this reason.
    TimedOut(Reason),
    /// By us, since the run was told to stop.
    Cancelled,
}

/// What is known of a child that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// Bytes of its output that were not told.
    pub dropped: u64,
    /// Processes that it left behind when it ended by itself, and that were ended too.
    pub left_behind: usize,
    /// Where it was left, if it could not be ended in time.
    pub stuck: Option<&'static str>,
}

/// Why a child was not started.
#[derive(Debug)]
pub enum Refusal {
    /// The user database does not know its user.
    UnknownUser(String),
    /// The system's reason.
    Io(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Refusal::Io(error)
    }
}

impl Outcome {
    fn of(end: End, stuck: Option<&'static str>) -> Outcome {
        Outcome {
            end,
            dropped: 0,
            left_behind: 0,
            stuck,
        }
    }
}

/// `signal 9 (SIGKILL)`.
pub fn signal_noun(number: i32) -> String {
    match Signal::try_from(number) {
        Ok(signal) => format!("signal {number} ({signal})"),
        Err(_) => format!("signal {number}"),
    }
}

impl Process {
    /// Runs it to its end and returns at `deadline` at the latest, whatever it does. Each line of its output, masked
    /// and bounded (64 KiB a line, 1 MiB in all), is told as it comes; between its two streams there is no order.
    ///
    /// The whole process group gets TERM `grace` (at most half of the time) before the deadline, or when `cancel` is
    /// turned, and then KILL. Whoever leaves the group (a daemon) is not followed.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(
        &self,
        deadline: Deadline,
        cancel: &Cancel,
        tell: &mut dyn FnMut(Stream, &str),
    ) -> Result<Outcome, Refusal> {
        let Some(left) = deadline.left() else {
            return Ok(Outcome::of(End::TimedOut(deadline.reason()), None));
        };
        if cancel.is_cancelled() {
            return Ok(Outcome::of(End::Cancelled, None));
        }
        let wake = Wake::new()?;
        let (group, mut child) = match self.start(&wake, deadline, cancel)? {
            Ok(started) => started?,
            Err(waited) => {
                let end = match waited {
                    Waited::Elapsed => End::TimedOut(deadline.reason()),
                    Waited::Cancelled => End::Cancelled,
                };
                return Ok(Outcome::of(end, Some(NOT_STARTED)));
            }
        };
        let end_at = deadline.instant();
        let kill_at = end_at - MARGIN.min(left / 10);
        let watch = Watch {
            output: Output::of(&mut child),
            tell,
            child,
            group,
            wake,
            cancel: Some(cancel),
            grace: self.grace,
            term_at: (end_at - self.grace.min(left / 2)).min(kill_at),
            kill_at,
            deadline,
            phase: Phase::Running,
            leader_ended: None,
            left_behind: 0,
            pause: Duration::ZERO,
        };
        watch.until_end()
    }

    /// Looks whether it could be started now, and where its program is. Nothing is started.
    ///
    /// # Errors
    /// When that cannot be known in time.
    pub fn look(
        &self,
        deadline: Deadline,
        cancel: &Cancel,
    ) -> Result<Result<PathBuf, Obstacle>, Trouble> {
        let program = self.argv.first().map(OsStr::new).unwrap_or_default();
        let (user, directory) = (self.user.as_deref(), self.working_directory.as_deref());
        guarded::startable(program, &self.search(), user, directory, deadline, cancel)
    }

    /// The `$PATH` in which its program is looked for: its own one where its environment has one.
    fn search(&self) -> OsString {
        let own = self.environment.iter().rfind(|(name, _)| name == "PATH");
        own.map(|(_, value)| value.into())
            .or_else(|| env::var_os("PATH"))
            // What the C library takes where there is none.
            .unwrap_or_else(|| "/bin:/usr/bin".into())
    }

    /// Starts it in a thread of its own, which is left behind when the program or its directory is on a file system that
    /// does not answer: `exec` then blocks for ever.
    fn start(&self, wake: &Wake, deadline: Deadline, cancel: &Cancel) -> io::Result<Started> {
        let process = self.clone();
        let make = move || group::start(|| process.spawn());
        let discard = |started: Result<(Group, Child), Refusal>| {
            if let Ok((group, mut child)) = started {
                group.signal(Signal::SIGKILL);
                group.forget();
                // Nobody wants to know any more how it ended.
                let _ = child.wait();
            }
        };
        wake.wait_for(make, discard, deadline, cancel)
    }

    fn spawn(&self) -> Result<Child, Refusal> {
        let (program, arguments) = self.argv.split_first().ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "there is no program to start")
        })?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for name in KEPT_FROM_CHILDREN {
            command.env_remove(name);
        }
        if let Some(user) = &self.user
            && !user::dress(&mut command, user)?
        {
            return Err(Refusal::UnknownUser(user.clone()));
        }
        if let Some(directory) = &self.working_directory {
            command.current_dir(directory);
        }
        let environment = self.environment.iter().map(|(name, value)| (name, value));
        Ok(command.envs(environment).spawn()?)
    }
}

type Started = Result<Result<(Group, Child), Refusal>, Waited>;

/// A child that runs, and what is known of it.
struct Watch<'a> {
    child: Child,
    group: Group,
    output: Output,
    tell: &'a mut dyn FnMut(Stream, &str),
    wake: Wake,
    /// The switch, until it was turned.
    cancel: Option<&'a Cancel>,
    grace: Duration,
    term_at: Instant,
    kill_at: Instant,
    deadline: Deadline,
    phase: Phase,
    leader_ended: Option<Instant>,
    left_behind: usize,
    /// Until the next look at a group that nobody rings a bell for.
    pause: Duration,
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Running,
    /// It was sent TERM: for this end, or because its leader had come to its own.
    Terminating(Option<End>),
    /// It was sent KILL.
    Killing(Option<End>),
}

impl Watch<'_> {
    fn until_end(mut self) -> Result<Outcome, Refusal> {
        loop {
            let now = Instant::now();
            let running = self.running(now);
            if running == 0 {
                return self.reap();
            }
            if now >= self.deadline.instant() {
                return Ok(self.give_up());
            }
            self.advance(now, running);
            let until = self.next_look(now);
            let fds = [
                self.output.pipe(Stream::Out),
                self.output.pipe(Stream::Err),
                self.cancel.map(AsFd::as_fd),
            ];
            let [out, err, turned] = self.wake.wait(fds, until);
            if out {
                self.output.read(Stream::Out, self.tell);
            }
            if err {
                self.output.read(Stream::Err, self.tell);
            }
            if turned {
                let patience = self.cancel.take().map_or(Duration::ZERO, Cancel::patience);
                let now = Instant::now();
                let left = self.deadline.instant().saturating_duration_since(now);
                let grace = self.grace.min(left / 2).min(patience).max(SHORTEST_GRACE);
                self.kill_at = self.kill_at.min(now + grace);
            }
        }
    }

    /// How many of its processes still run. The group is counted when its leader has ended.
    fn running(&mut self, now: Instant) -> usize {
        if self.leader_ended.is_none() && self.group.leader_has_ended() {
            self.leader_ended = Some(now);
        }
        match self.leader_ended {
            Some(_) => self.group.running(),
            None => 1,
        }
    }

    /// Sends the signal that is due.
    fn advance(&mut self, now: Instant, running: usize) {
        match self.phase {
            Phase::Running => match self.leader_ended {
                Some(ended) if now >= ended + COURTESY || now >= self.term_at => {
                    self.left_behind = running;
                    self.kill_at = self.kill_at.min(now + self.grace);
                    self.terminate(None);
                }
                Some(_) => {}
                None if self.cancel.is_none() => self.terminate(Some(End::Cancelled)),
                None if now >= self.term_at => {
                    self.terminate(Some(End::TimedOut(self.deadline.reason())));
                }
                None => {}
            },
            Phase::Terminating(end) if now >= self.kill_at => {
                self.group.signal(Signal::SIGKILL);
                self.phase = Phase::Killing(end);
                self.pause = Duration::ZERO;
            }
            Phase::Terminating(_) => {}
            Phase::Killing(_) => self.group.signal(Signal::SIGKILL),
        }
    }

    fn terminate(&mut self, end: Option<End>) {
        self.group.signal(Signal::SIGTERM);
        // A stopped process sees its TERM only when it goes on.
        self.group.signal(Signal::SIGCONT);
        self.phase = Phase::Terminating(end);
        self.pause = Duration::ZERO;
    }

    fn next_look(&mut self, now: Instant) -> Instant {
        let due = match self.phase {
            Phase::Running => self.term_at,
            Phase::Terminating(_) => self.kill_at,
            Phase::Killing(_) => self.deadline.instant(),
        };
        // The leader's end rings the bell; those of others are seen only by looking.
        if self.leader_ended.is_none() {
            return due;
        }
        self.pause = (self.pause * 2).clamp(Duration::from_millis(5), Duration::from_millis(80));
        due.min(now + self.pause)
    }

    fn reap(mut self) -> Result<Outcome, Refusal> {
        let dropped = self.output.finish(self.tell);
        self.group.forget();
        let status = self.child.wait()?;
        let own = || match (status.code(), status.signal()) {
            (Some(code), _) => End::Exited(code),
            (None, signal) => End::Signalled(signal.unwrap_or_default()),
        };
        let end = match self.phase {
            Phase::Terminating(Some(end)) | Phase::Killing(Some(end)) => end,
            _ => own(),
        };
        Ok(Outcome {
            end,
            dropped,
            left_behind: self.left_behind,
            stuck: None,
        })
    }

    /// Leaves it where it is. It stays in the table of live groups, and its leader's number is not given away.
    fn give_up(mut self) -> Outcome {
        let end = match self.phase {
            Phase::Terminating(Some(end)) | Phase::Killing(Some(end)) => end,
            _ => match self.group.leader_status() {
                Some(WaitStatus::Exited(_, code)) => End::Exited(code),
                Some(WaitStatus::Signaled(_, signal, _)) => End::Signalled(signal as i32),
                _ => End::TimedOut(self.deadline.reason()),
            },
        };
        Outcome {
            end,
            dropped: self.output.finish(self.tell),
            left_behind: self.left_behind,
            stuck: Some(NOT_ENDED),
        }
    }
}
