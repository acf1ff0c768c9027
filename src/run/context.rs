//! What a run needs, and where its events go.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::config::facts::Facts;
use crate::model::event::{EventKind, Purpose};
use crate::model::intent::{Intent, IntentId};
use crate::model::machine::Machine;
use crate::model::trigger::Trigger;
use crate::plan::load::Plan;
use crate::sys::http::Http;

/// Takes what happens, and knows what is on record. It must not fail, and must not take time.
pub trait EventSink: Send + Sync {
    /// Something happened, now.
    fn emit(&self, kind: EventKind);

    /// What earlier runs have left with steps of the same kind as this one, and is still to be undone; oldest first.
    fn left_before(&self, step: usize) -> Vec<Intent> {
        let _ = step;
        Vec::new()
    }

    /// What the run has left that is not in its record: the step, and what it is.
    fn unrecorded(&self) -> Vec<(usize, String)> {
        Vec::new()
    }

    /// Whether an intent stands in the record.
    fn is_recorded(&self, mark: IntentId) -> bool {
        let _ = mark;
        true
    }
}

/// Everything that a run needs.
pub struct RunContext {
    /// The run's id.
    pub id: String,
    /// What it is for.
    pub purpose: Purpose,
    /// The machine that it takes place on.
    pub machine: Machine,
    /// When it began, by the wall clock.
    pub started: SystemTime,
    /// The steps and their limits.
    pub plan: Plan,
    /// Why the run takes place.
    pub trigger: Trigger,
    /// The start of the budget.
    pub begun: Instant,
    /// What `${…}` stands for.
    pub facts: Facts,
    /// The door to HTTP.
    pub http: Http,
    /// Where its events go.
    pub sink: Arc<dyn EventSink>,
}
