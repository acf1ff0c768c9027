//! A running child: its output, its signals, and its end.

use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;

use super::group::Group;
use super::output::Output;
use super::poll::ExitWaiter;
use super::{End, Member, Process, ProcessOutcome, Refusal};
use crate::model::deadline::Deadline;
use crate::model::event::Stream;
use crate::sys::cancel::Cancel;

/// The shortest time between TERM and KILL.
const SHORTEST_GRACE: Duration = Duration::from_millis(100);

/// Reserved between KILL and the deadline, for seeing that everything is gone and for reaping.
const MARGIN: Duration = Duration::from_millis(100);

const NOT_ENDED: &str = "still running after SIGKILL, in a system call that does not return";

/// A running child and its state.
pub(super) struct RunningChild<'a> {
    child: Child,
    group: Group,
    output: Output,
    tell: &'a mut dyn FnMut(Stream, &str),
    wake: ExitWaiter,
    /// The cancellation, until it has been handled.
    cancel: Option<&'a Cancel>,
    grace: Duration,
    term_at: Instant,
    kill_at: Instant,
    deadline: Deadline,
    /// When to give up on it: at the deadline, unless KILL was late.
    give_up_at: Instant,
    phase: Phase,
    leader_has_ended: bool,
    leave_behind: bool,
    stayed: Vec<Member>,
    /// The pause until the next check of the group, whose members' ends are not signalled.
    pause: Duration,
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Running,
    /// It was sent TERM for this reason.
    Terminating(End),
    /// It was sent KILL.
    Killing(End),
}

impl<'a> RunningChild<'a> {
    /// `time`: the deadline, and the time that was left when the child was to be started.
    pub(super) fn new(
        process: &Process,
        mut child: Child,
        group: Group,
        wake: ExitWaiter,
        time: (Deadline, Duration),
        cancel: &'a Cancel,
        tell: &'a mut dyn FnMut(Stream, &str),
    ) -> RunningChild<'a> {
        let (deadline, left) = time;
        let end_at = deadline.instant();
        let kill_at = end_at - MARGIN.min(left / 10);
        RunningChild {
            output: Output::of(&mut child),
            tell,
            child,
            group,
            wake,
            cancel: Some(cancel),
            grace: process.grace,
            term_at: (end_at - process.grace.min(left / 2)).min(kill_at),
            kill_at,
            deadline,
            give_up_at: end_at,
            phase: Phase::Running,
            leader_has_ended: false,
            leave_behind: process.leave_behind,
            stayed: Vec::new(),
            pause: Duration::ZERO,
        }
    }

    pub(super) fn until_end(mut self) -> Result<ProcessOutcome, Refusal> {
        loop {
            if !self.is_running() {
                return self.reap();
            }
            if self.leave_behind && self.leader_has_ended && self.phase == Phase::Running {
                return self.leave();
            }
            let now = Instant::now();
            if now >= self.give_up_at {
                if matches!(self.phase, Phase::Killing(_)) {
                    return Ok(self.give_up());
                }
                self.kill_late(now);
            }
            self.advance(now);
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

    /// Whether one of its processes still runs. The group is checked once its leader has ended.
    fn is_running(&mut self) -> bool {
        self.leader_has_ended |= self.group.leader_has_ended();
        !self.leader_has_ended || self.group.is_running()
    }

    /// Sends a signal that is due.
    fn advance(&mut self, now: Instant) {
        match self.phase {
            Phase::Running if self.cancel.is_none() => self.terminate(End::Cancelled),
            Phase::Running if now >= self.term_at => {
                self.terminate(End::TimedOut(self.deadline.reason()));
            }
            Phase::Running => {}
            Phase::Terminating(end) if now >= self.kill_at => {
                self.group.signal(Signal::SIGKILL);
                self.phase = Phase::Killing(end);
                self.pause = Duration::ZERO;
            }
            Phase::Terminating(_) => {}
            Phase::Killing(_) => self.group.signal(Signal::SIGKILL),
        }
    }

    fn terminate(&mut self, end: End) {
        if self.leader_has_ended {
            self.stayed = self.group.members();
        }
        self.group.signal(Signal::SIGTERM);
        // A stopped process handles TERM only after SIGCONT.
        self.group.signal(Signal::SIGCONT);
        self.phase = Phase::Terminating(end);
        self.pause = Duration::ZERO;
    }

    /// Sends KILL after the deadline if this process was delayed until then (by a busy machine or a debugger, for
    /// example), and gives it time to take effect.
    fn kill_late(&mut self, now: Instant) {
        if self.phase == Phase::Running {
            self.terminate(match self.cancel {
                None => End::Cancelled,
                Some(_) => End::TimedOut(self.deadline.reason()),
            });
        }
        self.kill_at = now;
        self.give_up_at = now + MARGIN;
    }

    fn next_look(&mut self, now: Instant) -> Instant {
        let due = match self.phase {
            Phase::Running => self.term_at,
            Phase::Terminating(_) => self.kill_at,
            Phase::Killing(_) => self.give_up_at,
        };
        // Only the leader's end is signalled; others have to be polled.
        if !self.leader_has_ended {
            return due;
        }
        self.pause = (self.pause * 2).clamp(Duration::from_millis(5), Duration::from_millis(80));
        due.min(now + self.pause)
    }

    fn reap(mut self) -> Result<ProcessOutcome, Refusal> {
        let dropped = self.output.finish(self.tell);
        self.group.forget();
        let own = own_end(self.child.wait()?);
        let (end, leader) = match self.phase {
            Phase::Running => (own, None),
            // If others were still there, it had ended by itself before.
            Phase::Terminating(end) | Phase::Killing(end) => {
                (end, (!self.stayed.is_empty()).then_some(own))
            }
        };
        Ok(ProcessOutcome {
            end,
            leader,
            stayed: self.stayed,
            dropped,
            stuck: None,
        })
    }

    /// Leaves the others of its group running. They may go on writing to its pipes, which are read as long as this
    /// process lives.
    fn leave(mut self) -> Result<ProcessOutcome, Refusal> {
        self.stayed = self.group.members();
        let dropped = self.output.finish(self.tell);
        self.output.drain();
        self.group.forget();
        let end = own_end(self.child.wait()?);
        Ok(ProcessOutcome {
            end,
            leader: None,
            stayed: self.stayed,
            dropped,
            stuck: None,
        })
    }

    /// Gives up on it. It stays in the table of live groups, and its leader is not reaped, so that its pid is not
    /// reused.
    fn give_up(mut self) -> ProcessOutcome {
        let leader = match self.group.leader_status() {
            Some(WaitStatus::Exited(_, code)) => Some(End::Exited(code)),
            Some(WaitStatus::Signaled(_, signal, _)) => Some(End::Signalled(signal as i32)),
            _ => None,
        };
        let end = match self.phase {
            Phase::Terminating(end) | Phase::Killing(end) => end,
            Phase::Running => leader.unwrap_or(End::TimedOut(self.deadline.reason())),
        };
        ProcessOutcome {
            end,
            leader: leader.filter(|_| !self.stayed.is_empty()),
            dropped: self.output.finish(self.tell),
            stayed: self.stayed,
            stuck: Some(NOT_ENDED),
        }
    }
}

fn own_end(status: ExitStatus) -> End {
    match (status.code(), status.signal()) {
        (Some(code), _) => End::Exited(code),
        (None, signal) => End::Signalled(signal.unwrap_or_default()),
    }
}
