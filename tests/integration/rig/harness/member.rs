//! A machine that is a member of a registry, with an application, storage that it shares, and a network.

use std::sync::atomic::{AtomicU32, Ordering};

use super::network;
use super::setting::Rig;
use crate::support::registry::Registry;

/// A real etcd at http://registry, in which the machine is a member.
pub fn registry() -> Registry {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    network::enter();
    Registry::open_with_member(&NUMBER.fetch_add(1, Ordering::Relaxed).to_string())
}

/// The machine, on this rig: app.service, a real service on port 8080 as slow as /etc/app.env says, and /srv/shared.
pub fn member(rig: Rig, configuration: &str) -> Rig {
    let shared = include_str!("../../vm/guest/srv-shared.mount");
    rig.networked()
        .logind()
        .executable("/usr/bin/app", include_str!("../../vm/guest/app"))
        .unit("app.service", include_str!("../../vm/guest/app.service"))
        .wants("app.service")
        .unit("srv-shared.mount", shared)
        .link(
            "/etc/systemd/system/local-fs.target.wants/srv-shared.mount",
            "/etc/systemd/system/srv-shared.mount",
        )
        .configuration(configuration)
}
