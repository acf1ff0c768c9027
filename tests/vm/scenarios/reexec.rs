//! systemd reads everything anew, and even starts itself anew, in the middle of a run: the run hears nothing of it.

use crate::lab::Stage;

const SEQUENCE: &str = r#"
[farewell]
budget = { default = "10s", stop = "60s" }

[[step]]
name = "stop-app"
kind = "stop-unit"
units = ["app.service"]

[[step]]
name = "notice"
kind = "command"
argv = ["echo", "the end: ${result}"]
"#;

pub fn reexec(stage: &Stage) {
    let mut machine = stage.machine();
    machine.write("/etc/app.env", "STOP_SECONDS=20");
    machine.must("systemctl restart app.service");
    machine.configure(SEQUENCE);
    machine.must("systemctl stop --no-block farewell.service");
    machine.wait_for(
        "systemctl show --value -p StatusText farewell.service | grep 'the end of app.service'",
    );
    machine.must("systemctl daemon-reload");
    machine.must("systemctl daemon-reexec");
    machine.wait_for(
        "systemctl show --value -p StatusText farewell.service | grep 'the end of app.service'",
    );
    machine
        .wait_for("[ $(systemctl show --value -p ActiveState farewell.service) != deactivating ]");
    let ended = machine.must("systemctl show -p Result -p ActiveState farewell.service");
    assert_eq!(ended, "Result=success\nActiveState=inactive");
    let end = machine.cut();
    end.run()
        .is("stop", "ok")
        .step("stop-app", "done")
        .took("stop-app", 20.0..=26.0)
        .step("notice", "done");
    end.in_order(&[
        "systemd: Reloading",
        "systemd: Reexecuting",
        "app: ended",
        "step stop-app: done",
        "notice | the end: ok",
    ]);
}
