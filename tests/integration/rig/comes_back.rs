//! The poweroff of a member that holds the fleet's lock. etcd is down when the lock is to be given back, so that it is still
//! held when the machine is off. The machine is started again, and gives it back: the record says that it holds it.

use crate::rig::harness::{Rig, member, on_each_release, registry};

const SEQUENCE: &str = r#"
[[step]]
name = "one-at-a-time"
kind = "lock"
via = "etcd"
url = "http://registry"
key = "locks/leave"
ttl = "30m"

[[step]]
name = "leave"
kind = "deregister"
registry = "etcd"
url = "http://registry"
key = "members/${hostname}"

[[step]]
name = "stop-app"
kind = "stop-unit"
units = ["app.service"]

[[step]]
name = "settle"
kind = "command"
argv = ["sh", "-c", "until [ -e /rig/settled ]; do sleep 0.1; done"]
if-path = "/rig/first"
timeout = "60s"
"#;

on_each_release! {
    fn with_a_lock(rig: Rig) {
        let mut registry = registry();
        let config = format!("[farewell]\nbudget = \"180s\"\nreserve = \"10s\"\n{}", registry.within(SEQUENCE));
        let machine = member(rig, &config).file("/rig/first", "").boot();
        let ending = machine.start("systemctl poweroff");
        machine.wait_for("journalctl -o cat -u farewell | grep 'step stop-app: done'");
        registry.wait_for_lock(true);
        // Not one that hangs: it would find the request when it goes on, and might still do what nobody waits for any more.
        registry.go_down();
        machine.write("/rig/settled", "");
        let end = machine.ended();
        drop(ending);
        registry.come_back();
        registry.wait_for_lock(true);
        let machine = end.boot();
        machine.must("rm /rig/first");
        machine.wait_for_start();
        registry.wait_for_lock(false);
        // What is undone is not undone again.
        let again = machine.must("farewell start --undo-only");
        assert_eq!(again, "farewell start: nothing is to be undone");
        let end = machine.end("systemctl poweroff");
        let [first, second] = &end.runs()[..] else {
            panic!("not two runs");
        };
        first
            .is("poweroff", "failed")
            .step("one-at-a-time", "done")
            .step("leave", "done")
            .step("stop-app", "done")
            .step("release one-at-a-time", "failed");
        second
            .is("poweroff", "ok")
            .step("one-at-a-time", "done")
            .step("release one-at-a-time", "done");
        end.in_order(&[
            "farewell: step one-at-a-time: done",
            "farewell: step leave: done",
            "app: ended",
            "farewell: step stop-app: done",
            "farewell: step release one-at-a-time: failed",
            "step undo one-at-a-time: done",
            "systemd: Finished farewell-start.service",
            "farewell: step release one-at-a-time: done",
        ]);
        registry.wait_for_lock(false);
    }
}
