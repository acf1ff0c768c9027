//! `deregister`: leaves a registry, then verifies that it has left.

use crate::config::section::Section;
use crate::failure::Failure;
use crate::intent::Chain;
use crate::registries::REGISTRIES;
use crate::registry::{Entry, Registration};
use crate::step::{self, Action, Blueprint, Effect, Kind, Scope};

/// The kind's entry in the table. Its keys:
///
/// - `registry` (registry; required): what is left, and so which other keys the step has
pub const KIND: Kind = Kind {
    name: "deregister",
    read,
    undo: Some(undo),
};

struct Deregister {
    registration: Box<dyn Registration>,
}

fn read(section: &Section<'_>) -> Option<Blueprint> {
    let choices: Vec<_> = REGISTRIES
        .iter()
        .map(|registry| (registry.name, registry.read))
        .collect();
    let read = section.required("registry", |section, key| {
        section.choice(key, "registry", &choices)
    })?;
    let entry = read(section);
    section.finish();
    let Entry {
        registration,
        ties,
        pace,
        is_permanent,
    } = entry?;
    Some(Blueprint {
        ties,
        is_permanent,
        ..Blueprint::new(Deregister { registration }, pace)
    })
}

fn undo(chain: &Chain) -> Result<Box<dyn Action>, String> {
    let members = REGISTRIES.iter().map(|it| (it.name, it.undo));
    step::undo_of_member("registry", members, chain)
}

impl Action for Deregister {
    fn attempt(&self, scope: &Scope<'_>) -> Result<Effect, Failure> {
        self.registration.leave(scope)
    }

    fn rehearse(&self, scope: &Scope<'_>) -> Result<String, Failure> {
        self.registration.rehearse(scope)
    }
}
