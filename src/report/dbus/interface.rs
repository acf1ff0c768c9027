//! org.farewell.Agent1, the interface of a run: its names, and what its properties hold.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Serialize, Serializer};
use zbus::wire::as_variant;
use zbus::{Signature, Type};

use crate::model::event::State;

/// The name on the bus, owned while a run lasts, and the name of the interface.
pub const NAME: &str = "org.farewell.Agent1";

/// The object that has the interface.
pub const PATH: &str = "/org/farewell/Agent1";

/// The interface of properties: org.freedesktop.DBus.Properties.
pub(super) const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// Properties by their names.
pub(super) type Properties<'a> = BTreeMap<&'static str, Property<'a>>;

/// A step on the wire: name, kind, state, message, attempt, and duration in microseconds.
pub(super) type Row<S = String> = (S, S, S, S, u32, u64);

/// The value of a property. It goes over the wire as a variant, without making a [`zbus::Variant`] of each value of each
/// step first.
#[derive(Clone, Copy)]
pub(super) enum Property<'a> {
    Text(&'a str),
    Count(u32),
    Usec(u64),
    Steps(&'a [Step]),
}

impl Type for Property<'_> {
    const SIGNATURE: &'static Signature = &Signature::Variant;
}

impl Serialize for Property<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Property::Text(text) => as_variant::serialize(text, serializer),
            Property::Count(count) => as_variant::serialize(count, serializer),
            Property::Usec(usec) => as_variant::serialize(usec, serializer),
            Property::Steps(steps) => {
                let rows: Vec<Row<&str>> = steps.iter().map(Step::row).collect();
                as_variant::serialize(&rows, serializer)
            }
        }
    }
}

/// A run at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Its id.
    pub run: String,
    /// Why it takes place.
    pub trigger: String,
    /// How it ended: ok, failed, cut-short; `None` while it runs.
    pub result: Option<String>,
    /// When it began: microseconds of `CLOCK_REALTIME`.
    pub started_usec: u64,
    /// When its budget ends: microseconds of `CLOCK_REALTIME`.
    pub deadline_usec: u64,
    /// Its steps, in the plan's order.
    pub steps: Vec<Step>,
}

/// A step at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Its state.
    pub state: State,
    /// What it waits for, or why it failed, was skipped or was cancelled; may be empty.
    pub message: String,
    /// The attempt that was made last; 0 before it begins.
    pub attempt: u32,
    /// How long it has run.
    pub span: Span,
}

/// How long a step has run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// It has been running since then.
    Since(Instant),
    /// It ran that long, or not at all.
    Over(Duration),
}

impl Span {
    /// The time until now.
    pub fn length(self) -> Duration {
        match self {
            Span::Since(begin) => begin.elapsed(),
            Span::Over(length) => length,
        }
    }
}

impl Snapshot {
    /// How many steps have ended.
    pub fn ended(&self) -> u32 {
        let ended = self.steps.iter().filter(|step| step.state.is_final());
        count(ended.count())
    }

    /// How it ended, as the property `Result` has it.
    pub(super) fn outcome(&self) -> &str {
        self.result.as_deref().unwrap_or_default()
    }

    /// All properties, at this moment.
    pub(super) fn properties(&self) -> Properties<'_> {
        let state = match self.result {
            Some(_) => "finished",
            None => "running",
        };
        BTreeMap::from([
            ("RunId", Property::Text(&self.run)),
            ("Trigger", Property::Text(&self.trigger)),
            ("State", Property::Text(state)),
            ("Result", Property::Text(self.outcome())),
            ("StartedUSec", Property::Usec(self.started_usec)),
            ("DeadlineUSec", Property::Usec(self.deadline_usec)),
            ("StepsTotal", Property::Count(count(self.steps.len()))),
            ("StepsDone", Property::Count(self.ended())),
            ("Steps", Property::Steps(&self.steps)),
        ])
    }
}

impl Step {
    /// The step as it goes over the wire now.
    fn row(&self) -> Row<&str> {
        let usec = u64::try_from(self.span.length().as_micros()).unwrap_or(u64::MAX);
        let state = self.state.as_str();
        (
            &self.name,
            &self.kind,
            state,
            &self.message,
            self.attempt,
            usec,
        )
    }

    /// The step read from the wire; `None` for a state that this version of farewell does not know.
    pub(super) fn from_row((name, kind, state, message, attempt, usec): Row) -> Option<Step> {
        let state = State::parse(&state)?;
        let length = Duration::from_micros(usec);
        let begin = Instant::now().checked_sub(length);
        let span = match begin.filter(|_| state == State::Running) {
            Some(begin) => Span::Since(begin),
            None => Span::Over(length),
        };
        Some(Step {
            name,
            kind,
            state,
            message,
            attempt,
            span,
        })
    }
}

/// A number of steps in D-Bus' type.
fn count(steps: usize) -> u32 {
    u32::try_from(steps).unwrap_or(u32::MAX)
}
