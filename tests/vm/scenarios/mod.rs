//! One file for each scenario, or for a few that belong together.

mod power_button;

pub use power_button::power_button;

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
