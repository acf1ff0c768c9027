//! `wait`: lets some time pass, for what settles without telling.

use std::time::Duration;

use crate::config::section::Section;
use crate::model::error::{Failure, Word};
use crate::step::{Action, Blueprint, Effect, Kind, Pace, Scope};
use crate::sys::cancel::Waited;
use crate::text::duration;

/// The kind's entry in the table. Its keys:
///
/// - `for` (duration; required): how long; more than the step's time fails with `timed-out` when that is over
pub const KIND: Kind = Kind {
    name: "wait",
    read,
    undo: None,
};

struct Wait {
    time: Duration,
}

fn read(section: &Section<'_>) -> Option<Blueprint> {
    let time = section.required("for", |section, key| section.duration(key));
    section.finish();
    let action = Wait { time: time? };
    Some(Blueprint::new(action, Pace::Polled))
}

impl Action for Wait {
    fn attempt(&self, scope: &Scope<'_>) -> Result<Effect, Failure> {
        if self.time.is_zero() {
            return Ok(Effect::Done);
        }
        let noun = format!("a wait of {}", duration::print(self.time));
        scope.voice.waiting(&noun);
        let enough = scope.deadline.left().is_some_and(|left| self.time <= left);
        let waited = if enough {
            scope.cancel.sleep(self.time)
        } else {
            scope.cancel.sleep_until(scope.deadline)
        };
        let cause = match waited {
            Waited::Elapsed if enough => return Ok(Effect::Done),
            Waited::Elapsed => format!("longer than the {}", scope.deadline.reason().noun()),
            Waited::Cancelled => "told to stop".to_owned(),
        };
        Err(Failure::new(Word::TimedOut, noun, cause))
    }

    fn rehearse(&self, _: &Scope<'_>) -> Result<String, Failure> {
        let time = duration::print(self.time);
        Ok(format!("a wait of {time}: there is nothing to ask"))
    }
}
