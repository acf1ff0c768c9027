//! One event as one line of JSON, and back.
//!
//! Every line has `at_usec` (from the run's start, by the monotonic clock) and `event`; the other members depend on the
//! event and are documented at [`Line`]. Unknown members and events are passed over, so that an older farewell can read
//! the record of a newer one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::{Event, Happening, Result, State, StepName};
use crate::failure::{Failure, Word};
use crate::sys::clock::{parse_rfc3339, rfc3339};
use crate::trigger::Trigger;

/// The members that a line can have.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Line {
    /// Microseconds since the run's start.
    at_usec: u64,
    /// run-started, step-started, attempt-failed, waiting, step-finished, warning or run-finished.
    event: String,
    /// The run's id (run-started).
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<String>,
    /// The trigger (run-started).
    #[serde(skip_serializing_if = "Option::is_none")]
    trigger: Option<String>,
    /// The wall clock at the start, RFC 3339 (run-started).
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<String>,
    /// The budget (run-started).
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_usec: Option<u64>,
    /// The reserve (run-started).
    #[serde(skip_serializing_if = "Option::is_none")]
    reserve_usec: Option<u64>,
    /// The plan's steps (run-started).
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<Vec<Step>>,
    /// The step's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<String>,
    /// What the step may take from now on (step-started).
    #[serde(skip_serializing_if = "Option::is_none")]
    left_usec: Option<u64>,
    /// The attempt that failed (attempt-failed).
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    /// When the next attempt begins, from now (attempt-failed).
    #[serde(skip_serializing_if = "Option::is_none")]
    again_usec: Option<u64>,
    /// The last state (step-finished).
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    /// Attempts made (step-finished).
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
    /// How long it ran (step-finished).
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_usec: Option<u64>,
    /// What went wrong (attempt-failed, step-finished).
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Error>,
    /// Why it was skipped, cancelled or cut short, or a remark (step-finished, run-finished).
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// What it waits for, or what the warning says (waiting, warning).
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    /// The result (run-finished).
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Step {
    name: String,
    kind: String,
}

#[derive(Serialize, Deserialize)]
struct Error {
    word: String,
    noun: String,
    cause: String,
    passing: bool,
}

impl From<&Failure> for Error {
    fn from(failure: &Failure) -> Error {
        Error {
            word: failure.word.as_str().to_owned(),
            noun: failure.noun.clone(),
            cause: failure.cause.clone(),
            passing: failure.passing,
        }
    }
}

