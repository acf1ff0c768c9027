//! The run for the system's console: what runs for long and how long it still may, what failed, and how it ended.

use std::time::Duration;

use crate::model::event::{Event, Happening, State};
use crate::report::dispatch::{News, Reporter};
use crate::sys::console;
use crate::text::sanitize::plain;
use crate::view::describe;
use crate::view::heartbeat::Reminder;
use crate::view::progress::Progress;

/// Shows a run on the console of a machine that goes down.
#[derive(Debug)]
pub struct Console {
    console: console::Console,
    progress: Option<Progress>,
    reminder: Reminder,
}

impl Console {
    /// How often this reporter wants to hear a tick.
    pub const EVERY: Duration = Duration::from_secs(1);

    /// A reporter, if there is a console.
    pub fn new() -> Option<Console> {
        Some(Console {
            console: console::Console::open().ok()?,
            progress: None,
            reminder: Reminder::default(),
        })
    }

    fn listen(&mut self, event: &Event) {
        match &mut self.progress {
            Some(progress) => progress.apply(event),
            None => self.progress = Progress::begin(event),
        }
        if let Some(progress) = &self.progress
            && is_for_people(&event.happening)
            && let Some(text) = describe::of(event, progress)
        {
            self.console.line(&plain(&text));
        }
    }
}

/// Whether somebody who looks at a console must hear of it: a farewell that goes well has two lines.
fn is_for_people(happening: &Happening) -> bool {
    match happening {
        Happening::RunStarted { .. }
        | Happening::RunFinished { .. }
        | Happening::Warning { .. } => true,
        Happening::StepFinished { state, .. } => {
            matches!(state, State::Failed | State::TimedOut | State::Cancelled)
        }
        Happening::StepStarted { .. }
        | Happening::AttemptFailed { .. }
        | Happening::Waiting { .. }
        | Happening::Intended { .. }
        | Happening::Settled { .. }
        | Happening::Noted { .. }
        | Happening::Copied { .. }
        | Happening::Output { .. } => false,
    }
}

impl Reporter for Console {
    fn hear(&mut self, news: News<'_>) {
        match (news, &self.progress) {
            (News::Event(event), _) => self.listen(event),
            (News::Tick(at), Some(progress)) => {
                for step in self.reminder.due(progress, at) {
                    let text = describe::waiting(&progress.steps[step], at);
                    self.console.line(&plain(&text));
                }
            }
            (News::Tick(_) | News::Idle, _) => {}
        }
    }
}
