//! Publishes a run on D-Bus.

pub mod changes;
pub mod interface;
pub mod publisher;
mod rate_limit;
mod service;
pub mod snapshot;
pub mod watch;

use std::io;
use std::time::Instant;

use crate::model::event::{Event, EventKind};
use crate::report::dbus::changes::Change;
use crate::report::dbus::publisher::{Complain, Publisher};
use crate::report::dispatch::{Reporter, Update};
use crate::view::progress::Progress;

/// Shows a run on D-Bus.
pub struct DBus {
    begun: Instant,
    publisher: Publisher,
}

impl DBus {
    /// A reporter of the run that began at `begun`. `complain` is called at most once, with one sentence that says why
    /// a bus that exists does not show the run. `guard` is dropped when everything is published, or cannot be.
    pub fn new(begun: Instant, complain: Complain, guard: impl Send + 'static) -> io::Result<DBus> {
        let publisher = Publisher::start(complain, guard)?;
        Ok(DBus { begun, publisher })
    }
}

impl Reporter for DBus {
    fn report(&mut self, update: Update<'_>, progress: &Progress) {
        if let Update::Event(event) = update
            && let Some(change) = change(event, progress, self.begun)
        {
            self.publisher.put(change);
        }
    }
}

/// What an event changes. Output of child processes goes to the journal only: a bus is no place for a thousand lines.
fn change(event: &Event, progress: &Progress, begun: Instant) -> Option<Change> {
    match &event.kind {
        EventKind::RunStarted { .. } => Some(Change::Begun(snapshot::of(progress, begun))),
        EventKind::StepStarted { step, .. }
        | EventKind::AttemptFailed { step, .. }
        | EventKind::Waiting { step, .. }
        | EventKind::StepFinished { step, .. } => {
            let changed = snapshot::of_step(progress.steps.get(*step)?, begun);
            Some(Change::Step(*step, changed))
        }
        EventKind::RunFinished { result, .. } => Some(Change::Finished(result.as_str().to_owned())),
        EventKind::Intended { .. }
        | EventKind::Settled { .. }
        | EventKind::Noted { .. }
        | EventKind::Copied { .. }
        | EventKind::Output { .. }
        | EventKind::Warning { .. } => None,
    }
}
