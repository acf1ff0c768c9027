//! The contract of a lock that lets one member of a fleet leave at a time.

pub mod queue;
pub mod state;

use std::sync::Arc;
use std::time::Duration;

use crate::model::error::Failure;
use crate::model::trigger::ComesBack;
use crate::step::{Action, AttemptContext, AttemptPolicy, Dependencies, Held, Outcome, StepSpec};

/// A configured lock, which keeps to itself what it holds: a lease, a session, a place in the queue.
pub trait Lock: Send + Sync {
    /// Takes the lock, and waits for it until `context.deadline`. It reports who holds it, renews meanwhile what its place in
    /// the queue hangs on, and declares with [`AttemptContext::intend`] what would be left behind before it asks for it. When it
    /// gives up for good, at the deadline or when the run is told to stop, it leaves the queue. What is held already is
    /// [`Outcome::AlreadyDone`].
    ///
    /// # Errors
    /// The holder at the deadline, or a permanent failure. After a retryable failure it is called again, and keeps its
    /// place in the queue.
    fn take(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure>;

    /// Renews what is held, on a thread of its own, while other steps run; a lock that is not held needs nothing.
    ///
    /// # Errors
    /// A retryable failure, or that the lock is lost.
    fn renew(&self, context: &AttemptContext<'_>) -> Result<(), Failure>;

    /// Gives up what is held or asked for, sees that it is gone, and withdraws the intent. It may be called while
    /// [`Lock::take`] is under way on a thread that was left behind, and wins over it: nothing is held afterwards. Where
    /// nothing was asked for, it is [`Outcome::AlreadyDone`] without a request.
    ///
    /// # Errors
    /// As [`crate::step::Action::attempt`]; then the intent stays pending.
    fn release(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure>;

    /// Leaves what is held as it is for the time that the machine needs to come back, when `farewell start` releases it
    /// by the intent. What is only asked for is given up, as [`Lock::release`] does.
    fn hold(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure>;

    /// Asks whether the lock could be taken and who holds it, and changes nothing; as
    /// [`crate::step::Action::rehearse`].
    ///
    /// # Errors
    /// How taking it would fail now. A lock that is held is not a failure.
    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure>;
}

/// The step that takes a lock, renews it every `renewal` unless nothing expires, and gives it back as the run's last act.
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

/// The step itself.
struct Acquisition(Arc<dyn Lock>);

impl Action for Acquisition {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        self.0.take(context)
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        self.0.rehearse(context)
    }
}

/// What keeps it.
struct Renewal(Arc<dyn Lock>);

impl Action for Renewal {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        self.0.renew(context).map(|()| Outcome::Done)
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        self.0.rehearse(context)
    }
}

/// The run's last act. A machine that comes back keeps the lock until it is up again, so that its fleet does not lose
/// the next member meanwhile.
struct Release(Arc<dyn Lock>);

impl Action for Release {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        match context.facts.comes_back() {
            ComesBack::Yes => self.0.hold(context),
            // A lock that a machine keeps which never comes back blocks its fleet.
            ComesBack::No | ComesBack::Unknown => self.0.release(context),
        }
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        self.0.rehearse(context)
    }
}
