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
mod root;
mod shell;
mod stage;
mod tool;

pub use end::End;
pub use image::block;
pub use machine::Machine;
pub use packed::Packed;
pub use provisioned::Room;
pub use stage::{Stage, show};
