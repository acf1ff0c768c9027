//! `wait`: waits for a fixed time, for effects that cannot be observed.

use std::time::Duration;

use crate::config::section::Section;
use crate::model::error::{ErrorKind, Failure};
use crate::step::{Action, AttemptContext, AttemptPolicy, Kind, Outcome, StepSpec};
use crate::sys::cancel::Waited;
use crate::text::duration;

/// The kind's entry in the table. Its keys:
///
/// - `for` (duration; required): how long to wait; longer than the step's time fails with `timed-out` at its end
pub const KIND: Kind = Kind {
    name: "wait",
    read,
    undo: None,
};

struct Wait {
    time: Duration,
}

fn read(section: &Section<'_>) -> Option<StepSpec> {
    let time = section.required("for", |section, key| section.duration(key));
    section.finish();
    let action = Wait { time: time? };
    Some(StepSpec::new(action, AttemptPolicy::Polled))
}

impl Action for Wait {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        if self.time.is_zero() {
            return Ok(Outcome::Done);
        }
        let subject = format!("a wait of {}", duration::print(self.time));
        context.events.waiting(&subject);
        let enough = context
            .deadline
            .left()
            .is_some_and(|left| self.time <= left);
        let waited = if enough {
            context.cancel.sleep(self.time)
        } else {
            context.cancel.sleep_until(context.deadline)
        };
        let cause = match waited {
            Waited::Elapsed if enough => return Ok(Outcome::Done),
            Waited::Elapsed => format!("longer than the {}", context.deadline.reason().describe()),
            Waited::Cancelled => "told to stop".to_owned(),
        };
        Err(Failure::new(ErrorKind::TimedOut, subject, cause))
    }

    fn rehearse(&self, _: &AttemptContext<'_>) -> Result<String, Failure> {
        let time = duration::print(self.time);
        Ok(format!("a wait of {time}: there is nothing to ask"))
    }
}
