//! org.farewell.Agent1, the interface of a run: its names, and what its properties hold.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use zbus::interface;
use zbus::object_server::SignalEmitter;

use crate::event::State;

/// The name on the bus, owned while a run lasts, and the name of the interface.
pub const NAME: &str = "org.farewell.Agent1";

/// The object that has the interface.
pub const PATH: &str = "/org/farewell/Agent1";

/// The interface of properties: org.freedesktop.DBus.Properties.
pub(super) const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// The bus itself: its name, and its interface.
pub(super) const BUS: &str = "org.freedesktop.DBus";

/// The object of the bus itself.
pub(super) const BUS_PATH: &str = "/org/freedesktop/DBus";

/// A step as it travels: name, kind, state, message, attempt, and duration in microseconds.
pub(super) type Row = (String, String, String, String, u32, u64);

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
    /// Where it stands.
    pub state: State,
    /// What it waits for, or why it failed, was skipped or cancelled; may be empty.
    pub message: String,
    /// The attempt that was made last; 0 before it begins.
    pub attempt: u32,
    /// How long it has run.
    pub span: Span,
}

/// How long a step has run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// It runs since then.
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

    /// The property `State`.
    pub(super) fn state(&self) -> &'static str {
        match self.result {
            Some(_) => "finished",
            None => "running",
        }
    }

    /// The property `Result`.
    pub(super) fn outcome(&self) -> &str {
        self.result.as_deref().unwrap_or_default()
    }

    /// The property `Steps`, at this moment.
    pub(super) fn rows(&self) -> Vec<Row> {
        self.steps.iter().map(Step::row).collect()
    }
}

impl Step {
    /// The step as it travels, at this moment.
    fn row(&self) -> Row {
        let usec = u64::try_from(self.span.length().as_micros()).unwrap_or(u64::MAX);
        let state = self.state.as_str().to_owned();
        let (name, kind) = (self.name.clone(), self.kind.clone());
        (name, kind, state, self.message.clone(), self.attempt, usec)
    }

    /// The step that has travelled; `None` in a state that this farewell does not know.
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

/// A number of steps as D-Bus counts them.
pub(super) fn count(steps: usize) -> u32 {
    u32::try_from(steps).unwrap_or(u32::MAX)
}

pub(super) fn locked(run: &Mutex<Snapshot>) -> MutexGuard<'_, Snapshot> {
    run.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The object that is served: a run, as it was told last.
pub(super) struct Agent1(pub(super) Arc<Mutex<Snapshot>>);

#[interface(name = "org.farewell.Agent1", spawn = false)]
impl Agent1 {
    /// The run's id.
    #[zbus(property)]
    fn run_id(&self) -> String {
        locked(&self.0).run.clone()
    }

    /// Why it takes place: poweroff, halt, reboot, kexec, soft-reboot, stop.
    #[zbus(property)]
    fn trigger(&self) -> String {
        locked(&self.0).trigger.clone()
    }

    /// running, and finished at its end.
    #[zbus(property)]
    fn state(&self) -> String {
        locked(&self.0).state().to_owned()
    }

    /// ok, failed, cut-short; empty while it runs.
    #[zbus(property)]
    fn result(&self) -> String {
        locked(&self.0).outcome().to_owned()
    }

    /// When it began: microseconds of CLOCK_REALTIME.
    #[zbus(property, name = "StartedUSec")]
    fn started_usec(&self) -> u64 {
        locked(&self.0).started_usec
    }

    /// When its budget ends: microseconds of CLOCK_REALTIME.
    #[zbus(property, name = "DeadlineUSec")]
    fn deadline_usec(&self) -> u64 {
        locked(&self.0).deadline_usec
    }

    /// How many steps it has.
    #[zbus(property)]
    fn steps_total(&self) -> u32 {
        count(locked(&self.0).steps.len())
    }

    /// How many of them have ended, well or not.
    #[zbus(property)]
    fn steps_done(&self) -> u32 {
        locked(&self.0).ended()
    }

    /// The steps in the plan's order: name, kind, state, message, attempt, duration in microseconds (of a running step:
    /// so far).
    #[zbus(property)]
    fn steps(&self) -> Vec<Row> {
        locked(&self.0).rows()
    }

    /// A step has begun or ended, or says something else than before.
    #[zbus(signal)]
    async fn step_changed(
        emitter: &SignalEmitter<'_>,
        name: &str,
        state: &str,
        message: &str,
        attempt: u32,
    ) -> zbus::Result<()>;

    /// The run has ended.
    #[zbus(signal)]
    async fn run_finished(emitter: &SignalEmitter<'_>, result: &str) -> zbus::Result<()>;
}
