//! The network between a machine and the test: what the test starts is at 10.0.2.2, and the machine at 10.0.2.15.

use std::cell::Cell;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::unistd::Pid;

use crate::support::binary::printed;
use crate::support::network;

/// The configuration of the machine's end, for systemd-networkd.
pub const MACHINE: &str = "[Match]\nName=host0\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\nLinkLocalAddressing=no\n";

/// Puts this thread, and what it starts from now on, into a network of its own, to which machines are attached.
pub fn enter() {
    thread_local!(static HAS_ENTERED: Cell<bool> = const { Cell::new(false) });
    if !HAS_ENTERED.replace(true) {
        network::own();
    }
}

/// The test's end of a cable; gone with this.
pub struct Cable(String);

impl Cable {
    /// Lays one to the machine of this PID 1.
    pub fn lay(pid1: Pid) -> Cable {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("rig{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        ip(&format!(
            "link add {name} type veth peer name host0 netns {pid1}"
        ));
        ip(&format!("addr add 10.0.2.2/24 dev {name}"));
        ip(&format!("link set {name} up"));
        Cable(name)
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        // Gone with the machine's network, sooner or later.
        let _ = printed(Command::new("ip").args(["link", "del", &self.0]));
    }
}

fn ip(arguments: &str) {
    printed(Command::new("ip").args(arguments.split(' ')))
        .unwrap_or_else(|error| panic!("{error}"));
}
