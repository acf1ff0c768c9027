//! The run for the journal: one log record an event, with its fields.

use std::time::Duration;

use log::{Level, Record};

use crate::logging::message_id::{self, Message};
use crate::model::event::{Event, EventKind, Purpose, Result, State};
use crate::report::dispatch::{Reporter, Update};
use crate::view::describe;
use crate::view::heartbeat::Reminder;
use crate::view::progress::Progress;

/// A log record to be.
#[derive(Debug)]
struct Entry {
    level: Level,
    text: String,
    fields: Vec<(&'static str, String)>,
}

/// Writes a run to the log.
#[derive(Debug, Default)]
pub struct Journal {
    progress: Option<Progress>,
    reminder: Reminder,
}

impl Journal {
    /// How often this reporter wants to hear a tick.
    pub const EVERY: Duration = Duration::from_secs(1);

    fn entries(&mut self, update: &Update<'_>) -> Vec<Entry> {
        match update {
            Update::Event(event) => {
                match &mut self.progress {
                    Some(progress) => progress.apply(event),
                    None => self.progress = Progress::begin(event),
                }
                let progress = self.progress.as_ref();
                let entry = progress.and_then(|progress| entry(event, progress));
                entry.into_iter().collect()
            }
            Update::Tick(at) => {
                let Some(progress) = &self.progress else {
                    return Vec::new();
                };
                (self.reminder.due(progress, *at).into_iter())
                    .map(|step| waiting(progress, step, *at))
                    .collect()
            }
            Update::Idle => Vec::new(),
        }
    }
}

impl Reporter for Journal {
    fn hear(&mut self, update: Update<'_>) {
        for entry in self.entries(&update) {
            log::logger().log(
                &Record::builder()
                    .args(format_args!("{}", entry.text))
                    .level(entry.level)
                    .target("farewell::run")
                    .key_values(&entry.fields)
                    .build(),
            );
        }
        if let Update::Idle | Update::Tick(_) = update {
            log::logger().flush();
        }
    }
}

impl Entry {
    fn new(message: &'static Message, level: Level, text: String, progress: &Progress) -> Entry {
        let mut fields = vec![
            ("MESSAGE_ID", message.id.to_owned()),
            ("FAREWELL_RUN", progress.run.clone()),
        ];
        if progress.purpose == Purpose::Farewell {
            fields.push(("FAREWELL_TRIGGER", progress.trigger.to_string()));
        }
        Entry {
            level,
            text,
            fields,
        }
    }

    fn step(self, progress: &Progress, step: usize, state: State) -> Entry {
        let entry = match progress.steps.get(step) {
            Some(step) => self
                .field("FAREWELL_STEP", &step.name)
                .field("FAREWELL_KIND", &step.kind),
            None => self,
        };
        entry.field("FAREWELL_STATE", state.as_str())
    }

    fn field(mut self, name: &'static str, value: impl ToString) -> Entry {
        self.fields.push((name, value.to_string()));
        self
    }
}

fn waiting(progress: &Progress, index: usize, at: Duration) -> Entry {
    let step = &progress.steps[index];
    let left = step.deadline.unwrap_or_default().saturating_sub(at);
    let text = describe::waiting(step, at);
    Entry::new(&message_id::STEP_WAITING, Level::Info, text, progress)
        .step(progress, index, State::Running)
        .field("FAREWELL_ATTEMPT", step.attempts)
        .field("FAREWELL_LEFT_USEC", left.as_micros())
}

fn entry(event: &Event, progress: &Progress) -> Option<Entry> {
    // What a step waits for is told by the clock: it may change with each of its polls.
    let text = describe::of(event, progress)?;
    let (message, level) = kind(&event.kind, progress.purpose)?;
    let entry = Entry::new(message, level, text, progress);
    Some(match &event.kind {
        EventKind::RunStarted { budget, .. } => {
            entry.field("FAREWELL_LEFT_USEC", budget.as_micros())
        }
        EventKind::StepStarted { step, left } => entry
            .step(progress, *step, State::Running)
            .field("FAREWELL_LEFT_USEC", left.as_micros()),
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
                .field("FAREWELL_ERROR", failure.kind)
                .field("FAREWELL_ATTEMPT", attempt)
                .field("FAREWELL_LEFT_USEC", left.as_micros())
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
                .field("FAREWELL_ATTEMPT", attempts)
                .field("FAREWELL_DURATION_USEC", took.as_micros());
            match failure {
                Some(failure) => entry.field("FAREWELL_ERROR", failure.kind),
                None => entry,
            }
        }
        EventKind::RunFinished { result, .. } => entry
            .field("FAREWELL_STATE", result.as_str())
            .field("FAREWELL_DURATION_USEC", event.at.as_micros()),
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

    fn told(journal: &mut Journal, update: Update<'_>) -> Vec<String> {
        (journal.entries(&update).into_iter())
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
        let mut journal = Journal::default();
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
