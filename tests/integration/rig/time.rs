//! When the time is over: what has to be done at the end is done, and systemd does not end a run that is inside its budget.

use crate::rig::harness::{Rig, member, on_each_release};

const SEQUENCE: &str = r#"
[farewell]
budget = "16s"
reserve = "4s"

[[step]]
name = "eater"
kind = "command"
argv = ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"]
timeout = "60s"
grace = "1s"

[[step]]
name = "after-it"
kind = "wait"
for = "2s"

[[step]]
name = "notice"
kind = "command"
argv = ["echo", "the end: ${result}"]
always = true
needs = ["app.service"]
"#;

on_each_release! {
    /// With an override that gives it no time systemd's SIGTERM cuts the run short; without it the budget does.
    fn over(rig: Rig) {
        let machine = member(rig, SEQUENCE).boot();
        machine.must(
            "mkdir -p /etc/systemd/system/farewell.service.d
            printf '[Service]\\nTimeoutStopSec=5s\\nNotifyAccess=none\\n' >/etc/systemd/system/farewell.service.d/override.conf
            systemctl daemon-reload",
        );
        machine.must("systemctl stop farewell.service");
        assert_eq!(machine.property("farewell.service", "Result"), "timeout");
        assert_eq!(machine.state("farewell.service"), "failed");
        machine.must("rm -r /etc/systemd/system/farewell.service.d && systemctl daemon-reload");
        machine.must("systemctl is-active app.service");

        machine.must("systemctl start farewell.service");
        let end = machine.end("systemctl poweroff");
        let runs = end.runs();
        assert_eq!(runs.len(), 2);
        // Told to end after 5 s, it ends long before its budget of 16 s does.
        runs[0]
            .is("stop", "cut-short")
            .within(14.0)
            .step("eater", "cancelled")
            .took("eater", 3.0..=13.0)
            .step("after-it", "cancelled")
            .step("notice", "done");
        runs[1]
            .is("poweroff", "cut-short")
            .step("eater", "timed-out")
            .failed("eater", "timed-out")
            // All but the reserve.
            .took("eater", 11.0..=15.0)
            .step("notice", "done");
        assert!(!end.journal.says("step after-it: done"));
        end.in_order(&[
            "farewell.service: Stopping timed out. Terminating.",
            "step eater: cancelled",
            "notice | the end: ",
            "systemd: farewell.service: Control process exited, code=exited, status=75/TEMPFAIL",
            "trigger poweroff",
            "step eater: timed-out",
            "notice | the end: ",
            "step notice: done",
            "systemd: farewell.service: Control process exited, code=exited, status=75/TEMPFAIL",
            "systemd: farewell.service: Failed with result 'exit-code'",
            "app: TERM",
        ]);
    }
}
