//! `deregister`: leaves a registry, then verifies that it has left.

use std::time::Duration;

use crate::config::section::Section;
use crate::failure::Failure;
use crate::registries::REGISTRIES;
use crate::registry::{Entry, Registration};
use crate::step::{Action, Blueprint, Effect, Kind, Pace, Scope};

/// The kind's entry in the table.
pub const KIND: Kind = Kind {
    name: "deregister",
    read,
    undo: None,
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
    let Entry { registration, ties } = entry?;
    Some(Blueprint {
        action: Box::new(Deregister { registration }),
        pace: Pace::Retried,
        grace: Duration::ZERO,
        ties,
    })
}

impl Action for Deregister {
    fn attempt(&self, scope: &Scope<'_>) -> Result<Effect, Failure> {
        self.registration.leave(scope)
    }

    fn rehearse(&self, scope: &Scope<'_>) -> Result<String, Failure> {
        self.registration.rehearse(scope)
    }
}
