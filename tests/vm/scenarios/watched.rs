//! Whoever looks at a machine that goes down sees what it waits for, and how long it still may: `systemctl status`, and the
//! console.

use super::LEAVE_AND_STOP;
use crate::lab::Stage;

pub fn watched(stage: &Stage) {
    let registry = stage.registry();
    let mut machine = stage.machine();
    machine.write("/etc/app.env", "STOP_SECONDS=12");
    machine.must("systemctl restart app.service");
    machine.configure(&registry.within(LEAVE_AND_STOP));
    machine.must("systemctl poweroff");
    machine.wait_for(
        "systemctl status farewell.service | \
        grep -E 'Status: \"4/5 stop-app: waiting for the end of app.service \\(deactivating\\), [0-9]+ s left\"'",
    );
    let end = machine.powered_off();
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
