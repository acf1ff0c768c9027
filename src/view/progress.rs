//! The progress of a run, folded from its events.

use std::time::{Duration, SystemTime};

use crate::model::error::Failure;
use crate::model::event::{Copied, Event, EventKind, Purpose, Result, State};
use crate::model::trigger::Trigger;

/// A run as far as its events show, the same for a live reporter and for a reader of the record.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The run's id.
    pub run: String,
    /// Its purpose.
    pub purpose: Purpose,
    /// Its trigger.
    pub trigger: Trigger,
    /// When it began, by the wall clock.
    pub started: SystemTime,
    /// The budget of the whole run.
    pub budget: Duration,
    /// The part of it that is kept for `always` steps.
    pub reserve: Duration,
    /// The steps in the plan's order.
    pub steps: Vec<StepProgress>,
    /// How it ended; `None` while it runs, and for ever if it was cut off.
    pub result: Option<Result>,
    /// Why it was cut short, if it was.
    pub reason: Option<String>,
    /// Warnings for the operator.
    pub warnings: Vec<String>,
    /// The time of the last event, from the run's start.
    pub at: Duration,
}

/// A step as far as the events show.
#[derive(Clone, Debug)]
pub struct StepProgress {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Its state.
    pub state: State,
    /// Attempts made or begun; 0 before it begins.
    pub attempts: u32,
    /// When it began, from the run's start.
    pub started: Option<Duration>,
    /// When it must have ended, from the run's start.
    pub deadline: Option<Duration>,
    /// When its end was reported, from the run's start: before the start of any step that waited for it.
    pub ended: Option<Duration>,
    /// How long it ran, once it has ended.
    pub took: Option<Duration>,
    /// What it waits for, while it runs.
    pub waiting: Option<String>,
    /// The last attempt's failure; after the end, the step's.
    pub failure: Option<Failure>,
    /// Why it was skipped or cancelled, or a remark.
    pub reason: Option<String>,
    /// The files that it has copied, as far as the record lists them.
    pub copied: Vec<Copied>,
}

impl Progress {
    /// The progress after the first event of a run, [`EventKind::RunStarted`]; `None` for any other.
    pub fn begin(event: &Event) -> Option<Progress> {
        let EventKind::RunStarted {
            run,
            purpose,
            machine: _,
            trigger,
            started,
            budget,
            reserve,
            steps,
        } = &event.kind
        else {
            return None;
        };
        let pending = |step: &crate::model::event::StepName| StepProgress {
            name: step.name.clone(),
            kind: step.kind.clone(),
            state: State::Pending,
            attempts: 0,
            started: None,
            deadline: None,
            ended: None,
            took: None,
            waiting: None,
            failure: None,
            reason: None,
            copied: Vec::new(),
        };
        Some(Progress {
            run: run.clone(),
            purpose: *purpose,
            trigger: *trigger,
            started: *started,
            budget: *budget,
            reserve: *reserve,
            steps: steps.iter().map(pending).collect(),
            result: None,
            reason: None,
            warnings: Vec::new(),
            at: event.at,
        })
    }

    /// Applies the next event of a run, including the first one; `None` before that.
    pub fn fold<'a>(progress: &'a mut Option<Progress>, event: &Event) -> Option<&'a Progress> {
        match progress {
            Some(progress) => progress.apply(event),
            None => *progress = Progress::begin(event),
        }
        progress.as_ref()
    }

    /// Applies the next event.
    pub fn apply(&mut self, event: &Event) {
        self.at = self.at.max(event.at);
        match &event.kind {
            EventKind::RunStarted { .. }
            | EventKind::Intended { .. }
            | EventKind::Settled { .. }
            | EventKind::Noted { .. }
            | EventKind::Output { .. } => {}
            EventKind::Copied { step, copy } => {
                self.change(*step, |it| it.copied.push(copy.clone()))
            }
            EventKind::StepStarted { step, left } => self.change(*step, |it| {
                it.state = State::Running;
                it.attempts = 1;
                it.started = Some(event.at);
                it.deadline = Some(event.at + *left);
            }),
            EventKind::AttemptFailed {
                step,
                attempt,
                failure,
                ..
            } => self.change(*step, |it| {
                it.attempts = attempt + 1;
                it.failure = Some(failure.clone());
            }),
            EventKind::Waiting { step, what } => {
                self.change(*step, |it| it.waiting = Some(what.clone()))
            }
            EventKind::StepFinished {
                step,
                state,
                attempts,
                took,
                failure,
                reason,
            } => self.change(*step, |it| {
                it.state = *state;
                it.attempts = *attempts;
                it.ended = Some(event.at);
                it.took = (it.started.is_some() || *attempts > 0).then_some(*took);
                it.waiting = None;
                it.failure.clone_from(failure);
                it.reason.clone_from(reason);
            }),
            EventKind::Warning { message } => self.warnings.push(message.clone()),
            EventKind::RunFinished { result, reason } => {
                self.result = Some(*result);
                self.reason.clone_from(reason);
            }
        }
    }

    fn change(&mut self, step: usize, change: impl FnOnce(&mut StepProgress)) {
        if let Some(step) = self.steps.get_mut(step) {
            change(step);
        }
    }

    /// The steps that run now, in the plan's order, with their indices.
    pub fn running(&self) -> impl Iterator<Item = (usize, &StepProgress)> {
        self.steps
            .iter()
            .enumerate()
            .filter(|(_, step)| step.state == State::Running)
    }

    /// How many steps have ended.
    pub fn ended(&self) -> usize {
        self.steps
            .iter()
            .filter(|step| step.state.is_final())
            .count()
    }
}
