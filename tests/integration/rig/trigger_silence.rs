//! A PID 1 that does not say why farewell.service stops.

use std::thread;
use std::time::Duration;

use crate::rig::harness::{Ending, Machine, Rig};

/// Holds the run back until the case has seen that the unit stops: PID 1 has started it, and falls silent only then.
const GATE: &str = "[Service]\nExecStop=\nExecStop=/bin/sh -c 'touch /rig/stopping; \
                    while [ ! -e /rig/go ]; do sleep 0.05; done; exec /usr/bin/farewell run'\n";

const SAY: &str = r#"
[[step]]
name = "say"
kind = "command"
argv = ["sh", "-c", "echo ${trigger} >>/rig/said"]
"#;

const ASKED_ON: &str = "does not say why this unit stops";

fn rig(budget: &str, steps: &str) -> Rig {
    Rig::new()
        .drop_in("farewell.service", "60-gate.conf", GATE)
        .configuration(&format!("[farewell]\nbudget = \"{budget}\"\n{SAY}{steps}"))
}

/// Has the unit stop by `script`, and its run begin while PID 1 is silent; until `is_enough`.
fn be_silent(machine: &Machine, script: &str, is_enough: impl FnOnce(&Machine)) {
    let running = machine.start(script);
    machine.wait_until("the unit stops", |it| it.path("/rig/stopping").exists());
    let frozen = machine.freeze();
    machine.write("/rig/go", "");
    machine.wait_until("PID 1 is asked on", |it| it.journal().says(ASKED_ON));
    is_enough(machine);
    drop(frozen);
    if script.contains("farewell") {
        running.end();
    } else {
        // It ends with the machine.
        drop(running);
    }
}

