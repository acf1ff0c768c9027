//! The contract of a registry that a member leaves.

use crate::config::section::Section;
use crate::failure::Failure;
use crate::step::{Effect, Pace, Scope, Ties, Undo};

/// A configured entry in a registry.
pub trait Registration: Send + Sync {
    /// Takes the entry out and asks again whether it is gone. An entry that was gone before is [`Effect::AlreadyDone`].
    ///
    /// # Errors
    /// Whether a "not found" means gone or a wrong address is each registry's own decision.
    fn leave(&self, scope: &Scope<'_>) -> Result<Effect, Failure>;

    /// Asks whether the entry is there and could be taken out, and changes nothing; as [`crate::step::Action::rehearse`].
    ///
    /// # Errors
    /// What leaving would fail of, as things are now.
    fn rehearse(&self, scope: &Scope<'_>) -> Result<String, Failure>;
}

/// What the configuration of a registry comes to.
pub struct Entry {
    /// How it is left.
    pub registration: Box<dyn Registration>,
    /// What leaving it has to do with the rest of this machine.
    pub ties: Ties,
    /// How leaving it uses its time: [`Pace::Polled`] where it waits for something.
    pub pace: Pace,
    /// As [`crate::step::Blueprint::is_permanent`].
    pub is_permanent: bool,
}

/// A kind of registry: its name in the configuration and how its keys are read.
pub struct Registry {
    /// The word after `registry =`.
    pub name: &'static str,
    /// Reads the registry's own keys, as [`crate::step::Kind::read`] does.
    pub read: fn(&Section<'_>) -> Option<Entry>,
    /// How what it leaves is undone; the intent's member is its name. `None` where it leaves nothing sticky.
    pub undo: Option<Undo>,
}
