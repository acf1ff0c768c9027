//! What a run needs, and where its events go.

use std::sync::Arc;
use std::time::Instant;

use crate::config::facts::Facts;
use crate::model::event::EventKind;
use crate::model::intent::{Intent, IntentId};
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

    /// Whether an intent stands in the record.
    fn is_recorded(&self, mark: IntentId) -> bool {
        let _ = mark;
        true
    }
}

/// Everything that a run needs.
pub struct RunContext {
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
