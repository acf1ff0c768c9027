//! What a step holds is renewed while the others run.

use std::time::Duration;

use super::attempts::StepReporter;
use super::context::RunContext;
use super::panics;
use crate::model::deadline::{Deadline, Reason};
use crate::model::event::EventKind;
use crate::step::{Action, AttemptContext};
use crate::sys::cancel::{Cancel, Waited};

/// Attempts `action` after each `every`, for the step `index`, until the switch is turned. What fails is told once, and
/// again when it fails in another way. Also after a refusal it goes on: a peer that refuses once may not refuse again,
/// and what is held is lost only when nobody asks any more.
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
            needed: &[],
        };
        let attempt = panics::catch(|| action.attempt(&context));
        let failure = match attempt {
            // Whatever came while it was given back is nobody's business any more.
            _ if cancel.is_cancelled() => return,
            Ok(_) => {
                told = None;
                continue;
            }
            Err(failure) => failure,
        };
        let name = &run.plan.steps[index].name;
        let message = format!("{name}: what it holds is not renewed: {failure}");
        if told.as_ref() != Some(&message) {
            run.sink.emit(EventKind::Warning {
                message: message.clone(),
            });
        }
        told = Some(message);
    }
}
