//! Logs a run to the journal: one entry for each event, with its fields.

use std::borrow::Cow;
use std::time::Duration;

use log::Level;

use crate::logging;
use crate::logging::message_id::{self, Message};
use crate::model::event::{Event, EventKind, Purpose, Result, State};
use crate::report::dispatch::{Reporter, Update};
use crate::view::describe;
use crate::view::heartbeat::Reminder;
use crate::view::progress::Progress;

/// The most fields that an entry has beside its message.
const FIELDS: usize = 9;

/// An entry of the log.
#[derive(Debug)]
struct Entry<'a> {
    level: Level,
    text: String,
    fields: Vec<(&'static str, Cow<'a, str>)>,
}

/// Writes a run to the log.
#[derive(Debug, Default)]
pub struct Journal {
    reminder: Reminder,
}

impl Journal {
    /// How often this reporter wants a tick.
    pub const EVERY: Duration = Duration::from_secs(1);

    fn entries<'a>(&mut self, update: Update<'_>, progress: &'a Progress) -> Vec<Entry<'a>> {
        match update {
            Update::Event(event) => entry(event, progress).into_iter().collect(),
            Update::Tick(at) => (self.reminder.due(progress, at).into_iter())
                .map(|step| waiting(progress, step, at))
                .collect(),
            Update::Idle => Vec::new(),
        }
    }
}

impl Reporter for Journal {
    fn report(&mut self, update: Update<'_>, progress: &Progress) {
        for entry in self.entries(update, progress) {
            logging::event(entry.level, &entry.text, &entry.fields);
        }
        if let Update::Idle | Update::Tick(_) = update {
            log::logger().flush();
        }
    }
}

impl<'a> Entry<'a> {
    fn new(
        message: &'static Message,
        level: Level,
        text: String,
        progress: &'a Progress,
    ) -> Entry<'a> {
        let mut fields = Vec::with_capacity(FIELDS);
        fields.push(("MESSAGE_ID", message.id.into()));
        fields.push(("FAREWELL_RUN", progress.run.as_str().into()));
        if progress.purpose == Purpose::Farewell {
            fields.push(("FAREWELL_TRIGGER", progress.trigger.as_str().into()));
        }
        Entry {
            level,
            text,
            fields,
        }
    }

    fn step(self, progress: &'a Progress, step: usize, state: State) -> Entry<'a> {
        let entry = match progress.steps.get(step) {
            Some(step) => self
                .field("FAREWELL_STEP", step.name.as_str())
                .field("FAREWELL_KIND", step.kind.as_str()),
            None => self,
        };
        entry.field("FAREWELL_STATE", state.as_str())
    }

    fn field(mut self, name: &'static str, value: impl Into<Cow<'a, str>>) -> Entry<'a> {
        self.fields.push((name, value.into()));
        self
    }

    fn number(self, name: &'static str, value: u32) -> Entry<'a> {
        self.field(name, value.to_string())
    }

    fn usec(self, name: &'static str, value: Duration) -> Entry<'a> {
        self.field(name, value.as_micros().to_string())
    }
}

fn waiting(progress: &Progress, index: usize, at: Duration) -> Entry<'_> {
    let step = &progress.steps[index];
    let left = step.deadline.unwrap_or_default().saturating_sub(at);
    let text = describe::waiting(step, at);
    Entry::new(&message_id::STEP_WAITING, Level::Info, text, progress)
        .step(progress, index, State::Running)
        .number("FAREWELL_ATTEMPT", step.attempts)
        .usec("FAREWELL_LEFT_USEC", left)
}

