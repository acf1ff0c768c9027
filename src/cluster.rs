//! The contract of a cluster that must be able to do without this member.

use crate::config::section::Section;
use crate::failure::Failure;
use crate::step::{Effect, Scope, Ties, Undo};

/// A configured membership.
pub trait Membership: Send + Sync {
    /// Waits until the cluster is safe without this member, and does what the protocol has for it to become so: moving
    /// data or leadership away, say. It looks again until `scope.deadline`, tells what it waits for, and has seen what
    /// it returns. A member that is not in the cluster any more is [`Effect::AlreadyDone`].
    ///
    /// # Errors
    /// What cannot pass, or what it still waited for at the deadline. It is called again after what may pass.
    fn release(&self, scope: &Scope<'_>) -> Result<Effect, Failure>;

    /// Asks whether the cluster answers, lets this account in and knows the member, and changes nothing; as
    /// [`crate::step::Action::rehearse`].
    ///
    /// # Errors
    /// What [`Membership::release`] would fail of, as things are now. A cluster that is not safe at the moment is none:
    /// it is what is waited for.
    fn rehearse(&self, scope: &Scope<'_>) -> Result<String, Failure>;
}

/// What the configuration of a cluster comes to.
pub struct Member {
    /// How it is let go.
    pub membership: Box<dyn Membership>,
    /// What that has to do with the rest of this machine.
    pub ties: Ties,
    /// Whether the member itself is shut down.
    pub may_stop: bool,
}

/// A kind of cluster: its name in the configuration and how its keys are read.
pub struct Cluster {
    /// The word after `cluster =`.
    pub name: &'static str,
    /// Reads the cluster's own keys, as [`crate::step::Kind::read`] does.
    pub read: fn(&Section<'_>) -> Option<Member>,
    /// How what it leaves is undone; the intent's member is its name. `None` where it leaves nothing sticky.
    pub undo: Option<Undo>,
}
