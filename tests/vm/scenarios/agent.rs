//! A registry's agent on the machine itself: with `needs` it answers to the end, and without it everybody who is asked
//! before the last day says which line is missing.

use crate::lab::{Machine, Stage};

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

fn machine(stage: &Stage) -> Machine {
    let mut machine = stage.machine();
    machine.write("/etc/systemd/system/agent.service", AGENT);
    machine.must("systemctl daemon-reload && systemctl start agent.service");
    machine.wait_for("curl -s http://127.0.0.1:8500/");
    machine
}

/// A machine that is ready says so, and one that is not says why; then its agent answers to the end.
pub fn rehearsal(stage: &Stage) {
    let mut machine = machine(stage);
    machine.must("install -m 600 -D /dev/stdin /etc/credstore/notice-token <<<'a secret'");
    machine.configure(&SEQUENCE.replace("NEEDS", "needs = [\"agent.service\"]"));
    let said = machine.must("farewell rehearse");
    assert!(said.contains("4 steps: 4 ready"), "{said}");
    machine.must("systemctl start farewell-rehearse.service");

    machine.must(
        "mkdir -p /etc/systemd/system/farewell.service.d
        printf '[Service]\\nTimeoutStopSec=10s\\n' >/etc/systemd/system/farewell.service.d/override.conf
        systemctl daemon-reload",
    );
    would_fail(
        &mut machine,
        "farewell.service has TimeoutStopSec=10s, and the budget needs 1m 35s",
    );
    machine.must("rm -r /etc/systemd/system/farewell.service.d && systemctl daemon-reload");

    machine.must(
        "touch /run/farewell/skip && systemctl stop farewell.service && rm /run/farewell/skip",
    );
    would_fail(
        &mut machine,
        "farewell.service is inactive, so that a shutdown runs no farewell",
    );
    let failed = machine.run("systemctl start farewell-rehearse.service");
    assert_eq!(failed.code, 1, "{failed:?}");
    machine.must("systemctl start farewell.service && farewell rehearse");

    machine.press_power_button();
    let end = machine.powered_off();
    end.run().is("poweroff", "ok").step("agent", "done");
    end.in_order(&[
        "/run/farewell/skip is there: this unit stops WITHOUT A FAREWELL",
        "farewell.service is inactive",
        "step agent: done",
        "step stop-app: done",
        "systemd: Stopped farewell.service",
        "systemd: Stopped agent.service",
    ]);
}

fn would_fail(machine: &mut Machine, finding: &str) {
    let said = machine.run("farewell rehearse");
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.text.contains(finding), "{said:?}");
    assert!(
        said.text.contains("4 ready; 1 finding on this machine"),
        "{said:?}"
    );
}

/// An agent that nothing orders, and a credential that is not there: `farewell start` fails for all to see, and what can be
/// done is done nevertheless.
pub fn start_fails(stage: &Stage) {
    const LINE: &str =
        "add `needs = [\"agent.service\"]` to the step, and run `systemctl daemon-reload`";
    let mut machine = machine(stage);
    machine.write(
        "/etc/farewell/farewell.toml",
        &SEQUENCE.replace("NEEDS", ""),
    );
    machine.must("systemctl daemon-reload");
    let started = machine.run("systemctl start farewell-start.service");
    assert_eq!(started.code, 1, "{started:?}");
    let state = machine.run("systemctl is-system-running").text;
    assert_eq!(state.trim(), "degraded");
    let failed = machine.must("systemctl --failed --plain --no-legend");
    assert!(failed.starts_with("farewell-start.service"), "{failed}");
    let said = machine.run("farewell rehearse");
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.text.contains(LINE), "{said:?}");
    machine.press_power_button();
    let end = machine.powered_off();
    end.run()
        .is("poweroff", "failed")
        .failed("agent", "unreachable")
        .took("agent", 2.0..=6.0)
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
