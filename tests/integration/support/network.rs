//! A network of a test's own, where the addresses and ports of an example are free.

use std::process::Command;

/// Puts this thread, and every process that it starts from now on, into a network namespace of its own that has nothing
/// but a loopback interface. It is gone with the last of them.
pub fn own() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
        .expect("a network namespace (as root)");
    ip(&["link", "set", "lo", "up"]);
}

/// Gives the loopback interface of this network one more address.
pub fn add(address: &str) {
    ip(&["address", "add", address, "dev", "lo"]);
}

fn ip(arguments: &[&str]) {
    let ended = Command::new("ip").args(arguments).status();
    assert!(ended.expect("ip (apt install iproute2)").success());
}
