//! One file for each scenario, or for a few that belong together.

mod agent;
mod alone;
mod configuration;
mod credentials;
mod nfs;
mod power_button;
mod reexec;
mod registries;
mod stop_units;
mod time;
mod watched;

pub use agent::{rehearsal, start_fails};
pub use alone::{without_bus, without_journal};
pub use configuration::configuration;
pub use credentials::credentials;
pub use nfs::{nfs, nfs_dies};
pub use power_button::power_button;
pub use reexec::reexec;
pub use registries::registries;
pub use stop_units::stop_units;
pub use time::time;
pub use watched::watched;

/// What most machines do: leave, let those finish who are still here, stop the application.
const LEAVE_AND_STOP: &str = r#"
[[step]]
name = "leave"
kind = "deregister"
registry = "etcd"
url = "http://registry"
key = "members/${hostname}"

[[step]]
name = "settle"
kind = "wait"
for = "1s"

[[step]]
name = "clients"
kind = "wait-connections"
ports = [8080]

[[step]]
name = "stop-app"
kind = "stop-unit"
units = ["app.service"]
"#;
