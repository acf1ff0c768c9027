//! One file for each scenario, or for a few that belong together.

mod deb;
mod forced;
mod image;
mod kexec;
mod nfs;
mod power_button;
mod provisioned;
mod sealed;

pub use deb::package_installed;
pub use forced::{poweroff_f, sysrq};
pub use image::image;
pub use kexec::kexec;
pub use nfs::{nfs, nfs_dies};
pub use power_button::power_button;
pub use provisioned::provisioned;
pub use sealed::sealed;
