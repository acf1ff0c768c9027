//! Events as a run would tell them, to feed reporters with.

use std::time::Duration;

use farewell::model::error::Failure;
use farewell::model::event::{Event, EventKind, Result, State, StepName};
use farewell::model::trigger::Trigger;

/// Something that happened `millis` after the start.
pub fn at(millis: u64, kind: EventKind) -> Event {
    let at = Duration::from_millis(millis);
    Event::new(at, kind)
}

/// The start of run R1 with steps of these names and of kind http.
pub fn begin(names: &[&str], budget: u64) -> Event {
    let steps = names.iter().map(|name| StepName {
        name: (*name).to_owned(),
        kind: "http".to_owned(),
    });
    at(
        0,
        EventKind::RunStarted {
            run: "R1".to_owned(),
            purpose: farewell::model::event::Purpose::Farewell,
            machine: farewell::model::machine::Machine::default(),
            trigger: Trigger::Stop,
            started: std::time::UNIX_EPOCH,
            budget: Duration::from_secs(budget),
            reserve: Duration::ZERO,
            steps: steps.collect(),
        },
    )
}

/// A step begins and may take 30 seconds.
pub fn started(millis: u64, step: usize) -> Event {
    let left = Duration::from_secs(30);
    at(millis, EventKind::StepStarted { step, left })
}

/// A step ends after its first attempt.
pub fn finished(millis: u64, step: usize, took: u64, failure: Option<Failure>) -> Event {
    let state = match failure {
        Some(_) => State::Failed,
        None => State::Done,
    };
    let took = Duration::from_millis(took);
    at(
        millis,
        EventKind::StepFinished {
            step,
            state,
            attempts: 1,
            took,
            failure,
            reason: None,
        },
    )
}

/// A step waits.
pub fn waiting(millis: u64, step: usize, what: &str) -> Event {
    let what = what.to_owned();
    at(millis, EventKind::Waiting { step, what })
}

/// The run ends.
pub fn end(millis: u64, result: Result, reason: Option<&str>) -> Event {
    let reason = reason.map(str::to_owned);
    at(millis, EventKind::RunFinished { result, reason })
}
