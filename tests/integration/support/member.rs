//! What a member of a registry does at its end, and what its journal says of that.

use super::journal::Journal;

/// What most machines do: leave, let those finish who are still here, stop the application, look after the storage.
pub const LEAVE_AND_STOP: &str = r#"
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

/// The lines of the journal that farewell writes of it, in their order. Where those of the application stand among them
/// depends on when journald reads the one's socket and the other's.
pub const LEFT_AND_STOPPED: [&str; 7] = [
    "farewell: step leave: done",
    "farewell: step settle: done",
    "farewell: step clients: done",
    "farewell: step stop-app (stop-unit): started",
    "farewell: step stop-app: done",
    "farewell: step storage: done",
    ": ok after",
];

/// Fails unless a machine did that at its end, and lost its mount, its network and its journal only then.
pub fn left_first(journal: &Journal) {
    let last = journal.clone().since("farewell: trigger ");
    for lost in [
        "systemd: Unmounted srv-shared.mount",
        "systemd: Stopped systemd-networkd.service",
        "systemd-journald: Journal stopped",
    ] {
        last.in_order(&[&LEFT_AND_STOPPED[..], &[lost]].concat());
    }
    // A second after it has left.
    last.in_order(&[LEFT_AND_STOPPED[0], "app: TERM", "app: ended"]);
}
