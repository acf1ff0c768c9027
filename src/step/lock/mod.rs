//! The contract of a lock that lets one member of a fleet leave at a time.

pub mod queue;
pub mod state;

use std::time::Duration;

use crate::config::section::Section;
use crate::model::error::Failure;
use crate::step::{AttemptContext, Dependencies, Outcome, Undo};

/// A configured lock, which keeps to itself what it holds: a lease, a session, a place in the queue.
pub trait Lock: Send + Sync {
    /// Takes the lock, and waits for it until `context.deadline`. It tells who holds it, renews meanwhile what its place in
    /// the queue hangs on, and declares with [`AttemptContext::intend`] what would be left behind before it asks for it. When it
    /// gives up for good, at the deadline or when the run is told to stop, it leaves the queue. What is held already is
    /// [`Outcome::AlreadyDone`].
    ///
    /// # Errors
    /// Who held it to the end, or what cannot pass. It is called again after what may pass, and has its old place then.
    fn take(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure>;

    /// Renews what is held, on a thread of its own, while other steps run; a lock that is not held needs nothing.
    ///
    /// # Errors
    /// What may pass by itself, or that the lock is lost.
    fn renew(&self, context: &AttemptContext<'_>) -> Result<(), Failure>;

    /// Gives up what is held or asked for, sees that it is gone, and withdraws the intent. It may be called while
    /// [`Lock::take`] is under way on a thread that was left behind, and wins over it: nothing is held afterwards. Where
    /// nothing was asked for, it is [`Outcome::AlreadyDone`] without a request.
    ///
    /// # Errors
    /// As [`crate::step::Action::attempt`]; the intent stays then.
    fn release(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure>;

    /// Leaves what is held as it is for the time that the machine needs to come back, when `farewell start` releases it
    /// by the intent. What is only asked for is given up, as [`Lock::release`] does.
    ///
    /// # Errors
    /// As [`crate::step::Action::attempt`].
    fn hold(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure>;

    /// Asks whether the lock could be taken and who holds it, and changes nothing; as
    /// [`crate::step::Action::rehearse`].
    ///
    /// # Errors
    /// What taking it would fail of, as things are now. One that somebody holds is none.
    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure>;
}

/// What the configuration of a lock comes to.
pub struct LockSpec {
    /// How it is taken and released.
    pub lock: Box<dyn Lock>,
    /// How often it must be renewed while it is held; `None` where nothing expires.
    pub renewal: Option<Duration>,
    /// What it has to do with the rest of this machine.
    pub dependencies: Dependencies,
}

/// A way to lock: its name in the configuration and how its keys are read.
pub struct LockMember {
    /// The word after `via =`.
    pub name: &'static str,
    /// Reads the way's own keys, as [`crate::step::Kind::read`] does.
    pub read: fn(&Section<'_>) -> Option<LockSpec>,
    /// How a lock that is still held is released at the next start; the intent's member is its name.
    pub undo: Undo,
}
