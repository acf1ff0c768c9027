//! One file for each scenario, or for a few that belong together.

mod agent;
mod alone;
mod booting;
mod by_hand;
mod comes_back;
mod configuration;
mod credentials;
mod deb;
mod forced;
mod image;
mod nfs;
mod package;
mod power_button;
mod provisioned;
mod reboot;
mod reexec;
mod registries;
mod sealed;
mod shutdown;
mod skipped;
mod soft_reboot;
mod stop_units;
mod time;
mod watched;

pub use agent::{rehearsal, start_fails};
pub use alone::{without_bus, without_journal};
pub use booting::{kexec, launched};
pub use by_hand::by_hand;
pub use comes_back::comes_back;
pub use configuration::configuration;
pub use credentials::credentials;
pub use deb::{package_installed, package_reinstalled, package_removed, package_upgraded};
pub use forced::{poweroff_f, sysrq};
pub use image::image;
pub use nfs::{nfs, nfs_dies};
pub use package::package;
pub use power_button::power_button;
pub use provisioned::provisioned;
pub use reboot::reboot;
pub use reexec::reexec;
pub use registries::registries;
pub use sealed::sealed;
pub use shutdown::{rescue, scheduled};
pub use skipped::{overtaken, skip};
pub use soft_reboot::soft_reboot;
pub use stop_units::stop_units;
pub use time::time;
pub use watched::watched;

use crate::lab::End;

/// What most machines do: leave, let those finish who are still here, stop the application, look after the storage.
const LEAVE_AND_STOP: &str = r#"
[[step]]
name = "leave"
kind = "deregister"
registry = "etcd"
url = "http://registry"
key = "members/${hostname}"
timeout = "20s"

[[step]]
name = "settle"
kind = "wait"
for = "1s"
timeout = "5s"

[[step]]
name = "clients"
kind = "wait-connections"
ports = [8080]
timeout = "20s"

[[step]]
name = "stop-app"
kind = "stop-unit"
units = ["app.service"]
timeout = "30s"

[[step]]
name = "storage"
kind = "wait-mounts"
paths = ["/srv/shared"]
sync = true
timeout = "10s"
"#;

/// The lines of the journal that belong to it, in their order.
const LEFT_AND_STOPPED: [&str; 7] = [
    "farewell: step leave: done",
    "farewell: step clients: done",
    "app: TERM",
    "app: ended",
    "farewell: step stop-app: done",
    "farewell: step storage: done",
    ": ok after",
];

/// Fails unless a machine did that at its end, and lost its mount, its network and its journal only then.
fn left_first(end: &End) {
    let last = end.journal.clone().since("farewell: trigger ");
    for lost in [
        "systemd: Unmounted srv-shared.mount",
        "systemd: Stopped systemd-networkd.service",
        "systemd-journald: Journal stopped",
    ] {
        last.in_order(&[&LEFT_AND_STOPPED[..], &[lost]].concat());
    }
}
