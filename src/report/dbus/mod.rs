//! The run for whoever listens on D-Bus.

pub mod changes;
pub mod interface;
pub mod publisher;
mod rate_limit;
mod service;
pub mod snapshot;
pub mod watch;

use std::io;
use std::sync::Arc;
use std::time::Instant;

use crate::model::event::{Event, EventKind};
use crate::report::dbus::changes::Change;
use crate::report::dbus::publisher::Complain;
use crate::report::dispatch::{Busy, Sink};
use crate::view::progress::Progress;

/// Shows the run that began at `begun` on D-Bus, from a thread of its own. `complain` hears once, in a sentence, why it
/// cannot be seen on a bus that is there.
///
/// # Errors
/// When the system has no thread left for it.
pub fn begin(begun: Instant, complain: Complain, at_work: Busy) -> io::Result<Sink> {
    let mut progress = None;
    let narrator = move |event: &Event| change(&mut progress, begun, event);
    let sink = publisher::begin(Box::new(narrator), complain, at_work)?;
    Ok(Box::new(move |event: &Arc<Event>| sink(event)))
}

fn change(progress: &mut Option<Progress>, begun: Instant, event: &Event) -> Option<Change> {
    let Some(progress) = progress else {
        *progress = Progress::begin(event);
        let progress = progress.as_ref()?;
        return Some(Change::Begun(snapshot::of(progress, begun)));
    };
    progress.apply(event);
    match &event.kind {
        EventKind::StepStarted { step, .. }
        | EventKind::AttemptFailed { step, .. }
        | EventKind::Waiting { step, .. }
        | EventKind::StepFinished { step, .. } => {
            let changed = snapshot::of_step(progress.steps.get(*step)?, begun);
            Some(Change::Step(*step, changed))
        }
        EventKind::RunFinished { result, .. } => Some(Change::Finished(result.as_str().to_owned())),
        _ => None,
    }
}