fn entry<'a>(event: &Event, progress: &'a Progress) -> Option<Entry<'a>> {
    // What a step waits for is logged by the clock: it may change with every poll.
    let text = describe::of(event, progress)?;
    let (message, level) = kind(&event.kind, progress.purpose)?;
    let entry = Entry::new(message, level, text, progress);
    Some(match &event.kind {
        EventKind::RunStarted { budget, .. } => entry.usec("FAREWELL_LEFT_USEC", *budget),
        EventKind::StepStarted { step, left } => entry
            .step(progress, *step, State::Running)
            .usec("FAREWELL_LEFT_USEC", *left),
        EventKind::AttemptFailed {
            step,
            attempt,
            failure,
            ..
        } => {
            let deadline = progress.steps.get(*step).and_then(|step| step.deadline);
            let left = deadline.unwrap_or_default().saturating_sub(event.at);
            entry
                .step(progress, *step, State::Running)
                .field("FAREWELL_ERROR", failure.kind.as_str())
                .number("FAREWELL_ATTEMPT", *attempt)
                .usec("FAREWELL_LEFT_USEC", left)
        }
        EventKind::Intended { mark, .. } => entry.step(progress, mark.step, State::Running),
        EventKind::Noted { step, .. } | EventKind::Output { step, .. } => {
            entry.step(progress, *step, State::Running)
        }
        EventKind::StepFinished {
            step,
            state,
            attempts,
            took,
            failure,
            ..
        } => {
            let entry = entry
                .step(progress, *step, *state)
                .number("FAREWELL_ATTEMPT", *attempts)
                .usec("FAREWELL_DURATION_USEC", *took);
            match failure {
                Some(failure) => entry.field("FAREWELL_ERROR", failure.kind.as_str()),
                None => entry,
            }
        }
        EventKind::RunFinished { result, .. } => entry
            .field("FAREWELL_STATE", result.as_str())
            .usec("FAREWELL_DURATION_USEC", event.at),
        EventKind::Warning { .. }
        | EventKind::Waiting { .. }
        | EventKind::Copied { .. }
        | EventKind::Settled { .. } => entry,
    })
}

