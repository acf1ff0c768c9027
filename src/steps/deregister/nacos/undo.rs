//! How an instance that was disabled is shown to clients again.

use super::naming::{Entry, Naming};
use super::{Name, read_name};
use crate::config::section::read_kept;
use crate::model::error::{Failure, Word};
use crate::model::intent::Chain;
use crate::step::{Action, Effect, Scope};

/// The first run knows how it was.
pub(super) fn undo(chain: &Chain) -> Result<Box<dyn Action>, String> {
    Ok(Box::new(Enabling {
        name: read_kept(&chain.last().what, read_name)?,
        entry: Entry::kept(&chain.first().what),
    }))
}

/// Takes back that an instance is disabled.
struct Enabling {
    name: Name,
    /// As it was before.
    entry: Entry,
}

impl Action for Enabling {
    fn attempt(&self, scope: &Scope<'_>) -> Result<Effect, Failure> {
        let instance = self.name.instance(scope)?;
        let naming = Naming::open(&self.name.peer, scope, &instance)?;
        if naming.found().is_some() {
            return Ok(Effect::AlreadyDone);
        }
        let answer = naming.enable(&instance, &self.entry, true)?;
        match Naming::taken(&answer) {
            Ok(()) => Ok(Effect::Done),
            // The service is gone, with all that was said of its instances.
            Err(failure) if failure.word == Word::Status && matches!(answer.status, 400 | 404) => {
                Ok(Effect::AlreadyDone)
            }
            Err(failure) => Err(failure),
        }
    }

    fn rehearse(&self, scope: &Scope<'_>) -> Result<String, Failure> {
        let instance = self.name.instance(scope)?;
        let naming = Naming::open(&self.name.peer, scope, &instance)?;
        let is = if naming.found().is_some() {
            "is"
        } else {
            "is not"
        };
        Ok(format!("{instance} {is} listed for clients"))
    }
}
