//! The power button of a member that holds the fleet's lock. etcd is down when the lock is to be given back, so that it is
//! still held when the machine is off. The machine is started again, and gives it back: the record says that it holds it.

use crate::lab::Stage;

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
kind = "wait"
for = "5s"
"#;

pub fn comes_back(stage: &Stage) {
    let mut registry = stage.registry();
    let mut machine = stage.machine();
    machine.configure(&registry.within(SEQUENCE));
    machine.press_power_button();
    registry.wait_for_lock(true);
    machine.wait_for_console("app.service");
    // Not one that hangs: it would find the request when it goes on, and might still do what nobody waits for any more.
    registry.go_down();
    let mut machine = machine.started_again(stage);
    registry.come_back();
    registry.wait_for_lock(true);
    machine.wait_for_boot();
    machine.wait_for_start();
    registry.wait_for_lock(false);
    // What is undone is not undone again.
    let again = machine.must("farewell start --undo-only");
    assert_eq!(again, "farewell start: nothing is to be undone");
    machine.must("systemctl poweroff");
    let end = machine.powered_off();
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
        "farewell: step release one-at-a-time: failed",
        "systemd: Finished farewell.service",
        "step undo one-at-a-time: done",
        "systemd: Finished farewell-start.service",
        "farewell: step release one-at-a-time: done",
    ]);
    registry.wait_for_lock(false);
}
