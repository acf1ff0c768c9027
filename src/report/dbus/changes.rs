//! Turns the events of a run into D-Bus properties and `PropertiesChanged` signals.

use zbus::Message;

use super::interface::{NAME, PATH, PROPERTIES, Properties, Snapshot, Step};

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

/// The run as it was published last.
pub(super) struct Changes {
    pub(super) run: Snapshot,
}

impl Changes {
    /// Starts from the first change; `None` unless that is [`Change::Begun`].
    pub(super) fn begin(first: Change) -> Option<Changes> {
        match first {
            Change::Begun(run) => Some(Changes { run }),
            Change::Step(..) | Change::Finished(_) => None,
        }
    }

    /// Applies changes, and returns the steps that have changed, each once: in a burst only a step's latest state
    /// counts.
    pub(super) fn catch_up(&mut self, happened: Vec<Change>) -> Vec<usize> {
        let run = &mut self.run;
        let (mut changed, mut changes) = (vec![None; run.steps.len()], Vec::new());
        for change in happened {
            match change {
                Change::Step(index, step) => {
                    if let Some(place) = run.steps.get_mut(index) {
                        *place = step;
                        changed[index] = Some(changes.len());
                        changes.push(index);
                    }
                }
                Change::Finished(result) => run.result = Some(result),
                Change::Begun(_) => {}
            }
        }
        let last = |(at, index): &(usize, usize)| changed[*index] == Some(*at);
        let changes = changes.into_iter().enumerate().filter(last);
        changes.map(|(_, index)| index).collect()
    }

    /// The signals for what has changed since the last call; on the `first` call, for everything.
    pub(super) fn signals(
        &mut self,
        happened: Vec<Change>,
        first: bool,
    ) -> zbus::Result<Vec<Message>> {
        let known = self.run.ended();
        let changes = self.catch_up(happened);
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
