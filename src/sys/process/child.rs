//! A child that runs: its output, its signals, and its end.

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

/// The shortest time between TERM and KILL of a child that is told to stop.
const SHORTEST_GRACE: Duration = Duration::from_millis(100);

/// Kept between KILL and the deadline, to see that everything is gone and to reap.
const MARGIN: Duration = Duration::from_millis(100);

const NOT_ENDED: &str = "still there after SIGKILL, in a call to the kernel that does not return";

/// A child that runs, and what is known of it.
pub(super) struct RunningChild<'a> {
    child: Child,
    group: Group,
    output: Output,
    tell: &'a mut dyn FnMut(Stream, &str),
    wake: ExitWaiter,
    /// The switch, until it was turned.
    cancel: Option<&'a Cancel>,
    grace: Duration,
    term_at: Instant,
    kill_at: Instant,
    deadline: Deadline,
    /// When nobody waits for it any more: at the deadline, unless KILL is late.
    give_up_at: Instant,
    phase: Phase,
    leader_has_ended: bool,
    leave_behind: bool,
    stayed: Vec<Member>,
    /// Until the next look at a group that nobody rings a bell for.
    pause: Duration,
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Running,
    /// It was sent TERM, for this end.
    Terminating(End),
    /// It was sent KILL.
    Killing(End),
}

impl<'a> RunningChild<'a> {
    /// `time`: the deadline, and what was left until then when the child was to be started.
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

    /// Whether one of its processes still runs. The group is looked at when its leader has ended.
    fn is_running(&mut self) -> bool {
        self.leader_has_ended |= self.group.leader_has_ended();
        !self.leader_has_ended || self.group.is_running()
    }

    /// Sends the signal that is due.
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
        // A stopped process sees its TERM only when it goes on.
        self.group.signal(Signal::SIGCONT);
        self.phase = Phase::Terminating(end);
        self.pause = Duration::ZERO;
    }

    /// Sends KILL after the deadline, where this process was held up until then (by a busy machine or a debugger, say), and
    /// gives it time to take effect.
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
        // The leader's end rings the bell; those of others are seen only by looking.
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
            // Where others were still there, it had ended by itself before.
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

    /// Leaves the others of its group where they are. They may go on writing to its pipes, which are read as long as this
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

    /// Leaves it where it is. It stays in the table of live groups, and its leader's number is not given away.
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
