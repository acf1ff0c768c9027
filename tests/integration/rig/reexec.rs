//! systemd reads everything anew, and even starts itself anew, in the middle of a run: the run hears nothing of it.

use crate::rig::harness::{Rig, member, on_each_release};

/// The run must be in its second half when PID 1 is back, on however slow a machine: the application ends when told.
const SEQUENCE: &str = r#"
[farewell]
budget = { default = "10s", stop = "170s" }

[[step]]
name = "stop-app"
kind = "stop-unit"
units = ["app.service"]
timeout = "160s"

[[step]]
name = "notice"
kind = "command"
argv = ["echo", "the end: ${result}"]
"#;

const APP: &str = "[Service]
ExecStart=/bin/bash -c 'trap \"until [ -e /rig/go ]; do sleep 0.1; done; logger -t app ended; exit\" TERM; while :; do sleep 0.1; done'
TimeoutStopSec=160s
";

on_each_release! {
    fn in_the_middle_of_a_run(rig: Rig) {
        let machine = member(rig, SEQUENCE).unit("app.service", APP).boot();
        machine.must("systemctl stop --no-block farewell.service");
        let waits = "systemctl show --value -p StatusText farewell.service | grep 'the end of app.service'";
        machine.wait_for(waits);
        machine.must("systemctl daemon-reload");
        machine.must("systemctl daemon-reexec");
        machine.wait_for(waits);
        machine.write("/rig/go", "");
        machine.wait_for("[ $(systemctl show --value -p ActiveState farewell.service) != deactivating ]");
        assert_eq!(machine.property("farewell.service", "Result"), "success");
        assert_eq!(machine.state("farewell.service"), "inactive");
        let end = machine.end("systemctl poweroff");
        end.run()
            .is("stop", "ok")
            .step("stop-app", "done")
            .step("notice", "done");
        end.in_order(&[
            "systemd: Reloading",
            "systemd: Reexecuting",
            "app: ended",
            "step stop-app: done",
            "notice | the end: ok",
        ]);
    }
}
