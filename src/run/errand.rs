//! What a run needs, and who hears of it.

use std::sync::Arc;
use std::time::Instant;

use crate::config::facts::Facts;
use crate::event::Happening;
use crate::plan::gate::Plan;
use crate::sys::http::Http;
use crate::trigger::Trigger;

/// Hears what happens. It must not fail, and what it does must not take time.
pub trait Audience: Send + Sync {
    /// Something happened, now.
    fn hear(&self, happening: Happening);
}

/// Everything that a run needs.
pub struct Errand {
    /// The steps and their limits.
    pub plan: Plan,
    /// Why the run takes place.
    pub trigger: Trigger,
    /// When the budget began to be spent.
    pub begun: Instant,
    /// What `${…}` stands for.
    pub facts: Facts,
    /// The door to HTTP.
    pub http: Http,
    /// Who hears of it.
    pub audience: Arc<dyn Audience>,
}
