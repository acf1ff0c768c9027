//! Three registries, of which one refuses, one hangs, and one is back after several attempts: the last one is left, the
//! others cost their own step its time and nobody else anything.

use crate::rig::harness::{Rig, member, registry};

const SEQUENCE: &str = r#"
[farewell]
budget = "120s"

[[step]]
name = "back"
kind = "deregister"
registry = "etcd"
url = "http://back"
key = "members/${hostname}"
after = []
timeout = "110s"

[[step]]
name = "down"
kind = "deregister"
registry = "etcd"
url = "http://down"
key = "members/${hostname}"
after = []
timeout = "6s"

[[step]]
name = "hanging"
kind = "deregister"
registry = "etcd"
url = "http://hanging"
key = "members/${hostname}"
after = []
timeout = "6s"

[[step]]
name = "stop-app"
kind = "stop-unit"
units = ["app.service"]
after = ["down", "hanging"]
"#;

#[test]
#[ignore = "needs root; tests/run has it"]
fn one_refuses_one_hangs_and_one_comes_back() {
    let mut back = registry();
    let mut down = registry();
    let hanging = registry();
    let config = back.named("back", SEQUENCE);
    let config = hanging.named("hanging", &down.named("down", &config));
    let machine = member(Rig::new(), &config).boot();
    back.go_down();
    down.go_down();
    hanging.hang();
    let ending = machine.start("systemctl poweroff");
    machine.wait_for("journalctl -o cat -u farewell | grep 'step stop-app: done'");
    machine.wait_for("journalctl -o cat -u farewell | grep 'step back: attempt 4 failed'");
    back.come_back();
    let end = machine.ended();
    drop(ending);
    end.run()
        .is("poweroff", "failed")
        .step("back", "done")
        .attempts("back", 5)
        .step("down", "failed")
        .failed("down", "unreachable")
        .attempts("down", 3)
        .took("down", 4.0..=60.0)
        .step("hanging", "timed-out")
        .failed("hanging", "timed-out")
        .attempts("hanging", 2)
        .took("hanging", 5.9..=60.0)
        .step("stop-app", "done");
    end.in_order(&[
        "step down: attempt 1 failed: unreachable: http://registry:",
        "step hanging: attempt 1 failed: timed-out: http://registry:",
        "step hanging: timed-out",
        "step stop-app: done",
        "step back: done",
    ]);
    back.is_clean();
}