fn kind(kind: &EventKind, purpose: Purpose) -> Option<(&'static Message, Level)> {
    Some(match kind {
        EventKind::RunStarted { .. } if purpose == Purpose::Undo => {
            (&message_id::UNDO_STARTED, Level::Info)
        }
        EventKind::RunFinished { result, .. } if purpose == Purpose::Undo => match result {
            Result::Ok => (&message_id::UNDO_OK, Level::Info),
            Result::Failed | Result::CutShort => (&message_id::UNDO_FAILED, Level::Error),
        },
        EventKind::RunStarted { .. } => (&message_id::RUN_STARTED, Level::Info),
        EventKind::StepStarted { .. } => (&message_id::STEP_STARTED, Level::Info),
        EventKind::AttemptFailed { .. } => (&message_id::ATTEMPT_FAILED, Level::Warn),
        EventKind::Noted { .. } => (&message_id::STEP_NOTED, Level::Info),
        EventKind::Output { .. } => (&message_id::STEP_OUTPUT, Level::Info),
        EventKind::Warning { .. } => (&message_id::WARNING, Level::Warn),
        EventKind::Intended { .. } => (&message_id::STEP_INTENDS, Level::Info),
        EventKind::Waiting { .. } | EventKind::Copied { .. } | EventKind::Settled { .. } => {
            return None;
        }
        EventKind::StepFinished { state, .. } => match state {
            State::Skipped => (&message_id::STEP_SKIPPED, Level::Info),
            State::Failed | State::TimedOut => (&message_id::STEP_FAILED, Level::Error),
            State::Cancelled => (&message_id::STEP_CANCELLED, Level::Warn),
            _ => (&message_id::STEP_DONE, Level::Info),
        },
        EventKind::RunFinished { result, .. } => match result {
            Result::Ok => (&message_id::RUN_OK, Level::Info),
            Result::Failed => (&message_id::RUN_FAILED, Level::Error),
            Result::CutShort => (&message_id::RUN_CUT_SHORT, Level::Error),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logging::message_id::MESSAGES;
    use crate::model::error::{ErrorKind, Failure};
    use crate::model::event::StepName;
    use crate::model::trigger::Trigger;

    #[derive(Default)]
    struct Told {
        journal: Journal,
        progress: Option<Progress>,
    }

    fn told(told: &mut Told, update: Update<'_>) -> Vec<String> {
        if let Update::Event(event) = update {
            Progress::fold(&mut told.progress, event);
        }
        let progress = told.progress.as_ref().expect("a run that has begun");
        (told.journal.entries(update, progress).into_iter())
            .map(|entry| {
                let fields = entry.fields[3..].iter();
                let fields: Vec<String> = fields
                    .map(|(name, value)| format!("{}={value}", &name["FAREWELL_".len()..]))
                    .collect();
                let kind = MESSAGES.iter().find(|it| it.id == entry.fields[0].1);
                let name = kind.expect("it is in the table").name;
                format!(
                    "{} {name}: {} [{}]",
                    entry.level,
                    entry.text,
                    fields.join(" ")
                )
            })
            .collect()
    }

    #[test]
    fn events_become_records() {
        let mut journal = Told::default();
        let mut tell = |millis: u64, kind: EventKind| {
            let at = Duration::from_millis(millis);
            told(&mut journal, Update::Event(&Event { at, kind }))
        };
        let failure = Failure::new(ErrorKind::Unreachable, "http://x", "connection refused");
        let started = tell(
            0,
            EventKind::RunStarted {
                run: "R1".to_owned(),
                purpose: crate::model::event::Purpose::Farewell,
                machine: crate::model::machine::Machine::default(),
                trigger: Trigger::Stop,
                started: std::time::UNIX_EPOCH,
                budget: Duration::from_secs(90),
                reserve: Duration::ZERO,
                steps: [StepName {
                    name: "leave".to_owned(),
                    kind: "http".to_owned(),
                }]
                .into(),
            },
        );
        assert_eq!(
            started,
            [
                "INFO run-started: run R1 begins: trigger stop, 1 step, budget 1m 30s [LEFT_USEC=90000000]"
            ]
        );
        let left = Duration::from_secs(30);
        assert_eq!(
            tell(1, EventKind::StepStarted { step: 0, left }),
            ["INFO step-started: step leave (http): started, 30 s left \
              [STEP=leave KIND=http STATE=running LEFT_USEC=30000000]"]
        );
        let failed = EventKind::AttemptFailed {
            step: 0,
            attempt: 1,
            failure: failure.clone(),
            again: Duration::from_millis(200),
        };
        assert_eq!(
            tell(1001, failed),
            [
                "WARN attempt-failed: step leave: attempt 1 failed: unreachable: http://x: connection \
              refused; again in 0.2 s \
              [STEP=leave KIND=http STATE=running ERROR=unreachable ATTEMPT=1 LEFT_USEC=29000000]"
            ]
        );
        let what = "etcd".to_owned();
        assert!(tell(1002, EventKind::Waiting { step: 0, what }).is_empty());
        let finished = EventKind::StepFinished {
            step: 0,
            state: State::Failed,
            attempts: 2,
            took: Duration::from_millis(6000),
            failure: Some(failure),
            reason: None,
        };
        assert!(told(&mut journal, Update::Tick(Duration::from_millis(5000))).is_empty());
        assert_eq!(
            told(&mut journal, Update::Tick(Duration::from_millis(5001))),
            ["INFO step-waiting: step leave waits for etcd, 25 s left \
              [STEP=leave KIND=http STATE=running ATTEMPT=2 LEFT_USEC=25000000]"]
        );
        let mut tell = |millis: u64, kind: EventKind| {
            let at = Duration::from_millis(millis);
            told(&mut journal, Update::Event(&Event { at, kind }))
        };
        assert_eq!(
            tell(6001, finished),
            [
                "ERROR step-failed: step leave: failed after 6 s (2 attempts): unreachable: http://x: \
              connection refused [STEP=leave KIND=http STATE=failed ATTEMPT=2 \
              DURATION_USEC=6000000 ERROR=unreachable]"
            ]
        );
        let reason = Some("told to stop".to_owned());
        let result = Result::CutShort;
        assert_eq!(
            tell(6002, EventKind::RunFinished { result, reason }),
            [
                "ERROR run-cut-short: farewell R1: cut-short after 6 s (trigger stop, budget 1m 30s): \
              told to stop [STATE=cut-short DURATION_USEC=6002000]"
            ]
        );
    }
}
