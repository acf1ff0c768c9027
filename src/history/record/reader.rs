//! The lines of a record as events.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use super::line::{Entry, Line};
use crate::model::error::Failure;
use crate::model::event::{Event, EventKind, Purpose, Result, State};
use crate::model::intent::IntentId;
use crate::model::trigger::Trigger;
use crate::sys::clock::parse_rfc3339;

/// A line that is incomplete, or not a line of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Torn;

/// Reads the lines of one record.
#[derive(Default)]
pub struct Reader {
    steps: HashMap<String, usize>,
}

impl Reader {
    /// The event of a line; `Ok(None)` for one that this version does not know.
    ///
    /// # Errors
    /// If the line is not a complete line of a record.
    pub fn event(&mut self, line: &str) -> std::result::Result<Option<Event>, Torn> {
        let line: Line<'_> = serde_json::from_str(line).map_err(|_| Torn)?;
        let at = Duration::from_micros(line.at_usec);
        Ok(self.kind(line.entry)?.map(|kind| Event { at, kind }))
    }

    fn kind(&mut self, entry: Entry<'_>) -> std::result::Result<Option<EventKind>, Torn> {
        if let Entry::RunStarted { steps, .. } = &entry {
            let numbered = steps.iter().enumerate();
            self.steps = numbered.map(|(at, step)| (step.name.clone(), at)).collect();
        }
        let index = |name: &str| self.steps.get(name).copied().ok_or(Torn);
        let duration = Duration::from_micros;
        Ok(Some(match entry {
            Entry::RunStarted {
                run,
                machine,
                trigger,
                started,
                budget_usec,
                reserve_usec,
                steps,
            } => EventKind::RunStarted {
                run: run.into_owned(),
                purpose: Purpose::Farewell,
                machine: machine.into_owned(),
                trigger: Trigger::parse(&trigger).ok_or(Torn)?,
                started: parse_rfc3339(&started).ok_or(Torn)?,
                budget: duration(budget_usec),
                reserve: duration(reserve_usec),
                steps: steps.into_owned().into(),
            },
            Entry::StepStarted { step, left_usec } => EventKind::StepStarted {
                step: index(&step)?,
                left: duration(left_usec),
            },
            Entry::AttemptFailed {
                step,
                attempt,
                again_usec,
                error,
            } => EventKind::AttemptFailed {
                step: index(&step)?,
                attempt,
                failure: error.into(),
                again: duration(again_usec),
            },
            Entry::Waiting { step, message } => EventKind::Waiting {
                step: index(&step)?,
                what: message.into_owned(),
            },
            Entry::Intended {
                step,
                kind: _,
                number,
                intent,
            } => EventKind::Intended {
                mark: IntentId {
                    step: index(&step)?,
                    number,
                },
                intent: intent.into_owned(),
            },
            Entry::Settled { step, number } => EventKind::Settled {
                mark: IntentId {
                    step: index(&step)?,
                    number,
                },
            },
            Entry::Copied { step, copy } => EventKind::Copied {
                step: index(&step)?,
                copy: copy.into_owned(),
            },
            Entry::StepFinished {
                step,
                state,
                attempts,
                duration_usec,
                error,
                reason,
            } => EventKind::StepFinished {
                step: index(&step)?,
                state: State::parse(&state).ok_or(Torn)?,
                attempts,
                took: duration(duration_usec),
                failure: error.map(Failure::from),
                reason: reason.map(Cow::into_owned),
            },
            Entry::Warning { message } => EventKind::Warning {
                message: message.into_owned(),
            },
            Entry::RunFinished { reason, result } => EventKind::RunFinished {
                result: Result::parse(&result).ok_or(Torn)?,
                reason: reason.map(Cow::into_owned),
            },
            Entry::Unknown => return Ok(None),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::history::record::Writer;
    use crate::model::error::ErrorKind;
    use crate::model::event::StepName;
    use crate::model::intent::Intent;
    use crate::model::machine::Machine;

    #[test]
    fn every_event_survives_its_line() {
        let failure = Failure::new(ErrorKind::Unreachable, "http://h/", "connection refused");
        let kinds = [
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
        let lines = [
            r#"{"at_usec":0,"event":"run-started","run":"r","machine":{"id":"m"},"trigger":"reboot","started":"2023-11-14T22:13:20.000001Z","budget_usec":90000000,"reserve_usec":9000000,"steps":[{"name":"a","kind":"wait"}]}"#,
            r#"{"at_usec":1,"event":"step-started","step":"a","left_usec":1500000}"#,
            r#"{"at_usec":2,"event":"attempt-failed","step":"a","attempt":1,"again_usec":7000,"error":{"word":"unreachable","noun":"http://h/","cause":"connection refused","passing":true}}"#,
            r#"{"at_usec":3,"event":"waiting","step":"a","message":"3 connections"}"#,
            r#"{"at_usec":4,"event":"intended","step":"a","kind":"wait","number":1,"intent":{"member":"nomad","noun":"the drain of node a","thing":"node a","what":{"url":"http://h/"}}}"#,
            r#"{"at_usec":5,"event":"settled","step":"a","number":1}"#,
            r#"{"at_usec":6,"event":"copied","step":"a","copy":{"name":"app/a.log","bytes":7,"sha256":"ab"}}"#,
            r#"{"at_usec":7,"event":"step-finished","step":"a","state":"failed","attempts":2,"duration_usec":12,"error":{"word":"unreachable","noun":"http://h/","cause":"connection refused","passing":true},"reason":"because"}"#,
            r#"{"at_usec":8,"event":"warning","message":"look"}"#,
            r#"{"at_usec":9,"event":"run-finished","reason":"told to stop","result":"cut-short"}"#,
        ];
        assert_eq!(kinds.len(), lines.len());
        let (mut writer, mut reader) = (Writer::default(), Reader::default());
        for (at, kind) in kinds.into_iter().enumerate() {
            let event = Event {
                at: Duration::from_micros(at as u64),
                kind,
            };
            let line = writer.line(&event).expect("a line");
            let text = std::str::from_utf8(&line).expect("UTF-8");
            assert_eq!(text, format!("{}\n", lines[at]));
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
