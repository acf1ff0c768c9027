//! What would start a unit again, during its stop or soon after it.

use super::stop_closure::{are_down, said, stopping};
use crate::rig::harness::{Ending, Rig, app};

/// It waits for another unit to start, and would be up a moment after the farewell.
#[test]
#[ignore = "needs root; tests/run has it"]
fn a_start_that_waits_is_taken_back() {
    let machine = Rig::new()
        .unit("gate.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'while ! test -e /rig/open; do sleep 0.2; done'\n")
        .unit("app.service", &app("app", 0.0, "[Unit]\nAfter=gate.service"))
        .configuration(&stopping("\"app.service\"", ""))
        .boot();
    machine.must("systemctl start --no-block gate app");
    machine.wait_for("systemctl list-jobs | grep -q 'app.service *start *waiting'");
    machine.must("systemctl stop farewell");
    assert_eq!(machine.step("stop"), "done");
    machine.must("touch /rig/open");
    machine.wait_for("systemctl is-active gate");
    machine.wait_for("! systemctl list-jobs | grep -q app.service");
    are_down(&machine, &["app.service"]);
    assert_eq!(machine.life().times("app", "start"), 0);
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_start_that_is_queued_behind_the_stop() {
    let machine = Rig::new()
        .app("app", 3.0)
        .configuration(&stopping("\"app.service\"", ""))
        .boot();
    machine.wait_for_life("app", "start");
    let farewell = machine.start("systemctl start farewell && systemctl stop farewell");
    machine.wait_for_life("app", "TERM");
    machine.must("systemctl start --no-block app");
    assert_eq!(farewell.end().code, 0);
    assert_eq!(machine.step("stop"), "done");
    machine.wait_for("! systemctl list-jobs | grep -q app.service");
    are_down(&machine, &["app.service"]);
    assert_eq!(machine.life().times("app", "start"), 1);
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn what_upholds_or_triggers_it_goes_first() {
    let machine = Rig::new()
        .app("app", 0.3)
        .unit(
            "keeper.service",
            &app("keeper", 1.0, "[Unit]\nUpholds=app.service"),
        )
        .unit(
            "app.timer",
            "[Timer]\nOnBootSec=1s\nOnUnitInactiveSec=1s\nAccuracySec=1ms\n",
        )
        .configuration(&stopping("\"app.service\"", ""))
        .boot();
    machine.must("systemctl start keeper app.timer");
    machine.wait_for_life("keeper", "start");
    machine.wait_for_life("app", "start");
    let version: u32 = machine
        .must("systemctl --version | sed -n '1s/systemd \\([0-9]*\\).*/\\1/p'")
        .parse()
        .expect("a number");
    machine.farewell();
    assert_eq!(machine.step("stop"), "done");
    are_down(&machine, &["app.service", "app.timer"]);
    // Upholds= came with 249.
    if version >= 249 {
        are_down(&machine, &["keeper.service"]);
        machine.life().in_order(&["keeper end", "app TERM"]);
        let said = said(&machine, "stop");
        assert!(
            said.contains("keeper.service (Upholds=app.service)"),
            "{said}"
        );
    }
    assert_eq!(machine.life().times("app", "start"), 1);
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn an_upholding_target_is_told_of() {
    let machine = Rig::new()
        .app("app", 0.0)
        .unit("all.target", "[Unit]\nUpholds=app.service\n")
        .configuration(&stopping("\"app.service\"", ""))
        .boot();
    machine.must("systemctl start all.target");
    let rehearsed = machine.sh("farewell rehearse");
    if machine.property("app.service", "UpheldBy").is_empty() {
        // Before 249.
        return assert!(!rehearsed.stdout.contains("Upholds"), "{rehearsed:?}");
    }
    assert!(
        rehearsed
            .stdout
            .contains("all.target has Upholds=app.service"),
        "{rehearsed:?}"
    );
    let end = machine.end("systemctl start farewell; systemctl poweroff");
    assert_eq!(end.ending(), Ending::Off);
    assert_eq!(end.step("stop"), "done");
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_unit_between_two_starts() {
    let machine = Rig::new()
        .unit(
            "flapping.service",
            "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/bin/sh -c 'echo 0 flapping start >>/rig/log; exit 1'\nRestart=always\nRestartSec=5s\n",
        )
        .wants("flapping.service")
        .configuration(&stopping("\"flapping.service\"", ""))
        .boot();
    machine.wait_for("[ $(systemctl show -P SubState flapping) = auto-restart ]");
    machine.farewell();
    assert_eq!(machine.step("stop"), "done");
    let starts = machine.life().times("flapping", "start");
    assert_ne!(
        machine.property("flapping.service", "SubState"),
        "auto-restart"
    );
    machine.wait_for("sleep 6; ! systemctl is-active flapping");
    assert_eq!(machine.life().times("flapping", "start"), starts);
}

/// A stop job of the shutdown is queued for every active unit, and starts nothing.
#[test]
#[ignore = "needs root; tests/run has it"]
fn an_application_that_ends_by_itself_during_a_shutdown() {
    let config = "[[step]]\nname = \"end\"\nkind = \"command\"\nargv = [\"pkill\", \"-x\", \"-f\", \"/bin/sleep 1000001\"]\nbefore = [\"stop\"]\n\
                  [[step]]\nname = \"gone\"\nkind = \"command\"\nafter = [\"end\"]\nbefore = [\"stop\"]\n\
                  argv = [\"sh\", \"-c\", \"while systemctl is-active app; do sleep 0.1; done\"]\n";
    let machine = Rig::new()
        .unit("app.service", "[Service]\nExecStart=/bin/sleep 1000001\n")
        .wants("app.service")
        .configuration(&stopping("\"app.service\"", config))
        .boot();
    machine.wait_for("systemctl is-active app");
    let end = machine.end("systemctl poweroff");
    assert_eq!(end.ending(), Ending::Off);
    assert_eq!(end.step("stop"), "already-done");
}
