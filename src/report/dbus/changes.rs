//! What the events of a run are on D-Bus: its properties, and the signals of their changes.

use std::sync::Arc;

use zbus::Message;

use super::interface::{NAME, PATH, PROPERTIES, Properties, Snapshot, Step};
use crate::model::event::Event;

/// What an event changes.
#[derive(Debug)]
pub enum Change {
    /// The run has begun.
    Begun(Snapshot),
    /// A step has changed: its index, and what it is now.
    Step(usize, Step),
    /// The run has ended: the word of its result.
    Finished(String),
}

/// Who is asked what an event changes.
pub type ChangeSource = Box<dyn FnMut(&Event) -> Option<Change> + Send>;

/// The run as far as it was told.
pub(super) struct Changes {
    narrator: ChangeSource,
    /// As of the last time.
    pub(super) run: Snapshot,
}

impl Changes {
    /// The story that begins with an event; none when that is not its beginning.
    pub(super) fn begin(event: &Event, mut narrator: ChangeSource) -> Option<Changes> {
        match narrator(event) {
            Some(Change::Begun(run)) => Some(Changes { narrator, run }),
            _ => None,
        }
    }

    /// Takes into account what has happened since the last time. Returns the steps that have changed, each one once: in
    /// a burst its last word counts.
    pub(super) fn catch_up(&mut self, events: Vec<Arc<Event>>) -> Vec<usize> {
        let run = &mut self.run;
        let (mut changed, mut changes) = (vec![None; run.steps.len()], Vec::new());
        for event in events {
            match (self.narrator)(&event) {
                Some(Change::Step(index, step)) => {
                    if let Some(place) = run.steps.get_mut(index) {
                        *place = step;
                        changed[index] = Some(changes.len());
                        changes.push(index);
                    }
                }
                Some(Change::Finished(result)) => run.result = Some(result),
                Some(Change::Begun(_)) | None => {}
            }
        }
        let last = |(at, index): &(usize, usize)| changed[*index] == Some(*at);
        let changes = changes.into_iter().enumerate().filter(last);
        changes.map(|(_, index)| index).collect()
    }

    /// The signals of what has happened since the last time. At the `first` time they tell everything there is to know.
    ///
    /// # Errors
    /// When something cannot be put into a message.
    pub(super) fn signals(
        &mut self,
        events: Vec<Arc<Event>>,
        first: bool,
    ) -> zbus::Result<Vec<Message>> {
        let known = self.run.ended();
        let changes = self.catch_up(events);
        let run = &self.run;
        let is_over = self.is_over();
        let mut signals = Vec::with_capacity(changes.len() + 2);
        for step in changes.iter().map(|index| &run.steps[*index]) {
            let state = step.state.as_str();
            let body = (
                step.name.as_str(),
                state,
                step.message.as_str(),
                step.attempt,
            );
            signals.push(Message::signal(PATH, NAME, "StepChanged").build(&body)?);
        }
        let mut properties: Properties<'_> = run.properties();
        properties.retain(|name, _| match *name {
            "State" | "Result" => first || is_over,
            "Steps" => first || !changes.is_empty(),
            "StepsDone" => first || run.ended() != known,
            _ => first,
        });
        if !properties.is_empty() {
            let body = (NAME, properties, [""; 0].as_slice());
            signals.push(Message::signal(PATH, PROPERTIES, "PropertiesChanged").build(&body)?);
        }
        if is_over {
            let body = (run.outcome(),);
            signals.push(Message::signal(PATH, NAME, "RunFinished").build(&body)?);
        }
        Ok(signals)
    }

    /// Whether the run has ended.
    pub(super) fn is_over(&self) -> bool {
        self.run.result.is_some()
    }
}
