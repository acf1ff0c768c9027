//! `lock`: one member at a time across the fleet. The lock is given back as the run's last act.

use std::sync::Arc;
use std::time::Duration;

use crate::config::section::Section;
use crate::failure::Failure;
use crate::intent::Chain;
use crate::lock::{Claim, Lock};
use crate::locks::VIAS;
use crate::step::{self, Action, Aftermath, Blueprint, Effect, Kind, Pace, Scope};
use crate::trigger::ComesBack;

/// The kind's entry in the table. Its keys:
///
/// - `via` (way; required): what keeps the lock, and so which other keys the step has
pub const KIND: Kind = Kind {
    name: "lock",
    read,
    undo: Some(undo),
};

fn read(section: &Section<'_>) -> Option<Blueprint> {
    let choices: Vec<_> = VIAS.iter().map(|it| (it.name, it.read)).collect();
    let read = section.required("via", |section, key| section.choice(key, "way", &choices))?;
    let claim = read(section);
    section.finish();
    let Claim {
        lock,
        renewal,
        ties,
    } = claim?;
    let lock: Arc<dyn Lock> = lock.into();
    let upkeep = |every: Duration| (every, Arc::new(Renewal(lock.clone())) as Arc<dyn Action>);
    Some(Blueprint {
        ties,
        aftermath: Some(Aftermath {
            upkeep: renewal.map(upkeep),
            closing: Arc::new(Parting(lock.clone())),
        }),
        ..Blueprint::new(Taking(lock), Pace::Polled)
    })
}

fn undo(chain: &Chain) -> Result<Box<dyn Action>, String> {
    let members = VIAS.iter().map(|it| (it.name, Some(it.undo)));
    step::undo_of_member("way to lock", members, chain)
}

/// The step itself.
struct Taking(Arc<dyn Lock>);

impl Action for Taking {
    fn attempt(&self, scope: &Scope<'_>) -> Result<Effect, Failure> {
        self.0.take(scope)
    }

    fn rehearse(&self, scope: &Scope<'_>) -> Result<String, Failure> {
        self.0.rehearse(scope)
    }
}

/// What keeps it.
struct Renewal(Arc<dyn Lock>);

impl Action for Renewal {
    fn attempt(&self, scope: &Scope<'_>) -> Result<Effect, Failure> {
        self.0.renew(scope).map(|()| Effect::Done)
    }

    fn rehearse(&self, scope: &Scope<'_>) -> Result<String, Failure> {
        self.0.rehearse(scope)
    }
}

/// The run's last act. A machine that comes back keeps the lock until it is up again, so that its fleet does not lose
/// the next member meanwhile.
struct Parting(Arc<dyn Lock>);

impl Action for Parting {
    fn attempt(&self, scope: &Scope<'_>) -> Result<Effect, Failure> {
        match scope.facts.comes_back() {
            ComesBack::Yes => self.0.hold(scope),
            // A lock that a machine keeps which never comes back blocks its fleet.
            ComesBack::No | ComesBack::Unknown => self.0.release(scope),
        }
    }

    fn rehearse(&self, scope: &Scope<'_>) -> Result<String, Failure> {
        self.0.rehearse(scope)
    }
}