impl Error {
    fn into_failure(self) -> Failure {
        let word = Word::parse(&self.word).unwrap_or(Word::Io);
        Failure {
            word,
            noun: self.noun,
            cause: self.cause,
            passing: self.passing,
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
        let mut line = match &event.happening {
            Happening::RunStarted {
                run,
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
                    trigger: Some(trigger.to_string()),
                    started: Some(rfc3339(*started)),
                    budget_usec: Some(usec(*budget)),
                    reserve_usec: Some(usec(*reserve)),
                    steps: Some(steps.collect()),
                    ..Line::default()
                }
            }
            Happening::StepStarted { step, left } => Line {
                left_usec: Some(usec(*left)),
                ..named("step-started", *step)
            },
            Happening::AttemptFailed {
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
            Happening::Waiting { step, what } => Line {
                message: Some(what.clone()),
                ..named("waiting", *step)
            },
            Happening::Output { .. } => return None,
            Happening::StepFinished {
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
            Happening::Warning { message } => Line {
                event: "warning".into(),
                message: Some(message.clone()),
                ..Line::default()
            },
            Happening::RunFinished { result, reason } => Line {
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

/// A line that is not whole, or is no line of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Torn;

/// Reads the lines of one record.
#[derive(Default)]
pub struct Reader {
    steps: HashMap<String, usize>,
}

impl Reader {
    /// The event of a line; `Ok(None)` for one that this farewell does not know.
    ///
    /// # Errors
    /// When the line is no whole line of a record.
    pub fn event(&mut self, line: &str) -> std::result::Result<Option<Event>, Torn> {
        let line: Line = serde_json::from_str(line).map_err(|_| Torn)?;
        let at = Duration::from_micros(line.at_usec);
        Ok(self
            .happening(line)?
            .map(|happening| Event { at, happening }))
    }

    fn happening(&mut self, line: Line) -> std::result::Result<Option<Happening>, Torn> {
        let duration = |usec: Option<u64>| Duration::from_micros(usec.unwrap_or_default());
        let step = line.step.and_then(|name| self.steps.get(&name).copied());
        let step = || step.ok_or(Torn);
        let message = line.message;
        Ok(Some(match line.event.as_str() {
            "run-started" => {
                let steps: Arc<[StepName]> = line
                    .steps
                    .ok_or(Torn)?
                    .into_iter()
                    .map(|step| StepName {
                        name: step.name,
                        kind: step.kind,
                    })
                    .collect();
                self.steps = steps
                    .iter()
                    .enumerate()
                    .map(|(at, step)| (step.name.clone(), at))
                    .collect();
                let started = line
                    .started
                    .as_deref()
                    .and_then(parse_rfc3339)
                    .ok_or(Torn)?;
                Happening::RunStarted {
                    run: line.run.ok_or(Torn)?,
                    trigger: line
                        .trigger
                        .as_deref()
                        .and_then(Trigger::parse)
                        .ok_or(Torn)?,
                    started,
                    budget: duration(line.budget_usec),
                    reserve: duration(line.reserve_usec),
                    steps,
                }
            }
            "step-started" => Happening::StepStarted {
                step: step()?,
                left: duration(line.left_usec),
            },
            "attempt-failed" => Happening::AttemptFailed {
                step: step()?,
                attempt: line.attempt.ok_or(Torn)?,
                failure: line.error.ok_or(Torn)?.into_failure(),
                again: duration(line.again_usec),
            },
            "waiting" => Happening::Waiting {
                step: step()?,
                what: message.ok_or(Torn)?,
            },
            "step-finished" => Happening::StepFinished {
                step: step()?,
                state: line.state.as_deref().and_then(State::parse).ok_or(Torn)?,
                attempts: line.attempts.unwrap_or_default(),
                took: duration(line.duration_usec),
                failure: line.error.map(Error::into_failure),
                reason: line.reason,
            },
            "warning" => Happening::Warning {
                message: message.ok_or(Torn)?,
            },
            "run-finished" => Happening::RunFinished {
                result: line.result.as_deref().and_then(Result::parse).ok_or(Torn)?,
                reason: line.reason,
            },
            _ => return Ok(None),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn every_event_survives_its_line() {
        let failure = Failure::new(Word::Unreachable, "http://h/", "connection refused");
        let happenings = [
            Happening::RunStarted {
                run: "r".into(),
                trigger: Trigger::Reboot,
                started: SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_001),
                budget: Duration::from_secs(90),
                reserve: Duration::from_secs(9),
                steps: [StepName {
                    name: "a".into(),
                    kind: "wait".into(),
                }]
                .into(),
            },
            Happening::StepStarted {
                step: 0,
                left: Duration::from_millis(1500),
            },
            Happening::AttemptFailed {
                step: 0,
                attempt: 1,
                failure: failure.clone(),
                again: Duration::from_millis(7),
            },
            Happening::Waiting {
                step: 0,
                what: "3 connections".into(),
            },
            Happening::StepFinished {
                step: 0,
                state: State::Failed,
                attempts: 2,
                took: Duration::from_micros(12),
                failure: Some(failure),
                reason: Some("because".into()),
            },
            Happening::Warning {
                message: "look".into(),
            },
            Happening::RunFinished {
                result: Result::CutShort,
                reason: Some("told to stop".into()),
            },
        ];
        let (mut writer, mut reader) = (Writer::default(), Reader::default());
        for (at, happening) in happenings.into_iter().enumerate() {
            let event = Event {
                at: Duration::from_micros(at as u64),
                happening,
            };
            let line = writer.line(&event).expect("a line");
            let text = std::str::from_utf8(&line).expect("UTF-8");
            assert!(text.ends_with('\n') && text.matches('\n').count() == 1);
            let read = reader.event(text).expect("whole").expect("known");
            assert_eq!(format!("{read:?}"), format!("{event:?}"));
        }
        assert!(
            reader
                .event(r#"{"at_usec":1,"event":"from-the-future"}"#)
                .expect("whole")
                .is_none()
        );
        assert!(reader.event(r#"{"at_usec":1,"eve"#).is_err());
    }
}
