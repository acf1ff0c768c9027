//! One event as one line of JSON.
//!
//! Every line has `at_usec` (from the run's start, by the monotonic clock) and `event`; the other members depend on the
//! event and are documented at [`Line`]. Unknown members and events are passed over, so that an older farewell can read
//! the record of a newer one.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::error::{ErrorKind, Failure};
use crate::model::event::{Copied, Event, EventKind, StepName};
use crate::model::intent::{Intent, IntentId};
use crate::model::machine::Machine;
use crate::sys::clock::rfc3339;

/// The members that a line can have.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Line {
    /// Microseconds since the run's start.
    pub(super) at_usec: u64,
    /// run-started, step-started, attempt-failed, waiting, intended, settled, copied, step-finished, warning or run-finished.
    pub(super) event: String,
    /// The run's id (run-started).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) run: Option<String>,
    /// The machine: `id` (machine-id) and `product` (UUID), as far as they are known (run-started).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) machine: Option<Machine>,
    /// The trigger (run-started).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) trigger: Option<String>,
    /// The wall clock at the start, RFC 3339 (run-started).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) started: Option<String>,
    /// The budget (run-started).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) budget_usec: Option<u64>,
    /// The reserve (run-started).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reserve_usec: Option<u64>,
    /// The plan's steps (run-started).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) steps: Option<Vec<Step>>,
    /// The step's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) step: Option<String>,
    /// The step's kind, which knows how to undo what it intends (intended).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<String>,
    /// Which of the step's intents, from 0 (intended, settled).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) number: Option<u32>,
    /// What is to be undone: `member`, `noun` (for people) and `what` (the member's own terms) (intended).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) intent: Option<Intent>,
    /// What the step may take from now on (step-started).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) left_usec: Option<u64>,
    /// The attempt that failed (attempt-failed).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) attempt: Option<u32>,
    /// When the next attempt begins, from now (attempt-failed).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) again_usec: Option<u64>,
    /// The last state (step-finished).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) state: Option<String>,
    /// Attempts made (step-finished).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) attempts: Option<u32>,
    /// How long it ran (step-finished).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) duration_usec: Option<u64>,
    /// What went wrong (attempt-failed, step-finished).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<Error>,
    /// Why it was skipped, cancelled or cut short, or a remark (step-finished, run-finished).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    /// A file that was copied: `name`, `bytes` and `sha256` (copied).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) copy: Option<Copied>,
    /// What it waits for, or what the warning says (waiting, warning).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<String>,
    /// The result (run-finished).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) result: Option<String>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) kind: String,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Error {
    word: String,
    noun: String,
    cause: String,
    passing: bool,
}

impl From<&Failure> for Error {
    fn from(failure: &Failure) -> Error {
        Error {
            word: failure.kind.as_str().to_owned(),
            noun: failure.subject.clone(),
            cause: failure.cause.clone(),
            passing: failure.retryable,
        }
    }
}

impl Error {
    pub(super) fn into_failure(self) -> Failure {
        Failure {
            kind: ErrorKind::parse(&self.word).unwrap_or(ErrorKind::Io),
            subject: self.noun,
            cause: self.cause,
            retryable: self.passing,
        }
    }
}

/// Microseconds, as records and the journal count time.
pub fn usec(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Writes the lines of one record.
#[derive(Default)]
pub struct Writer {
    names: Arc<[StepName]>,
}

impl Writer {
    /// The line of an event, with its end; `None` for events that records do not keep (a child's output is the
    /// journal's).
    pub fn line(&mut self, event: &Event) -> Option<Vec<u8>> {
        let named = |kind: &str, step: usize| Line {
            event: kind.into(),
            step: self.names.get(step).map(|step| step.name.clone()),
            ..Line::default()
        };
        let mut line = match &event.kind {
            EventKind::RunStarted {
                run,
                purpose: _,
                machine,
                trigger,
                started,
                budget,
                reserve,
                steps,
            } => {
                self.names = steps.clone();
                let steps = steps.iter().map(|step| Step {
                    name: step.name.clone(),
                    kind: step.kind.clone(),
                });
                Line {
                    event: "run-started".into(),
                    run: Some(run.clone()),
                    machine: Some(machine.clone()),
                    trigger: Some(trigger.to_string()),
                    started: Some(rfc3339(*started)),
                    budget_usec: Some(usec(*budget)),
                    reserve_usec: Some(usec(*reserve)),
                    steps: Some(steps.collect()),
                    ..Line::default()
                }
            }
            EventKind::StepStarted { step, left } => Line {
                left_usec: Some(usec(*left)),
                ..named("step-started", *step)
            },
            EventKind::AttemptFailed {
                step,
                attempt,
                failure,
                again,
            } => Line {
                attempt: Some(*attempt),
                error: Some(failure.into()),
                again_usec: Some(usec(*again)),
                ..named("attempt-failed", *step)
            },
            EventKind::Waiting { step, what } => Line {
                message: Some(what.clone()),
                ..named("waiting", *step)
            },
            EventKind::Intended { mark, intent } => Line {
                kind: self.names.get(mark.step).map(|step| step.kind.clone()),
                number: Some(mark.number),
                intent: Some(intent.clone()),
                ..named("intended", mark.step)
            },
            EventKind::Settled {
                mark: IntentId { step, number },
            } => Line {
                number: Some(*number),
                ..named("settled", *step)
            },
            EventKind::Copied { step, copy } => Line {
                copy: Some(copy.clone()),
                ..named("copied", *step)
            },
            EventKind::Noted { .. } | EventKind::Output { .. } => return None,
            EventKind::StepFinished {
                step,
                state,
                attempts,
                took,
                failure,
                reason,
            } => Line {
                state: Some(state.as_str().into()),
                attempts: Some(*attempts),
                duration_usec: Some(usec(*took)),
                error: failure.as_ref().map(Error::from),
                reason: reason.clone(),
                ..named("step-finished", *step)
            },
            EventKind::Warning { message } => Line {
                event: "warning".into(),
                message: Some(message.clone()),
                ..Line::default()
            },
            EventKind::RunFinished { result, reason } => Line {
                event: "run-finished".into(),
                result: Some(result.as_str().into()),
                reason: reason.clone(),
                ..Line::default()
            },
        };
        line.at_usec = usec(event.at);
        let mut bytes = serde_json::to_vec(&line).ok()?;
        bytes.push(b'\n');
        Some(bytes)
    }
}
