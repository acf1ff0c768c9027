//! A network of a test's own, where the addresses and ports of an example are free.

use std::process::Command;

/// Puts this thread, and every process that it starts from now on, into a network namespace of its own that has nothing
/// but a loopback interface. It is gone with the last of them.
pub fn own() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
        .expect("a network namespace (as root)");
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    assert!(up.expect("ip (apt install iproute2)").success());
}
