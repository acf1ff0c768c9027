//! Machines that are namespaces of this one: how they are made, booted, driven, ended and read.

#![allow(
    dead_code,
    unused_imports,
    reason = "each case uses its own part of the harness"
)]

mod console;
mod end;
mod held;
mod keeper;
mod life;
mod machine;
mod member;
mod network;
mod root;
mod setting;

pub use end::{End, Ending};
pub use held::Held;
pub use life::Life;
pub use machine::Machine;
pub use member::{member, registry};
pub use root::Root;
pub use setting::{Rig, app};

/// Makes a test of each case on this machine's root, and one on each release with another systemd.
macro_rules! on_each_release {
    ($($(#[doc = $doc:literal])* fn $name:ident($rig:ident: Rig) $body:block)+) => {
        $(mod $name {
            #[allow(unused_imports, reason = "not every case uses all that its file does")]
            use super::*;

            $(#[doc = $doc])*
            fn case($rig: Rig) $body

            #[test]
            #[ignore = "needs root; tests/run has it"]
            fn here() {
                case(Rig::new());
            }

            #[test]
            #[ignore = "needs root; tests/run has it"]
            fn bullseye() {
                case(Rig::on(crate::rig::harness::Root::Bullseye));
            }

            #[test]
            #[ignore = "needs root; tests/run has it"]
            fn trixie() {
                case(Rig::on(crate::rig::harness::Root::Trixie));
            }
        })+
    };
}
pub(crate) use on_each_release;
