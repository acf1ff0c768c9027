//! The configuration after the boot: what is added is ordered without anybody's reload, and what breaks it costs nothing,
//! since the last good plan runs, and stays ordered.

use crate::rig::harness::{Rig, member, on_each_release, registry};
use crate::support::member::LEAVE_AND_STOP;

const WORKER: &str = "[Service]\nExecStart=/bin/sleep infinity\n";

/// What cloud-init adds.
const ADDED: &str = r#"
[[step]]
name = "stop-worker"
kind = "stop-unit"
units = ["worker.service"]
"#;

const AFTER: &str = "systemctl show --value -p After farewell.service | grep -qw worker.service";

on_each_release! {
    fn added_and_broken(rig: Rig) {
        let registry = registry();
        let machine = member(rig, &registry.within(LEAVE_AND_STOP))
            .unit("worker.service", WORKER)
            .wants("worker.service")
            .boot();
        machine.write("/etc/farewell/conf.d/50-worker.toml", ADDED);
        assert_ne!(machine.sh(AFTER).code, 0);
        machine.must("systemctl start farewell-start.service");
        machine.wait_for("test -z \"$(systemctl list-jobs --no-legend)\"");
        machine.must(AFTER);
        machine.must("systemctl is-system-running");

        machine.must("echo 'tiemout = 3' >>/etc/farewell/farewell.toml && systemctl daemon-reload");
        machine.must(AFTER);
        let end = machine.end("systemctl poweroff");
        end.run()
            .is("poweroff", "ok")
            .warns("the last good plan runs instead")
            .warns("tiemout")
            .step("leave", "done")
            .step("stop-app", "done")
            .step("stop-worker", "done");
        end.in_order(&[
            "farewell: farewell start: systemd has loaded an older configuration: requesting a daemon-reload",
            "the configuration cannot be used, see above: the last good plan runs instead",
            "step stop-app: done",
            "step stop-worker: done",
            "systemd: Stopped farewell.service",
        ]);
        // The generator has the kernel's log alone.
        let said = "farewell.service keeps the order of the last good plan";
        assert!(end.kernel_log().contains(said), "{}", end.kernel_log());
        assert!(end.console().contains("the last good plan runs instead"));
        registry.is_clean();
    }
}
