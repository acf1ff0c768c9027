//! Machines that are namespaces of this one: how they are made, booted, driven, ended and read.

#![allow(
    dead_code,
    unused_imports,
    reason = "each case uses its own part of the harness"
)]

mod end;
mod keeper;
mod life;
mod machine;
mod root;
mod setting;

pub use end::{End, Ending};
pub use life::Life;
pub use machine::Machine;
pub use root::Root;
pub use setting::{Rig, app};
