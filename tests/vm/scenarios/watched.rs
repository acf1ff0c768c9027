//! Whoever looks at a machine that goes down sees what it waits for, and how long it still may: with
//! `systemctl status`, on the console, and as a plain user over D-Bus.

use super::LEAVE_AND_STOP;
use crate::lab::Stage;

/// A plain user's command.
const PLAIN: &str = "setpriv --reuid 65534 --regid 65534 --clear-groups";

pub fn watched(stage: &Stage) {
    let registry = stage.registry();
    let mut machine = stage.machine();
    machine.write("/etc/app.env", "STOP_SECONDS=12");
    machine.must("systemctl restart app.service");
    machine.configure(&registry.within(LEAVE_AND_STOP));
    // To the journal, which is there to the end.
    machine.must("busctl monitor --json=short org.farewell.Agent1 2>&1 | systemd-cat -t signals &");
    machine.must("systemctl poweroff");
    machine.wait_for(
        "systemctl status farewell.service | \
        grep -E 'Status: \"4/5 stop-app: waiting for the end of app.service \\(deactivating\\), [0-9]+ s left\"'",
    );
    machine.must(&format!(
        "{PLAIN} farewell status --follow 2>&1 | systemd-cat -t follow &"
    ));
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
    let refused = machine.run(&format!(
        "{PLAIN} busctl call org.freedesktop.DBus / org.freedesktop.DBus RequestName su org.farewell.Agent1 0"
    ));
    assert_ne!(refused.code, 0, "{refused:?}");
    let end = machine.powered_off();
    for parts in [
        ["StepChanged", "stop-app", "running"],
        ["StepChanged", "stop-app", "done"],
        ["PropertiesChanged", "StepsDone", "5"],
        ["RunFinished", "ok", ""],
    ] {
        let has_all = |line: &str| {
            line.starts_with("signals: ") && parts.iter().all(|part| line.contains(part))
        };
        assert!(
            end.journal.0.iter().any(|it| has_all(&it.line)),
            "{parts:?}"
        );
    }
    end.in_order(&["follow: ", "stop-app", "ok after"]);
    end.run().is("poweroff", "ok").took("stop-app", 12.0..=16.0);
    let told: Vec<u32> = (end.console.lines())
        .filter_map(|line| {
            line.split_once(
                "farewell: step stop-app waits for the end of app.service (deactivating), ",
            )
        })
        .map(|(_, left)| left.split_once(" s left").expect("what is left").0)
        .map(|left| left.parse().expect("a number"))
        .collect();
    let [first, second] = told[..] else {
        panic!("every 5 s: {told:?}");
    };
    assert!(
        (23..=25).contains(&first) && (17..=20).contains(&second),
        "{told:?}"
    );
}
