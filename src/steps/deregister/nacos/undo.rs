//! Enables an instance again.

use super::client::{Client, Entry};
use super::{Target, read_target};
use crate::config::section::read_kept;
use crate::model::error::{ErrorKind, Failure};
use crate::model::intent::Chain;
use crate::step::{Action, AttemptContext, Outcome};

/// The first run has the original state.
pub(super) fn undo(chain: &Chain) -> Result<Box<dyn Action>, String> {
    Ok(Box::new(DisableUndo {
        name: read_kept(&chain.last().what, read_target)?,
        entry: Entry::kept(&chain.first().what),
    }))
}

/// Takes back that an instance is disabled.
struct DisableUndo {
    name: Target,
    /// As it was before.
    entry: Entry,
}

impl Action for DisableUndo {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let instance = self.name.instance(context)?;
        let client = Client::open(&self.name.peer, context, &instance)?;
        if client.found().is_some() {
            return Ok(Outcome::AlreadyDone);
        }
        let answer = client.enable(&instance, &self.entry, true)?;
        match Client::check_change(&answer) {
            Ok(()) => Ok(Outcome::Done),
            // The service is gone, with the settings of its instances.
            Err(failure)
                if failure.kind == ErrorKind::Status && matches!(answer.status, 400 | 404) =>
            {
                Ok(Outcome::AlreadyDone)
            }
            Err(failure) => Err(failure),
        }
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let instance = self.name.instance(context)?;
        let client = Client::open(&self.name.peer, context, &instance)?;
        let is = if client.found().is_some() {
            "is"
        } else {
            "is not"
        };
        Ok(format!("{instance} {is} listed for clients"))
    }
}
