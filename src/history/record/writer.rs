//! Events as the lines of a record.

use std::borrow::Cow;
use std::sync::Arc;

use super::line::{Entry, Error, Line, usec};
use crate::model::event::{Event, EventKind, StepName};
use crate::sys::clock::rfc3339;

/// Writes the lines of one record.
#[derive(Default)]
pub struct Writer {
    steps: Arc<[StepName]>,
}

impl Writer {
    /// The line of an event, with its end; `None` for events that records do not keep (a child's output goes to the
    /// journal).
    pub fn line(&mut self, event: &Event) -> Option<Vec<u8>> {
        if let EventKind::RunStarted { steps, .. } = &event.kind {
            self.steps = steps.clone();
        }
        let line = Line {
            at_usec: usec(event.at),
            entry: self.entry(&event.kind)?,
        };
        let mut bytes = serde_json::to_vec(&line).ok()?;
        bytes.push(b'\n');
        Some(bytes)
    }

    fn entry<'a>(&'a self, kind: &'a EventKind) -> Option<Entry<'a>> {
        let name = |step: usize| Some(Cow::from(self.steps.get(step)?.name.as_str()));
        let text = |text: &'a Option<String>| text.as_deref().map(Cow::from);
        Some(match kind {
            EventKind::RunStarted {
                run,
                purpose: _,
                machine,
                trigger,
                started,
                budget,
                reserve,
                steps,
            } => Entry::RunStarted {
                run: run.into(),
                machine: Cow::Borrowed(machine),
                trigger: trigger.as_str().into(),
                started: rfc3339(*started).into(),
                budget_usec: usec(*budget),
                reserve_usec: usec(*reserve),
                steps: Cow::Borrowed(steps),
            },
            EventKind::StepStarted { step, left } => Entry::StepStarted {
                step: name(*step)?,
                left_usec: usec(*left),
            },
            EventKind::AttemptFailed {
                step,
                attempt,
                failure,
                again,
            } => Entry::AttemptFailed {
                step: name(*step)?,
                attempt: *attempt,
                again_usec: usec(*again),
                error: failure.into(),
            },
            EventKind::Waiting { step, what } => Entry::Waiting {
                step: name(*step)?,
                message: what.into(),
            },
            EventKind::Intended { mark, intent } => Entry::Intended {
                step: name(mark.step)?,
                kind: self.steps.get(mark.step)?.kind.as_str().into(),
                number: mark.number,
                intent: Cow::Borrowed(intent),
            },
            EventKind::Settled { mark } => Entry::Settled {
                step: name(mark.step)?,
                number: mark.number,
            },
            EventKind::Copied { step, copy } => Entry::Copied {
                step: name(*step)?,
                copy: Cow::Borrowed(copy),
            },
            EventKind::Noted { .. } | EventKind::Output { .. } => return None,
            EventKind::StepFinished {
                step,
                state,
                attempts,
                took,
                failure,
                reason,
            } => Entry::StepFinished {
                step: name(*step)?,
                state: state.as_str().into(),
                attempts: *attempts,
                duration_usec: usec(*took),
                error: failure.as_ref().map(Error::from),
                reason: text(reason),
            },
            EventKind::Warning { message } => Entry::Warning {
                message: message.into(),
            },
            EventKind::RunFinished { result, reason } => Entry::RunFinished {
                reason: text(reason),
                result: result.as_str().into(),
            },
        })
    }
}
