//! Events of a run: the scheduler and the steps emit them, the reporters show them.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::model::error::Failure;
use crate::model::intent::{Intent, IntentId};
use crate::model::machine::Machine;
use crate::model::secrets::mask;
use crate::model::trigger::Trigger;
use crate::model::word_enum::word_enum;

word_enum! {
    /// The state of a step.
    pub enum State {
        /// Not begun.
        Pending = "pending",
        /// Begun and not ended.
        Running = "running",
        /// Its effect was verified.
        Done = "done",
        /// There was nothing left to do.
        AlreadyDone = "already-done",
        /// Left out by `when`, `if-path` or `if-unit`.
        Skipped = "skipped",
        /// Its last attempt failed.
        Failed = "failed",
        /// It was still running at the end of its time, or of the run's.
        TimedOut = "timed-out",
        /// It did not begin, or was ended, because the run was told to stop.
        Cancelled = "cancelled",
    }
}

impl State {
    /// Whether the step has ended.
    pub fn is_final(self) -> bool {
        !matches!(self, State::Pending | State::Running)
    }

    /// Whether the step ended as it should.
    pub fn is_good(self) -> bool {
        matches!(self, State::Done | State::AlreadyDone | State::Skipped)
    }
}

word_enum! {
    /// How a run ended.
    pub enum Result {
        /// Every step is done or was skipped by its conditions.
        Ok = "ok",
        /// A step failed.
        Failed = "failed",
        /// The budget was spent or the run was told to stop; wins over `Failed`.
        CutShort = "cut-short",
    }
}

/// What a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A farewell.
    Farewell,
    /// To undo what earlier runs left. It has no trigger of its own, and no record.
    Undo,
}

/// One step of the plan, as reporters show it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StepName {
    /// The step's unique name.
    pub name: String,
    /// What it does.
    pub kind: String,
}

/// A file that was copied away.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Copied {
    /// Its name at the target.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// The SHA-256 of what was copied, in hexadecimal.
    pub sha256: String,
}

/// Which of a child's streams a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// Something that happened. Steps are named by their index in the plan.
#[derive(Clone, Debug)]
pub enum EventKind {
    /// The run begins; the first event of every run.
    RunStarted {
        /// The run's id.
        run: String,
        /// The run's purpose.
        purpose: Purpose,
        /// The machine that it takes place on.
        machine: Machine,
        /// The run's trigger.
        trigger: Trigger,
        /// By the wall clock.
        started: SystemTime,
        /// The budget of the whole run.
        budget: Duration,
        /// The part of it that is kept for `always` steps.
        reserve: Duration,
        /// The plan's steps, in its order.
        steps: Arc<[StepName]>,
    },
    /// A step begins.
    StepStarted {
        step: usize,
        /// The time limit from now on.
        left: Duration,
    },
    /// An attempt failed and another one follows.
    AttemptFailed {
        step: usize,
        /// The attempt that failed, from 1.
        attempt: u32,
        /// Why.
        failure: Failure,
        /// When the next one begins, from now.
        again: Duration,
    },
    /// A step reports what it waits for.
    Waiting {
        step: usize,
        /// What it waits for: "3 connections on port 8080".
        what: String,
    },
    /// A step is about to change something that outlives a reboot.
    Intended {
        /// Which intent of the run.
        mark: IntentId,
        /// What it is.
        intent: Intent,
    },
    /// An intent needs no undo any more: the peer refused it, or the run undid it itself.
    Settled {
        /// Which intent of the run.
        mark: IntentId,
    },
    /// A detail of what a step does.
    Noted {
        step: usize,
        /// One clause.
        text: String,
    },
    /// A step has copied a file away.
    Copied { step: usize, copy: Copied },
    /// A child of a step wrote a line.
    Output {
        step: usize,
        /// Where.
        stream: Stream,
        /// The line without its end.
        line: String,
    },
    /// A step ends, or is left out.
    StepFinished {
        step: usize,
        /// Its last state.
        state: State,
        /// How many attempts were made; 0 when it was not begun.
        attempts: u32,
        /// How long it ran.
        took: Duration,
        /// Why it failed.
        failure: Option<Failure>,
        /// Why it was skipped or cancelled, or a remark on a step that is done.
        reason: Option<String>,
    },
    /// Something that the operator should know and that is not a step's failure.
    Warning {
        /// One sentence.
        message: String,
    },
    /// The run ends; the last event of every run that was not cut off.
    RunFinished {
        /// How.
        result: Result,
        /// Why it was cut short, if it was.
        reason: Option<String>,
    },
}

/// What happened, and when.
#[derive(Clone, Debug)]
pub struct Event {
    /// The time since the run's start, by the monotonic clock.
    pub at: Duration,
    /// What happened.
    pub kind: EventKind,
}

impl Event {
    /// Makes an event, with the secrets in its texts masked. Events are masked only here: reporters show them as they
    /// are.
    pub fn new(at: Duration, mut kind: EventKind) -> Event {
        kind.mask();
        Event { at, kind }
    }
}

impl EventKind {
    fn mask(&mut self) {
        match self {
            EventKind::RunStarted { .. }
            | EventKind::StepStarted { .. }
            // It contains no secret, and its undo needs it unchanged.
            | EventKind::Intended { .. }
            | EventKind::Settled { .. } => {}
            EventKind::AttemptFailed { failure, .. } => mask_failure(failure),
            EventKind::Copied { copy, .. } => mask_text(&mut copy.name),
            EventKind::Waiting { what: text, .. }
            | EventKind::Noted { text, .. }
            | EventKind::Output { line: text, .. }
            | EventKind::Warning { message: text } => mask_text(text),
            EventKind::StepFinished {
                failure, reason, ..
            } => {
                failure.iter_mut().for_each(mask_failure);
                reason.iter_mut().for_each(mask_text);
            }
            EventKind::RunFinished { reason, .. } => reason.iter_mut().for_each(mask_text),
        }
    }
}

fn mask_failure(failure: &mut Failure) {
    mask_text(&mut failure.subject);
    mask_text(&mut failure.cause);
}

fn mask_text(text: &mut String) {
    if let Cow::Owned(masked) = mask(text) {
        *text = masked;
    }
}
