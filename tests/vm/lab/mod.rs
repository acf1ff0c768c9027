//! The lab: a Debian of each release, booted once and frozen, and a machine for each scenario that wakes up from there.

mod base;
mod clients;
mod end;
mod frozen;
mod image;
mod machine;
mod packed;
mod provisioned;
mod qemu;
mod registry;
mod root;
mod shell;
mod stage;
mod tool;

pub use crate::support::recorded::Run;
pub use end::End;
pub use image::{Installed, block};
pub use machine::Machine;
pub use packed::Packed;
pub use provisioned::Room;
pub use stage::{Stage, show};
