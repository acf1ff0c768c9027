//! Shows a run on the system's console: steps that take long, with the time they have left, failures, and the result.

use std::time::Duration;

use crate::model::event::{EventKind, State};
use crate::report::dispatch::{Reporter, Update};
use crate::sys::console;
use crate::text::sanitize::plain;
use crate::view::describe;
use crate::view::heartbeat::Reminder;
use crate::view::progress::Progress;

/// Shows a run on the console of a machine that goes down.
#[derive(Debug)]
pub struct Console {
    console: console::Console,
    reminder: Reminder,
}

impl Console {
    /// How often this reporter wants a tick.
    pub const EVERY: Duration = Duration::from_secs(1);

    /// A reporter, if there is a console.
    pub fn new() -> Option<Console> {
        Some(Console {
            console: console::Console::open().ok()?,
            reminder: Reminder::default(),
        })
    }
}

/// Whether the console shows the event: a run that goes well takes two lines there.
fn is_for_people(kind: &EventKind) -> bool {
    match kind {
        EventKind::RunStarted { .. }
        | EventKind::RunFinished { .. }
        | EventKind::Warning { .. } => true,
        EventKind::StepFinished { state, .. } => {
            matches!(state, State::Failed | State::TimedOut | State::Cancelled)
        }
        EventKind::StepStarted { .. }
        | EventKind::AttemptFailed { .. }
        | EventKind::Waiting { .. }
        | EventKind::Intended { .. }
        | EventKind::Settled { .. }
        | EventKind::Noted { .. }
        | EventKind::Copied { .. }
        | EventKind::Output { .. } => false,
    }
}

impl Reporter for Console {
    fn report(&mut self, update: Update<'_>, progress: &Progress) {
        match update {
            Update::Event(event) if is_for_people(&event.kind) => {
                if let Some(text) = describe::of(event, progress) {
                    self.console.line(&plain(&text));
                }
            }
            Update::Tick(at) => {
                for step in self.reminder.due(progress, at) {
                    let text = describe::waiting(&progress.steps[step], at);
                    self.console.line(&plain(&text));
                }
            }
            Update::Event(_) | Update::Idle => {}
        }
    }
}
