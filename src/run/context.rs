//! What a run needs, and the sink of its events.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::config::facts::Facts;
use crate::model::event::{EventKind, Purpose};
use crate::model::intent::{Intent, IntentId};
use crate::model::machine::Machine;
use crate::model::trigger::Trigger;
use crate::plan::load::Plan;
use crate::sys::http::Http;

/// Receives events, and knows what is on record. It must neither fail nor block.
pub trait EventSink: Send + Sync {
    /// Reports something that happened just now.
    fn emit(&self, kind: EventKind);

    /// Pending intents that steps of the same kind left in earlier runs, oldest first.
    fn left_before(&self, step: usize) -> Vec<Intent> {
        let _ = step;
        Vec::new()
    }

    /// Open intents that are not in the run's record: the step, and the intent's text.
    fn unrecorded(&self) -> Vec<(usize, String)> {
        Vec::new()
    }

    /// Whether the record has an intent.
    fn is_recorded(&self, mark: IntentId) -> bool {
        let _ = mark;
        true
    }
}

/// Everything that a run needs.
pub struct RunContext {
    /// The run's id.
    pub id: String,
    /// Its purpose.
    pub purpose: Purpose,
    /// The machine that it takes place on.
    pub machine: Machine,
    /// When it began, by the wall clock.
    pub started: SystemTime,
    /// The steps and their limits.
    pub plan: Plan,
    /// The run's trigger.
    pub trigger: Trigger,
    /// The start of the budget.
    pub begun: Instant,
    /// Values of `${…}`.
    pub facts: Facts,
    /// The HTTP client.
    pub http: Http,
    /// Receives its events.
    pub sink: Arc<dyn EventSink>,
}
