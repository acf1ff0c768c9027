//! Renews what a step holds while other steps run.

use std::time::Duration;

use super::attempts::StepReporter;
use super::context::RunContext;
use super::panics;
use crate::model::deadline::{Deadline, Reason};
use crate::model::event::EventKind;
use crate::step::{Action, AttemptContext};
use crate::sys::cancel::{Cancel, Waited};

/// Attempts `action` every `every` for the step `index`, until cancelled. A failure is reported once, and again when it
/// changes. It goes on even after a refusal: the peer may accept the next attempt, and the lock is lost only without
/// renewals.
pub fn keep(run: &RunContext, index: usize, every: Duration, action: &dyn Action, cancel: &Cancel) {
    let speaker = StepReporter::new(run.sink.as_ref(), index);
    let mut told = None;
    while cancel.sleep(every) == Waited::Elapsed {
        let context = AttemptContext {
            deadline: Deadline::after(every, Reason::Attempt),
            attempt_timeout: every,
            cancel,
            facts: &run.facts,
            http: &run.http,
            events: &speaker,
            needed: &Vec::new,
        };
        let attempt = panics::catch(|| action.attempt(&context));
        let failure = match attempt {
            // A failure during the release does not matter any more.
            _ if cancel.is_cancelled() => return,
            Ok(_) => {
                told = None;
                continue;
            }
            Err(failure) => failure,
        };
        let name = &run.plan.steps[index].name;
        let message = format!("{name}: cannot renew what it holds: {failure}");
        if told.as_ref() != Some(&message) {
            run.sink.emit(EventKind::Warning {
                message: message.clone(),
            });
        }
        told = Some(message);
    }
}
