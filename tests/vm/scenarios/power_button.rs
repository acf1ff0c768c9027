//! The power button of a running machine: it leaves etcd while the application still answers, then the application stops.

use crate::lab::Stage;

const CONFIG: &str = r#"
[[step]]
name = "leave"
kind = "wait"
for = "1s"

[[step]]
name = "asked"
kind = "http"
url = "http://127.0.0.1:8080/"
"#;

pub fn power_button(stage: &Stage) {
    let mut machine = stage.machine();
    machine.configure(CONFIG);
    machine.press_power_button();
    let end = machine.powered_off();
    end.run().is("poweroff", "ok").step("asked", "done");
    end.in_order(&["step leave: done", "app: TERM", "app: ended"]);
}
