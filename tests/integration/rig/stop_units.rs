//! Units of every state are stopped by a farewell by hand, and again when the machine goes down: what restarts stays down,
//! what a socket starts is not started again, what is not there is no failure, and what does not end is named.

use crate::rig::harness::{Machine, Rig, member, on_each_release};
use crate::support::recorded::Run;

const UNITS: [(&str, &str); 7] = [
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
    // Where nothing of the same name is in /etc, so that it can be masked.
    (
        "masked.service",
        "[Service]\nExecStart=/bin/sleep infinity\n",
    ),
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

fn sequence() -> String {
    let step = |(name, unit): (&str, &str)| {
        format!(
            "[[step]]\nname = \"{name}\"\nkind = \"stop-unit\"\nunits = [\"{unit}\"]\nafter = []\ntimeout = \"12s\"\n"
        )
    };
    STEPS.map(step).concat()
}

/// Brings every unit into the state that its name tells.
fn start(machine: &Machine) {
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
        .took("slow", 11.9..=60.0);
}

on_each_release! {
    fn of_every_state(rig: Rig) {
        let mut rig = member(rig, &sequence())
            // For what is left when everything else is gone; its default is 90 s.
            .file("/etc/systemd/system.conf.d/lab.conf", "[Manager]\nDefaultTimeoutStopSec=10s\n")
            .link("/etc/systemd/system/multi-user.target.wants/app.service", "/dev/null");
        for (name, unit) in UNITS {
            rig = rig.file(&format!("/usr/lib/systemd/system/{name}"), unit);
        }
        let machine = rig.boot();
        start(&machine);
        // A client that asks on and on, which would start the application again.
        let client = machine.start("while :; do curl -s http://127.0.0.1:8080/; sleep 0.2; done");
        machine.must("systemctl stop farewell.service || :");
        for unit in ["restarting.service", "app.service", "app.socket"] {
            assert_eq!(machine.state(unit), "inactive", "{unit}");
        }
        assert_eq!(machine.property("restarting.service", "NRestarts"), "0");

        machine.must("systemctl kill -s KILL slow.service");
        machine.wait_for("systemctl reset-failed; test $(systemctl show -P ActiveState slow.service) = inactive");
        machine.must("systemctl start farewell.service");
        start(&machine);
        let end = machine.end("systemctl poweroff");
        drop(client);
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
        // What cannot work: systemd waits no longer for a unit that was stopped out of order, and it outlives all others.
        let gave_up = "slow.service: State 'stop-sigterm' timed out";
        let lines = &end.journal.0;
        assert!(lines.iter().all(|it| !it.line.contains(gave_up)));
        let stopped = lines
            .iter()
            .filter(|it| it.line.contains("Stopped slow.service"));
        // By the kill before, and not again.
        assert!(stopped.count() <= 1);
    }
}
