//! A unit is down when its processes are: those that its own settings let run on are waited for, and named.

use super::stop_closure::{are_down, said, stopping};
use crate::rig::harness::{Machine, Rig};

/// As k3s, and everything that is made from an init script: the main process leaves its children behind.
const LEAVING: &str = "[Service]\nKillMode=process\nExecStart=/bin/bash -c 'sleep 1000000 & echo 0 leaving start >>/rig/log; wait'\n";

/// It ends at no signal but SIGKILL, which is not sent.
const STUBBORN: &str = "[Service]\nSendSIGKILL=no\nTimeoutStopSec=1s\nExecStart=/bin/bash -c 'trap \"\" TERM; echo 0 stubborn start >>/rig/log; while :; do sleep 1; done'\n";

fn machine(name: &str, unit: &str, more: &str) -> Machine {
    let unit_name = format!("{name}.service");
    let machine = Rig::new()
        .unit(&unit_name, unit)
        .wants(&unit_name)
        .configuration(&stopping(&format!("\"{unit_name}\""), more))
        .boot();
    machine.wait_for_life(name, "start");
    machine
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn what_kill_mode_leaves_fails_the_step() {
    let machine = machine("leaving", LEAVING, "");
    let rehearsed = machine.sh("farewell rehearse");
    assert!(
        rehearsed
            .stdout
            .contains("leaving.service has KillMode=process"),
        "{rehearsed:?}"
    );
    let started = machine.sh("farewell start");
    assert!(
        started
            .stdout
            .contains("leaving.service has KillMode=process"),
        "{started:?}"
    );
    machine.farewell();
    assert_eq!(machine.step("stop"), "failed");
    are_down(&machine, &["leaving.service"]);
    let step = &machine.report()["steps"][0];
    assert_eq!(step["error"]["word"], "unit");
    // Ten seconds of 120: it does not wait for what nobody ends.
    assert!(
        step["duration_usec"]
            .as_u64()
            .is_some_and(|it| (10_000_000..90_000_000).contains(&it)),
        "{step}"
    );
    let said = said(&machine, "stop");
    assert!(
        said.contains("leaving.service is down, but processes ")
            && said.contains(" (sleep) run on (KillMode=process)"),
        "{said}"
    );
    // It is down by now, and its processes are not.
    machine.farewell();
    assert_eq!(machine.step("stop"), "failed");
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn what_send_sigkill_leaves_fails_the_step() {
    let machine = machine("stubborn", STUBBORN, "");
    machine.farewell();
    assert_eq!(machine.step("stop"), "failed");
    let said = said(&machine, "stop");
    assert!(said.contains("run on (SendSIGKILL=no)"), "{said}");
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn what_may_stay_is_a_remark() {
    let machine = machine("leaving", LEAVING, "leave-behind = true");
    let rehearsed = machine.sh("farewell rehearse");
    assert!(!rehearsed.stdout.contains("KillMode"), "{rehearsed:?}");
    machine.farewell();
    assert_eq!(machine.step("stop"), "done");
    let said = said(&machine, "stop");
    assert!(said.contains("(sleep) run on (KillMode=process)"), "{said}");
    machine.must("pgrep -x sleep");
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn what_must_end_is_waited_for() {
    let machine = machine("leaving", LEAVING, "leave-behind = false");
    let farewell = machine.start("systemctl start farewell && systemctl stop farewell");
    // Longer than without the key.
    machine.wait_for("journalctl -u farewell -o cat | grep -c 'step stop waits for the processes of leaving.service to end' | grep -q '[3-9]'");
    machine.must("pkill -x sleep");
    assert_eq!(farewell.end().code, 0);
    assert_eq!(machine.step("stop"), "done");
}
