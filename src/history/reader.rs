//! A line of a record as the event that it was made from.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::line::{Error, Line};
use crate::model::event::{Event, EventKind, Purpose, Result, State, StepName};
use crate::model::intent::IntentId;
use crate::model::trigger::Trigger;
use crate::sys::clock::parse_rfc3339;

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
        Ok(self.kind(line)?.map(|kind| Event { at, kind }))
    }

    fn kind(&mut self, line: Line) -> std::result::Result<Option<EventKind>, Torn> {
        let duration = |usec: Option<u64>| Duration::from_micros(usec.unwrap_or_default());
        let step = line.step.and_then(|name| self.steps.get(&name).copied());
        let step = || step.ok_or(Torn);
        let mark = || {
            let number = line.number.ok_or(Torn)?;
            Ok(IntentId {
                step: step()?,
                number,
            })
        };
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
                EventKind::RunStarted {
                    run: line.run.ok_or(Torn)?,
                    purpose: Purpose::Farewell,
                    machine: line.machine.unwrap_or_default(),
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
            "step-started" => EventKind::StepStarted {
                step: step()?,
                left: duration(line.left_usec),
            },
            "attempt-failed" => EventKind::AttemptFailed {
                step: step()?,
                attempt: line.attempt.ok_or(Torn)?,
                failure: line.error.ok_or(Torn)?.into_failure(),
                again: duration(line.again_usec),
            },
            "waiting" => EventKind::Waiting {
                step: step()?,
                what: message.ok_or(Torn)?,
            },
            "intended" => EventKind::Intended {
                mark: mark()?,
                intent: line.intent.ok_or(Torn)?,
            },
            "copied" => EventKind::Copied {
                step: step()?,
                copy: line.copy.ok_or(Torn)?,
            },
            "settled" => EventKind::Settled { mark: mark()? },
            "step-finished" => EventKind::StepFinished {
                step: step()?,
                state: line.state.as_deref().and_then(State::parse).ok_or(Torn)?,
                attempts: line.attempts.unwrap_or_default(),
                took: duration(line.duration_usec),
                failure: line.error.map(Error::into_failure),
                reason: line.reason,
            },
            "warning" => EventKind::Warning {
                message: message.ok_or(Torn)?,
            },
            "run-finished" => EventKind::RunFinished {
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
    use crate::history::line::Writer;
    use crate::model::error::{ErrorKind, Failure};
    use crate::model::intent::Intent;
    use crate::model::machine::Machine;

    #[test]
    fn every_event_survives_its_line() {
        let failure = Failure::new(ErrorKind::Unreachable, "http://h/", "connection refused");
        let happenings = [
            EventKind::RunStarted {
                run: "r".into(),
                purpose: Purpose::Farewell,
                machine: Machine {
                    id: Some("m".into()),
                    product: None,
                },
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
            EventKind::StepStarted {
                step: 0,
                left: Duration::from_millis(1500),
            },
            EventKind::AttemptFailed {
                step: 0,
                attempt: 1,
                failure: failure.clone(),
                again: Duration::from_millis(7),
            },
            EventKind::Waiting {
                step: 0,
                what: "3 connections".into(),
            },
            EventKind::Intended {
                mark: IntentId { step: 0, number: 1 },
                intent: Intent {
                    member: "nomad".into(),
                    subject: "the drain of node a".into(),
                    thing: "node a".into(),
                    what: [("url".to_owned(), "http://h/".into())].into(),
                },
            },
            EventKind::Settled {
                mark: IntentId { step: 0, number: 1 },
            },
            EventKind::Copied {
                step: 0,
                copy: crate::model::event::Copied {
                    name: "app/a.log".into(),
                    bytes: 7,
                    sha256: "ab".into(),
                },
            },
            EventKind::StepFinished {
                step: 0,
                state: State::Failed,
                attempts: 2,
                took: Duration::from_micros(12),
                failure: Some(failure),
                reason: Some("because".into()),
            },
            EventKind::Warning {
                message: "look".into(),
            },
            EventKind::RunFinished {
                result: Result::CutShort,
                reason: Some("told to stop".into()),
            },
        ];
        let (mut writer, mut reader) = (Writer::default(), Reader::default());
        for (at, kind) in happenings.into_iter().enumerate() {
            let event = Event {
                at: Duration::from_micros(at as u64),
                kind,
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
