//! The order of farewell.service: after everything that a step takes along, as systemd says at `farewell start`.

use crate::rig::harness::{Ending, Machine, Rig, app};

const DROP_IN: &str = "/run/systemd/generator/farewell.service.d/05-sequence.conf";

const STOP_APP: &str = r#"
[farewell]
budget = "60s"

[[step]]
name = "up"
kind = "command"
argv = ["systemctl", "is-active", "app.service", "front.service", "worker.service"]

[[step]]
name = "stop-app"
kind = "stop-unit"
units = ["app.service"]
"#;

/// An application, and two others that systemd stops with it.
fn machine() -> Machine {
    Rig::new()
        .app("app", 0.2)
        .unit(
            "front.service",
            &app("front", 0.2, "[Unit]\nRequires=app.service"),
        )
        .unit(
            "worker.service",
            &app("worker", 0.2, "[Unit]\nPartOf=front.service"),
        )
        .wants("front.service")
        .wants("worker.service")
        .configuration(STOP_APP)
        .boot()
}

fn settle(machine: &Machine) {
    machine.wait_until("farewell-start.service has ended", |it| {
        it.state("farewell.service") == "active" && it.state("farewell-start.service") == "inactive"
    });
    for name in ["app", "front", "worker"] {
        machine.wait_for_life(name, "start");
    }
}

fn is_ordered(machine: &Machine) {
    let after = machine.property("farewell.service", "After");
    for unit in ["app.service", "front.service", "worker.service"] {
        assert!(after.split(' ').any(|it| it == unit), "{unit}: {after}");
    }
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn what_is_stopped_along_is_there_when_the_farewell_begins() {
    let machine = machine();
    settle(&machine);
    is_ordered(&machine);
    let planned = machine.must("farewell plan");
    let told = "farewell.service is ordered after app.service, front.service, worker.service\n";
    assert!(format!("{planned}\n").contains(told), "{planned}");
    // What is known needs no further reload.
    let said = machine.must("farewell start");
    assert!(!said.contains("daemon-reload"), "{said}");
    let end = machine.end("systemctl reboot");
    assert_eq!(end.ending(), Ending::Reboot);
    end.run()
        .is("reboot", "ok")
        .step("up", "done")
        .step("stop-app", "done");

    // The next boot knows it from the state directory, before anybody can be asked, and reloads nothing.
    let machine = end.boot();
    settle(&machine);
    is_ordered(&machine);
    let journal = machine.must("journalctl -b -o cat");
    assert!(!journal.contains("requesting a daemon-reload"), "{journal}");
    let end = machine.end("systemctl poweroff");
    end.runs()[1].is("poweroff", "ok").step("up", "done");
}

/// What comes along may change while the machine is up.
#[test]
#[ignore = "needs root; tests/run has it"]
fn what_is_installed_later_is_learnt() {
    let machine = machine();
    settle(&machine);
    machine.write(
        "/etc/systemd/system/later.service",
        &app("later", 0.2, "[Unit]\nBindsTo=worker.service"),
    );
    machine.must("systemctl daemon-reload && systemctl start later.service");
    let told =
        "farewell.service is not ordered after later.service (step stop-app, with app.service)";
    let said = machine.sh("farewell rehearse");
    assert!(said.stdout.contains(told) && said.code == 1, "{said:?}");
    machine.must("systemctl start farewell-start.service && farewell rehearse");
    assert!(
        machine
            .must(&format!("cat {DROP_IN}"))
            .contains("After=later.service\n")
    );
    // What is gone is forgotten.
    machine.must(
        "systemctl stop later.service; rm /etc/systemd/system/later.service; systemctl daemon-reload; \
         systemctl start farewell-start.service farewell-start.service; farewell start; systemctl daemon-reload",
    );
    assert!(
        !machine
            .must(&format!("cat {DROP_IN}"))
            .contains("later.service")
    );
}

/// A pattern of instances orders those too that are started after the boot.
#[test]
#[ignore = "needs root; tests/run has it"]
fn an_instance_that_is_started_later_is_in_the_order() {
    let machine = Rig::new()
        .unit("worker@.service", &app("worker-%i", 0.2, ""))
        .wants("worker@1.service")
        .configuration(
            r#"
            [[step]]
            name = "up"
            kind = "command"
            argv = ["systemctl", "is-active", "worker@1.service", "worker@2.service"]

            [[step]]
            name = "stop-workers"
            kind = "stop-unit"
            units = ["worker@*.service"]
            "#,
        )
        .boot();
    machine.wait_for_life("worker-1", "start");
    let drop_in = "/run/systemd/generator/worker@.service.d/05-farewell.conf";
    assert!(
        machine
            .must(&format!("cat {drop_in}"))
            .ends_with("Before=farewell.service")
    );
    machine.must("systemctl start worker@2.service");
    machine.wait_for_life("worker-2", "start");
    let before = machine.property("worker@2.service", "Before");
    assert!(before.contains("farewell.service"), "{before}");
    let planned = machine.must("farewell plan");
    assert!(planned.contains("every worker@.service"), "{planned}");
    let end = machine.end("systemctl poweroff");
    end.run()
        .is("poweroff", "ok")
        .step("up", "done")
        .step("stop-workers", "done");
    for name in ["worker-1", "worker-2"] {
        assert!(end.life().at(name, "end").is_some(), "{name}");
    }
}

/// Units that match another pattern are learnt.
#[test]
#[ignore = "needs root; tests/run has it"]
fn what_matches_a_pattern_is_learnt() {
    let machine = Rig::new()
        .app("job-a", 0.2)
        .app("job-b", 0.2)
        .configuration(
            "[[step]]\nname = \"stop\"\nkind = \"stop-unit\"\nunits = [\"job-*.service\"]\n",
        )
        .boot();
    machine.wait_until("farewell-start.service has ended", |it| {
        it.state("farewell.service") == "active" && it.state("farewell-start.service") == "inactive"
    });
    let after = machine.property("farewell.service", "After");
    for unit in ["job-a.service", "job-b.service"] {
        assert!(after.split(' ').any(|it| it == unit), "{unit}: {after}");
    }
}
