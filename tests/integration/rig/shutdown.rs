//! A machine that goes down.

use crate::rig::harness::{Ending, Rig};

const LEAVE_AND_STOP: &str = r#"
[farewell]
budget = "60s"

[[step]]
name = "up"
kind = "command"
argv = ["systemctl", "is-active", "app.service"]

[[step]]
name = "stop-app"
kind = "stop-unit"
units = ["app.service"]
"#;

#[test]
#[ignore = "needs root; tests/run has it"]
fn poweroff() {
    let machine = Rig::new()
        .app("app", 0.5)
        .configuration(LEAVE_AND_STOP)
        .boot();
    machine.wait_for_life("app", "start");
    let end = machine.end("systemctl poweroff");
    assert_eq!(end.ending(), Ending::Off);
    end.run()
        .is("poweroff", "ok")
        .step("up", "done")
        .step("stop-app", "done");
    end.life().in_order(&["app start", "app TERM", "app end"]);
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn reboot_twice() {
    let mut machine = Rig::new()
        .app("app", 0.0)
        .configuration(LEAVE_AND_STOP)
        .boot();
    for boot in 1..=2 {
        machine.wait_until("the application is up", |it| {
            it.life().times("app", "start") == boot
        });
        let end = machine.end("systemctl reboot");
        assert_eq!(end.ending(), Ending::Reboot);
        assert_eq!(end.runs().len(), boot);
        end.runs()[boot - 1]
            .is("reboot", "ok")
            .step("stop-app", "done");
        machine = end.boot();
    }
    assert_eq!(machine.state("app.service"), "active");
}

/// logind hears of the shutdown, and farewell of logind.
#[test]
#[ignore = "needs root; tests/run has it"]
fn poweroff_by_logind() {
    let machine = Rig::new()
        .app("app", 0.0)
        .logind()
        .configuration(LEAVE_AND_STOP)
        .boot();
    machine.wait_for(
        "systemctl is-active systemd-logind.service && busctl status org.freedesktop.login1",
    );
    machine.wait_for_life("app", "start");
    let end = machine.end("systemctl poweroff");
    assert_eq!(end.ending(), Ending::Off);
    end.run().is("poweroff", "ok");
    end.in_order(&[
        "systemd-logind: The system will power off now!",
        "step stop-app: done",
    ]);
}
