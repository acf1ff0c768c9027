//! The configuration after the boot: what is added is ordered without anybody's reload, and what breaks it costs nothing,
//! since the last good plan runs, and stays ordered.

use super::LEAVE_AND_STOP;
use crate::lab::Stage;

const WORKER: &str = "[Service]\nExecStart=/bin/sleep infinity\n";

/// What cloud-init adds.
const ADDED: &str = r#"
[[step]]
name = "stop-worker"
kind = "stop-unit"
units = ["worker.service"]
"#;

pub fn configuration(stage: &Stage) {
    const AFTER: &str =
        "systemctl show --value -p After farewell.service | grep -qw worker.service";
    let registry = stage.registry();
    let mut machine = stage.machine();
    machine.write("/etc/systemd/system/worker.service", WORKER);
    machine.must("systemctl daemon-reload && systemctl start worker.service");
    machine.configure(&registry.within(LEAVE_AND_STOP));
    machine.write("/etc/farewell/conf.d/50-worker.toml", ADDED);
    assert_ne!(machine.run(AFTER).code, 0);
    machine.must("systemctl start farewell.service");
    machine.wait_for("test -z \"$(systemctl list-jobs --no-legend)\"");
    machine.must(AFTER);
    machine.must("systemctl is-system-running");

    machine.must("echo 'tiemout = 3' >>/etc/farewell/farewell.toml && systemctl daemon-reload");
    machine.must(AFTER);
    machine.must("systemctl poweroff");
    let end = machine.powered_off();
    end.run()
        .is("poweroff", "ok")
        .warns("the last good plan runs instead")
        .warns("tiemout")
        .step("leave", "done")
        .step("stop-app", "done")
        .step("stop-worker", "done");
    end.in_order(&[
        "farewell: farewell start: what systemd has loaded is older than the configuration: asks for a daemon-reload",
        "farewell-generator: farewell.service stays ordered as the last good plan needs it",
        "the configuration is broken, as told: the last good plan runs instead",
        "step stop-app: done",
        "step stop-worker: done",
        "systemd: Stopped farewell.service",
    ]);
    assert!(end.console.contains("the last good plan runs instead"));
    registry.is_clean();
}
