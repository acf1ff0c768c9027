//! Whoever looks at a machine that goes down sees what it waits for, and how long it still may: with
//! `systemctl status`, on the console, and as a plain user over D-Bus.

use crate::rig::harness::{Rig, member, on_each_release, registry};
use crate::support::member::LEAVE_AND_STOP;

/// A plain user's command.
const PLAIN: &str = "setpriv --reuid 65534 --regid 65534 --clear-groups";

/// What is said each few seconds on the console.
const SAYS: &str = "farewell: step stop-app waits for the end of app.service (stop-sigterm), ";

/// The application ends when the test has seen what it wants to see.
const APP: &str = "[Service]
ExecStart=/bin/bash -c 'trap \"until [ -e /rig/go ]; do sleep 0.1; done; exit\" TERM; while :; do sleep 0.1; done'
TimeoutStopSec=160s
";

on_each_release! {
    fn while_it_goes_down(rig: Rig) {
        let registry = registry();
        let config = LEAVE_AND_STOP.replace("timeout = \"30s\"", "timeout = \"150s\"");
        let config = format!("[farewell]\nbudget = \"175s\"\n{}", registry.within(&config));
        let machine = member(rig, &config).unit("app.service", APP).boot();
        // To the journal, which is there to the end.
        machine.must("busctl monitor --json=short org.farewell.Agent1 2>&1 | systemd-cat -t signals &");
        let ending = machine.start("systemctl poweroff");
        machine.wait_for(
            "systemctl status --lines=0 farewell.service | \
            grep -E 'Status: \"4/5 stop-app: waiting for the end of app.service \\(stop-sigterm\\), [0-9min ]+ s left\"'",
        );
        machine.must(&format!("{PLAIN} farewell status --follow 2>&1 | systemd-cat -t follow &"));
        for (property, value) in [
            ("Trigger", "s \"poweroff\""),
            ("State", "s \"running\""),
            ("StepsTotal", "u 5"),
            ("StepsDone", "u 3"),
        ] {
            let told = machine.must(&format!(
                "{PLAIN} busctl get-property org.farewell.Agent1 /org/farewell/Agent1 org.farewell.Agent1 {property}"
            ));
            assert_eq!(told, value, "{property}");
        }
        let refused = machine.sh(&format!(
            "{PLAIN} busctl call org.freedesktop.DBus / org.freedesktop.DBus RequestName su org.farewell.Agent1 0"
        ));
        assert_ne!(refused.code, 0, "{refused:?}");
        machine.wait_for("journalctl -t follow -o cat | grep stop-app");
        machine.wait_until("it has said so twice on the console", |it| it.console().matches(SAYS).count() >= 2);
        machine.write("/rig/go", "");
        let end = machine.ended();
        drop(ending);
        for parts in [
            ["StepChanged", "stop-app", "running"],
            ["StepChanged", "stop-app", "done"],
            ["PropertiesChanged", "StepsDone", "5"],
            ["RunFinished", "ok", ""],
        ] {
            let has_all = |line: &str| line.starts_with("signals: ") && parts.iter().all(|part| line.contains(part));
            assert!(end.journal.0.iter().any(|it| has_all(&it.line)), "{parts:?}");
        }
        end.in_order(&["follow: ", "stop-app", "ok after"]);
        end.run().is("poweroff", "ok").step("stop-app", "done");
        let console = end.console();
        let told: Vec<u64> = (console.lines())
            .filter_map(|line| line.split_once(SAYS))
            .map(|(_, left)| seconds(left.split_once(" left").expect("what is left").0))
            .collect();
        // Every 5 s, and at first when it has waited so long.
        assert!((60..=145).contains(&told[0]), "{told:?}");
        assert!(told.windows(2).all(|it| it[0] >= it[1] + 4), "{told:?}");
    }
}

/// A time as people read it: `1 min 25 s`, `25 s`, `2 min`.
fn seconds(text: &str) -> u64 {
    let words: Vec<&str> = text.split(' ').collect();
    let value =
        |it: &[&str]| it[0].parse::<u64>().expect("a number") * if it[1] == "min" { 60 } else { 1 };
    words.chunks(2).map(value).sum()
}
