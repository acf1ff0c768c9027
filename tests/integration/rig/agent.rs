//! A registry's agent on the machine itself: with `needs` it answers to the end, and without it everybody who is asked
//! before the last day says which line is missing.

use crate::rig::harness::{Machine, Rig, member, on_each_release};

const AGENT: &str = "
[Service]
ExecStart=/usr/bin/python3 -m http.server --bind 127.0.0.1 --directory /usr/share 8500
";

const SEQUENCE: &str = r#"
[[step]]
name = "settle"
kind = "wait"
for = "2s"

[[step]]
name = "agent"
kind = "http"
url = "http://127.0.0.1:8500/"
timeout = "4s"
NEEDS

[[step]]
name = "notice"
kind = "command"
argv = ["sh", "-c", "echo $TOKEN | wc -c"]
environment = { TOKEN = "${credential:notice-token}" }

[[step]]
name = "stop-app"
kind = "stop-unit"
units = ["app.service"]
"#;

fn boot(rig: Rig, needs: &str) -> Machine {
    let machine = member(rig, &SEQUENCE.replace("NEEDS", needs))
        .unit("agent.service", AGENT)
        .wants("agent.service")
        .boot();
    machine.wait_for("curl -s http://127.0.0.1:8500/");
    machine
}

fn would_fail(machine: &Machine, finding: &str) {
    let said = machine.sh("farewell rehearse");
    let text = format!("{}{}", said.stdout, said.stderr);
    assert_eq!(said.code, 1, "{text}");
    assert!(text.contains(finding), "{text}");
    assert!(
        text.contains("4 ready; 1 finding on this machine"),
        "{text}"
    );
}

on_each_release! {
    /// A machine that is ready says so, and one that is not says why; then its agent answers to the end.
    fn rehearsal(rig: Rig) {
        let rig = rig.secret("/etc/credstore/notice-token", "a secret\n");
        let machine = boot(rig, "needs = [\"agent.service\"]");
        let said = machine.must("farewell rehearse");
        assert!(said.contains("4 steps: 4 ready"), "{said}");
        machine.must("systemctl start farewell-rehearse.service");

        machine.must(
            "mkdir -p /etc/systemd/system/farewell.service.d
            printf '[Service]\\nTimeoutStopSec=10s\\n' >/etc/systemd/system/farewell.service.d/override.conf
            systemctl daemon-reload",
        );
        would_fail(
            &machine,
            "farewell.service has TimeoutStopSec=10s, and the budget needs 1m 35s",
        );
        machine.must("rm -r /etc/systemd/system/farewell.service.d && systemctl daemon-reload");

        machine.must(
            "mkdir -p /run/farewell; touch /run/farewell/skip && systemctl stop farewell.service && rm /run/farewell/skip",
        );
        would_fail(
            &machine,
            "farewell.service is inactive, so that no farewell runs at shutdown",
        );
        let failed = machine.sh("systemctl start farewell-rehearse.service");
        assert_eq!(failed.code, 1, "{failed:?}");
        machine.must("systemctl start farewell.service && farewell rehearse");

        let end = machine.end("systemctl poweroff");
        end.run().is("poweroff", "ok").step("agent", "done");
        end.in_order(&[
            "/run/farewell/skip exists: this unit stops WITHOUT A FAREWELL",
            "farewell.service is inactive",
            "step agent: done",
            "step stop-app: done",
            "systemd: Stopped farewell.service",
            "systemd: Stopped agent.service",
        ]);
    }

    /// An agent that nothing orders, and a credential that is not there: `farewell start` fails for all to see, and what
    /// can be done is done nevertheless.
    fn start_fails(rig: Rig) {
        const LINE: &str =
            "add `needs = [\"agent.service\"]` to the step, and run `systemctl daemon-reload`";
        let machine = boot(rig, "");
        let started = machine.sh("systemctl start farewell-start.service");
        assert_eq!(started.code, 1, "{started:?}");
        let state = machine.sh("systemctl is-system-running").stdout;
        assert_eq!(state.trim(), "degraded");
        let failed = machine.must("systemctl --failed --plain --no-legend");
        assert!(failed.starts_with("farewell-start.service"), "{failed}");
        let said = machine.sh("farewell rehearse");
        assert_eq!(said.code, 1, "{said:?}");
        assert!(format!("{said:?}").contains("agent.service"), "{said:?}");
        assert!(format!("{}{}", said.stdout, said.stderr).contains(LINE), "{said:?}");
        let end = machine.end("systemctl poweroff");
        end.run()
            .is("poweroff", "failed")
            .failed("agent", "unreachable")
            .took("agent", 2.0..=60.0)
            .failed("notice", "config")
            .says("notice", &["no file `notice-token`"])
            .step("stop-app", "done");
        end.in_order(&[
            "no file `notice-token`",
            LINE,
            "systemd: Failed to start farewell-start.service",
            "systemd: Stopped agent.service",
            "step agent: failed",
            "step stop-app: done",
        ]);
    }
}