/// What `shutdown` and the two ways to stop the unit alone come to when PID 1 is silent for `seconds`, and asked for longer.
fn is_found_out_after(seconds: u64, budget: &str) {
    let silent = |machine: &Machine, script: &str| {
        be_silent(machine, script, |_| {
            thread::sleep(Duration::from_secs(seconds))
        });
    };
    thread::scope(|scope| {
        for (verb, ending) in [("poweroff", Ending::Off), ("reboot", Ending::Reboot)] {
            scope.spawn(move || {
                let machine = rig(budget, "").boot();
                silent(&machine, &format!("systemctl {verb}"));
                let end = machine.ended();
                assert_eq!(end.ending(), ending);
                end.run().is(verb, "ok").seen("has a start job");
                assert_eq!(end.read("/rig/said"), format!("{verb}\n"));
            });
        }
        scope.spawn(move || {
            let machine = rig(budget, "").boot();
            silent(&machine, "systemctl restart farewell.service");
            assert_eq!(machine.state("farewell.service"), "active");
            assert_eq!(machine.read("/rig/said"), "");
            assert!(machine.journal().says("a restart runs no farewell"));
        });
        scope.spawn(move || {
            let machine = rig(budget, "").boot();
            silent(&machine, "systemctl stop farewell.service");
            assert_eq!(machine.report()["trigger"], "stop");
            assert_eq!(machine.read("/rig/said"), "stop\n");
        });
    });
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn silence_of_5_s_costs_time_alone() {
    is_found_out_after(5, "60s");
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn silence_of_20_s_costs_time_alone_where_the_budget_bears_it() {
    is_found_out_after(20, "160s");
}

/// What an override grants is over by then; systemd finds that the run has asked for more meanwhile.
#[test]
#[ignore = "needs root; tests/run has it"]
fn a_stop_timeout_that_is_over_is_extended_while_pid_1_is_silent() {
    let machine = rig("160s", "")
        .drop_in(
            "farewell.service",
            "70-short.conf",
            "[Service]\nTimeoutStopSec=15s\n",
        )
        .boot();
    be_silent(&machine, "systemctl poweroff", |_| {
        thread::sleep(Duration::from_secs(20));
    });
    let end = machine.ended();
    assert_eq!(end.ending(), Ending::Off);
    end.run().is("poweroff", "ok").seen("has a start job");
}

/// A generator that takes its time has PID 1 wait for it.
#[test]
#[ignore = "needs root; tests/run has it"]
fn a_restart_beside_a_slow_daemon_reload_is_no_farewell() {
    let generator = "#!/bin/sh\n[ -e /rig/slow ] || exit 0\ntouch /rig/generating\nsleep 8\n";
    let machine = rig("60s", "")
        .executable("/etc/systemd/system-generators/slow", generator)
        .boot();
    let restart = machine.start("systemctl restart farewell.service");
    machine.wait_until("the unit stops", |it| it.path("/rig/stopping").exists());
    machine.write("/rig/slow", "");
    let reload = machine.start("systemctl daemon-reload");
    machine.wait_until("PID 1 waits", |it| it.path("/rig/generating").exists());
    machine.write("/rig/go", "");
    assert_eq!((restart.end().code, reload.end().code), (0, 0));
    let journal = machine.journal();
    assert!(journal.says(ASKED_ON) && journal.says("a restart runs no farewell"));
    assert_eq!(machine.read("/rig/said"), "");
    assert_eq!(machine.state("farewell.service"), "active");
}

/// Nothing listens at the address: the step that is begun fails at once.
const MEMBERS: &str = r#"
[[step]]
name = "member"
kind = "deregister"
registry = "etcd"
url = "http://127.0.0.1:1"
member = "n1"
attempts = 1

[[step]]
name = "member-of-the-gone"
kind = "deregister"
registry = "etcd"
url = "http://127.0.0.1:1"
member = "n1"
attempts = 1
when = ["poweroff", "halt"]
"#;

fn until_the_run_is_over(machine: &Machine) {
    machine.wait_until("the run is over", |it| {
        let said = it.sh("farewell report --json");
        said.code == 0 && !said.stdout.contains("cut-off")
    });
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn silence_for_ever_counts_as_poweroff_and_nothing_is_deleted_for_good() {
    const UNKNOWN: &str =
        "it counts as poweroff: locks are released, and what deletes for good is skipped";
    thread::scope(|scope| {
        for (verb, ending) in [("poweroff", Ending::Off), ("reboot", Ending::Reboot)] {
            scope.spawn(move || {
                let machine = rig("20s", MEMBERS).boot();
                be_silent(
                    &machine,
                    &format!("systemctl {verb}"),
                    until_the_run_is_over,
                );
                let end = machine.ended();
                assert_eq!(end.ending(), ending);
                end.run()
                    .is("poweroff", "failed")
                    .seen(UNKNOWN)
                    .warns(UNKNOWN)
                    .step("say", "done")
                    .step("member", "skipped")
                    .says("member", &["deletes for good", "leaves out reboot"])
                    .failed("member-of-the-gone", "unreachable")
                    .within(20.0);
            });
        }
        for verb in ["restart", "stop"] {
            scope.spawn(move || {
                let machine = rig("20s", MEMBERS).boot();
                let script = format!("systemctl {verb} farewell.service");
                be_silent(&machine, &script, until_the_run_is_over);
                let report = machine.report();
                assert_eq!(report["trigger"], "poweroff", "{report:#}");
                assert_eq!(machine.step("member"), "skipped");
            });
        }
    });
}

/// logind knows it, and is asked beside PID 1.
#[test]
#[ignore = "needs root; tests/run has it"]
fn logind_decides_while_pid_1_is_silent() {
    let machine = rig("60s", MEMBERS).logind().boot();
    machine.wait_for(
        "systemctl is-active systemd-logind.service && busctl status org.freedesktop.login1",
    );
    be_silent(&machine, "systemctl reboot", until_the_run_is_over);
    let end = machine.ended();
    assert_eq!(end.ending(), Ending::Reboot);
    end.run()
        .is("reboot", "failed")
        .seen("logind prepares for reboot")
        .failed("member", "unreachable")
        .step("member-of-the-gone", "skipped");
}
