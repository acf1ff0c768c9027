//! Units of every state are stopped by a farewell by hand, and again when the machine goes down: what restarts stays down,
//! what a socket starts is not started again, what is not there is no failure, and what does not end is named.

use crate::lab::{Machine, Run, Stage};

const UNITS: [(&str, &str); 6] = [
    (
        "restarting.service",
        "[Service]\nExecStart=/bin/sleep infinity\nRestart=always\nRestartSec=100ms\n",
    ),
    (
        "worker@.service",
        "[Service]\nExecStart=/bin/sleep infinity\n",
    ),
    (
        "broken.service",
        "[Service]\nType=oneshot\nExecStart=/bin/false\n",
    ),
    (
        "starting.service",
        "[Service]\nType=notify\nTimeoutStartSec=infinity\nExecStart=/bin/sleep infinity\n",
    ),
    (
        "slow.service",
        "[Service]\nExecStart=/bin/bash -c 'trap \"\" TERM; exec sleep infinity'\nTimeoutStopSec=60s\n",
    ),
    ("app.socket", "[Socket]\nListenStream=8080\n"),
];

/// The steps, each of which stops the unit of its name; all at once.
const STEPS: [(&str, &str); 8] = [
    ("restarting", "restarting.service"),
    ("template", "worker@1.service"),
    ("missing", "missing.service"),
    ("masked", "masked.service"),
    ("broken", "broken.service"),
    ("starting", "starting.service"),
    ("app", "app.service"),
    ("slow", "slow.service"),
];

pub fn stop_units(stage: &Stage) {
    let mut machine = stage.machine();
    machine.must("systemctl stop app.service");
    for (name, unit) in UNITS {
        machine.write(&format!("/etc/systemd/system/{name}"), unit);
    }
    machine.write(
        "/usr/lib/systemd/system/masked.service",
        "[Service]\nExecStart=/bin/sleep infinity\n",
    );
    // For what is left when everything else is gone; its default is 90 s.
    machine.write(
        "/etc/systemd/system.conf.d/lab.conf",
        "[Manager]\nDefaultTimeoutStopSec=10s",
    );
    machine.must("systemctl daemon-reexec");
    machine.configure(&sequence());
    start(&mut machine);
    // A client that asks on and on, which would start the application again.
    machine.must("(while :; do curl -s http://127.0.0.1:8080/; sleep 0.2; done) >/dev/null 2>&1 &");
    machine.must("systemctl stop farewell.service");
    for unit in ["restarting.service", "app.service", "app.socket"] {
        let state = machine.run(&format!("systemctl is-active {unit}"));
        assert_eq!(state.text.trim(), "inactive", "{unit}");
    }
    let restarts = machine.must("systemctl show --value -p NRestarts restarting.service");
    assert_eq!(restarts, "0");

    machine.must("systemctl kill -s KILL slow.service; systemctl reset-failed");
    machine.must("systemctl start farewell.service");
    start(&mut machine);
    machine.press_power_button();
    let end = machine.powered_off();
    let runs = end.runs();
    runs[0].is("stop", "failed");
    runs[1].is("poweroff", "failed");
    assert_eq!(runs.len(), 2);
    runs.iter().for_each(steps_ended);
    end.in_order(&[
        "step app: done",
        "step slow: timed-out",
        "step app: done",
        "step slow: timed-out",
        "systemd: Stopped farewell.service",
        "systemd: Stopped systemd-networkd.service",
    ]);
    // What cannot work: systemd waits no longer for a unit that was stopped out of order.
    assert!(end.console.contains("Waiting for process: "));
    assert!(end.console.contains("Sending SIGKILL to PID"));
}

fn sequence() -> String {
    let step = |(name, unit): (&str, &str)| {
        format!(
            "[[step]]\nname = \"{name}\"\nkind = \"stop-unit\"\nunits = [\"{unit}\"]\nafter = []\ntimeout = \"12s\"\n"
        )
    };
    STEPS.map(step).concat()
}

/// Brings every unit into the state that its name tells.
fn start(machine: &mut Machine) {
    machine.must(
        "systemctl unmask -q masked.service
        systemctl start restarting.service worker@1.service masked.service slow.service app.socket
        systemctl mask -q masked.service
        systemctl start --no-block starting.service
        ! systemctl start broken.service
        curl -s http://127.0.0.1:8080/",
    );
}

fn steps_ended(run: &Run<'_>) {
    for step in ["restarting", "template", "masked", "starting", "app"] {
        run.step(step, "done");
    }
    run.step("missing", "already-done")
        .says("missing", &["there is no unit missing.service"])
        .step("broken", "already-done")
        .says(
            "broken",
            &["broken.service is down, but failed (exit-code)"],
        )
        .step("slow", "timed-out")
        .failed("slow", "timed-out")
        .says(
            "slow",
            &[
                "slow.service is deactivating (stop-sigterm) for",
                "s, with processes",
                "(sleep)",
            ],
        )
        .took("slow", 11.9..=14.0);
}
