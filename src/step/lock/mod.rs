//! The trait of a lock that lets one member of a fleet leave at a time.

pub mod queue;
pub mod state;

use std::sync::Arc;
use std::time::Duration;

use crate::model::error::Failure;
use crate::model::trigger::ComesBack;
use crate::step::{Action, AttemptContext, AttemptPolicy, Dependencies, Held, Outcome, StepSpec};

/// A configured lock, which tracks what it holds: a lease, a session, a place in the queue.
pub trait Lock: Send + Sync {
    /// Takes the lock, waiting until `context.deadline`. Meanwhile it reports the holder, renews its place in the
    /// queue, and declares each grant with [`AttemptContext::intend`] before requesting it. When it gives up for good,
    /// at the deadline or when the run is told to stop, it leaves the queue. A lock that is held already is
    /// [`Outcome::AlreadyDone`].
    ///
    /// # Errors
    /// The holder at the deadline, or a permanent failure. After a retryable failure it is called again, and keeps its
    /// place in the queue.
    fn take(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure>;

    /// Renews the lock, on a thread of its own, while other steps run; does nothing if it is not held.
    ///
    /// # Errors
    /// A retryable failure, or that the lock is lost.
    fn renew(&self, context: &AttemptContext<'_>) -> Result<(), Failure>;

    /// Releases what is held or requested, verifies it, and withdraws the intent. It may be called while [`Lock::take`]
    /// is still running on an abandoned thread, and overrides it: nothing is held afterwards. If nothing was requested,
    /// it is [`Outcome::AlreadyDone`] without a request.
    ///
    /// # Errors
    /// As [`crate::step::Action::attempt`]; then the intent stays pending.
    fn release(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure>;

    /// Keeps the lock for the time that the machine needs to come back, when `farewell start` releases it by the
    /// intent. What is only requested is released, as by [`Lock::release`].
    fn hold(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure>;

    /// Checks whether the lock could be taken and who holds it, without changing anything; as
    /// [`crate::step::Action::rehearse`].
    ///
    /// # Errors
    /// How taking it would fail now. A lock that is held is not a failure.
    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure>;
}

/// The step that takes a lock, renews it every `renewal` unless it does not expire, and releases it at the end of the
/// run.
pub fn spec(
    lock: impl Lock + 'static,
    renewal: Option<Duration>,
    dependencies: Dependencies,
) -> StepSpec {
    let lock: Arc<dyn Lock> = Arc::new(lock);
    let renew = |every: Duration| (every, Arc::new(Renewal(lock.clone())) as Arc<dyn Action>);
    StepSpec {
        dependencies,
        held: Some(Held {
            renewal: renewal.map(renew),
            release: Arc::new(Release(lock.clone())),
        }),
        ..StepSpec::new(Acquisition(lock), AttemptPolicy::Polled)
    }
}

/// Takes the lock.
struct Acquisition(Arc<dyn Lock>);

impl Action for Acquisition {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        self.0.take(context)
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        self.0.rehearse(context)
    }
}

/// Renews the lock.
struct Renewal(Arc<dyn Lock>);

impl Action for Renewal {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        self.0.renew(context).map(|()| Outcome::Done)
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        self.0.rehearse(context)
    }
}

/// Releases the lock. A machine that comes back keeps it until it is up again, so that its fleet does not lose the next
/// member meanwhile.
struct Release(Arc<dyn Lock>);

impl Action for Release {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        match context.facts.comes_back() {
            ComesBack::Yes => self.0.hold(context),
            // A lock kept by a machine that never comes back would block its fleet.
            ComesBack::No | ComesBack::Unknown => self.0.release(context),
        }
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        self.0.rehearse(context)
    }
}
