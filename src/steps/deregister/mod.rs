//! `deregister`: leaves a registry, then verifies that it has left.

mod consul;
mod etcd;
mod eureka;
mod file;
mod nacos;
mod nomad;

use crate::config::section::Section;
use crate::model::intent::Chain;
use crate::step::{Action, Kind, Member, StepSpec};

/// The registries that a machine can leave. An attempt removes the entry and verifies that it is gone; whether a "not
/// found" means gone or a wrong address is each registry's own decision.
pub const REGISTRIES: &[Member] = &[
    consul::MEMBER,
    etcd::MEMBER,
    eureka::MEMBER,
    file::MEMBER,
    nacos::MEMBER,
    nomad::MEMBER,
];

/// The kind's entry in the table. Its keys:
///
/// - `registry` (registry; required): the registry to leave; determines the step's other keys
pub const KIND: Kind = Kind {
    name: "deregister",
    read,
    undo: Some(undo),
};

fn read(section: &Section<'_>) -> Option<StepSpec> {
    Member::read(section, "registry", "registry", REGISTRIES)
}

fn undo(chain: &Chain) -> Result<Box<dyn Action>, String> {
    Member::undo("registry", REGISTRIES, chain)
}
