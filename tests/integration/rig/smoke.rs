//! The rig itself: what boots, and what a machine leaves.

use crate::rig::harness::{Rig, app};

/// A machine is up with nothing failed, its farewell is armed and checked, and `systemctl stop farewell` runs it.
#[test]
#[ignore = "needs root; tests/run has it"]
fn a_machine_comes_up_and_says_its_farewell() {
    let machine = Rig::new()
        .unit("app.service", &app("app", 0.2, ""))
        .wants("app.service")
        .configuration(
            "[farewell]\nbudget = \"60s\"\n[[step]]\nname = \"stop-app\"\nkind = \"stop-unit\"\nunits = [\"app.service\"]\n",
        )
        .boot();
    assert_eq!(machine.must("systemctl --failed --no-legend"), "");
    assert_eq!(machine.state("farewell.service"), "active");
    assert_eq!(machine.state("app.service"), "active");
    machine.wait_for_life("app", "start");
    let report = machine.farewell();
    assert_eq!(report["trigger"], "stop");
    assert_eq!(machine.step("stop-app"), "done");
    assert_eq!(machine.state("app.service"), "inactive");
    machine
        .life()
        .in_order(&["app start", "app TERM", "app end"]);
    machine
        .journal()
        .in_order(&["trigger stop", "step stop-app: done"]);
}
