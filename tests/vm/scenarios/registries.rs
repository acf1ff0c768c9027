//! Three registries, of which one refuses, one hangs, and one is back after 10 s: the last one is left, the others cost
//! their own step its time and nobody else anything.

use std::time::Duration;

use crate::lab::Stage;

const SEQUENCE: &str = r#"
[farewell]
budget = "60s"

[[step]]
name = "back"
kind = "deregister"
registry = "etcd"
url = "http://back"
key = "members/${hostname}"
after = []

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

pub fn registries(stage: &Stage) {
    let mut back = stage.registry_named("back");
    let mut down = stage.registry_named("down");
    let hanging = stage.registry_named("hanging");
    let config = back.named("back", SEQUENCE);
    let config = hanging.named("hanging", &down.named("down", &config));
    let mut machine = stage.machine();
    machine.configure(&config);
    back.go_down();
    down.go_down();
    hanging.hang();
    machine.press_power_button();
    machine.wait_for_console("begins: trigger poweroff");
    std::thread::sleep(Duration::from_secs(10));
    back.come_back();
    let end = machine.powered_off();
    end.run()
        .is("poweroff", "failed")
        .within(30.0)
        .step("back", "done")
        .attempts("back", 4)
        .took("back", 9.0..=25.0)
        .step("down", "failed")
        .failed("down", "unreachable")
        .attempts("down", 3)
        .took("down", 4.0..=8.0)
        .step("hanging", "timed-out")
        .failed("hanging", "timed-out")
        .attempts("hanging", 2)
        .took("hanging", 5.9..=8.0)
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
