//! A machine that comes back, and gives its lock back when what it stops is up again, and not before.

use crate::rig::harness::{Ending, Machine, Rig, app};
use crate::support::etcd::Cluster;
use serde_json::Value;

const URL: &str = "http://127.0.0.1:2379";

/// Tries each second, so that the cases need not wait for minutes.
const FAST: &str = "[Timer]\nOnActiveSec=\nOnUnitInactiveSec=\nOnActiveSec=1s\nOnUnitInactiveSec=1s\nAccuracySec=1ms\n";

/// Cannot start while /bad is there: the application of a machine with a new kernel that does not suit it.
const BAD: &str = "ExecStartPre=/bin/sh -c '! test -e /bad'\n";

fn rig(units: &str, lock: &str) -> Rig {
    let toml = format!(
        r#"
[farewell]
budget = "60s"

[[step]]
name = "turn"
kind = "lock"
via = "etcd"
url = "{URL}"
key = "turns"
{lock}

[[step]]
name = "stop"
kind = "stop-unit"
units = [{units}]
"#
    );
    Rig::new()
        .drop_in("farewell-undo.timer", "fast.conf", FAST)
        .configuration(&toml)
}

/// The registry in the machine's network, over its boots.
struct Fleet(Cluster);

impl Fleet {
    fn start(name: &str, machine: &Machine) -> Fleet {
        Fleet(machine.in_network(|| Cluster::start_at(name, &[2379, 2380])))
    }

    fn keys(&self, machine: &Machine) -> String {
        machine.in_network(|| self.0.ctl(&["get", "--prefix", "--keys-only", "turns"]))
    }

    fn is_held(&self, machine: &Machine) -> bool {
        !self.keys(machine).is_empty()
    }

    /// How long the lock would still be held if nobody renewed it, in seconds.
    fn left(&self, machine: &Machine) -> i64 {
        // At the end of a run the key gets another lease than the one that it is named after.
        let found = machine.in_network(|| self.0.ctl(&["get", "--prefix", "turns", "-w", "json"]));
        let found: Value = serde_json::from_str(&found).expect("JSON");
        let lease = found["kvs"][0]["lease"].as_u64().expect("a lease");
        let lease = format!("{lease:x}");
        let told = machine.in_network(|| self.0.ctl(&["lease", "timetolive", &lease]));
        let left = told
            .split("remaining(")
            .nth(1)
            .and_then(|it| it.split('s').next());
        left.and_then(|it| it.parse().ok()).unwrap_or(-1)
    }

    /// Reboots a machine whose application is up.
    fn reboot(&mut self, machine: Machine) -> Machine {
        let end = machine.end("systemctl reboot");
        assert_eq!(end.ending(), Ending::Reboot);
        end.run()
            .is("reboot", "ok")
            .step("turn", "done")
            .says("release turn", &["kept while this machine comes back"]);
        self.0.go_down();
        let machine = end.boot_unwaited();
        machine.in_network(|| self.0.come_back());
        machine
    }
}

fn is_failed(machine: &Machine, unit: &str) -> bool {
    machine.sh(&format!("systemctl is-failed {unit}")).code == 0
}

fn is_given_back(machine: &Machine, fleet: &Fleet) {
    machine.wait_until("the lock is given back", |it| !fleet.is_held(it));
    machine.wait_until("nothing is tried again", |it| {
        it.state("farewell-undo.timer") == "inactive"
    });
    machine.wait_until("the machine is ready", |it| {
        it.property("farewell-start.service", "Result") == "success"
            && it.state("farewell-start.service") == "inactive"
    });
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_lock_is_kept_while_the_application_has_failed() {
    let machine = rig("\"app.service\"", "hold = \"30s\"")
        .unit("app.service", &app("app", 0.0, BAD))
        .wants("app.service")
        .boot();
    let mut fleet = Fleet::start("comes-back-failed", &machine);
    machine.wait_for_life("app", "start");
    machine.write("/bad", "");
    let machine = fleet.reboot(machine);
    machine.wait_until("farewell start fails", |it| {
        is_failed(it, "farewell-start.service")
    });
    let journal = machine.journal();
    assert!(journal.says("nothing is undone: app.service is failed (exit-code)"));
    machine.wait_until("it is tried again", |it| {
        is_failed(it, "farewell-undo.service")
    });
    assert!(fleet.is_held(&machine));
    // Each try renews it.
    machine.must("systemctl stop farewell-undo.timer");
    machine.wait_until("its time passes", |it| fleet.left(it) < 20);
    machine.sh("systemctl start farewell-undo.service");
    assert!(fleet.left(&machine) > 20, "renewed");
    machine.must("systemctl start farewell-undo.timer");
    machine.must("rm /bad && systemctl start app.service");
    is_given_back(&machine, &fleet);
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_lock_is_kept_while_the_application_is_started_again_and_again() {
    let again = format!("{BAD}Restart=always\nRestartSec=200ms\n[Unit]\nStartLimitIntervalSec=0\n");
    let machine = rig("\"app.service\"", "")
        .unit("app.service", &app("app", 0.0, &again))
        .wants("app.service")
        .boot();
    let mut fleet = Fleet::start("comes-back-again", &machine);
    machine.wait_for_life("app", "start");
    machine.write("/bad", "");
    let machine = fleet.reboot(machine);
    machine.wait_until("it is waited for", |it| {
        it.journal().says("farewell start: waiting for at most")
    });
    machine.wait_until("it is started again and again", |it| {
        it.property("app.service", "NRestarts")
            .parse::<u32>()
            .expect("a number")
            > 5
    });
    assert!(fleet.is_held(&machine));
    assert_eq!(machine.state("farewell-start.service"), "activating");
    machine.must("rm /bad");
    is_given_back(&machine, &fleet);
}

/// Its job is dropped: it is neither failed nor about to start.
#[test]
#[ignore = "needs root; tests/run has it"]
fn a_lock_is_kept_while_what_the_application_requires_has_failed() {
    let requires =
        "[Unit]\nRequires=db.service\nAfter=db.service\n[Install]\nWantedBy=app.target\n";
    let machine = rig("\"app.service\"", "")
        .unit("app.service", &app("app", 0.0, requires))
        .unit("app.target", "[Unit]\nWants=app.service\n")
        .unit("db.service", &app("db", 0.0, BAD))
        .wants("app.target")
        .boot();
    let mut fleet = Fleet::start("comes-back-required", &machine);
    machine.wait_for_life("app", "start");
    machine.write("/bad", "");
    let machine = fleet.reboot(machine);
    machine.wait_until("farewell start fails", |it| {
        is_failed(it, "farewell-start.service")
    });
    assert!(
        machine
            .journal()
            .says("app.service is inactive (no job starts it)")
    );
    machine.wait_until("it is tried again", |it| {
        is_failed(it, "farewell-undo.service")
    });
    assert!(fleet.is_held(&machine));
    machine.must("rm /bad && systemctl start app.service");
    is_given_back(&machine, &fleet);
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn what_systemd_does_not_start_keeps_no_lock() {
    let units = [
        "app", "masked", "disabled", "unmet", "socketed", "once", "missing",
    ];
    let units: Vec<String> = units.iter().map(|it| format!("\"{it}.service\"")).collect();
    let once = "[Service]\nType=oneshot\nExecStart=/bin/true\n";
    let machine = rig(&units.join(", "), "")
        .app("app", 0.0)
        .link("/etc/systemd/system/masked.service", "/dev/null")
        .unit("disabled.service", &app("disabled", 0.0, ""))
        .unit(
            "unmet.service",
            &app("unmet", 0.0, "[Unit]\nConditionPathExists=/nowhere\n"),
        )
        .wants("unmet.service")
        .unit("socketed.service", &app("socketed", 0.0, ""))
        .unit("socketed.socket", "[Socket]\nListenStream=/run/socketed\n")
        .wants("socketed.socket")
        .unit("once.service", once)
        .wants("once.service")
        .boot();
    let mut fleet = Fleet::start("comes-back-others", &machine);
    machine.wait_for_life("app", "start");
    let machine = fleet.reboot(machine);
    is_given_back(&machine, &fleet);
    assert_eq!(machine.state("disabled.service"), "inactive");
}

/// A bus error is not up; and a person may decide that it is enough.
#[test]
#[ignore = "needs root; tests/run has it"]
fn a_lock_is_kept_while_systemd_is_silent_until_a_person_gives_up_waiting() {
    let machine = rig("\"app.service\"", "")
        .unit("app.service", &app("app", 0.0, BAD))
        .wants("app.service")
        .boot();
    let mut fleet = Fleet::start("comes-back-silent", &machine);
    machine.wait_for_life("app", "start");
    machine.write("/bad", "");
    let machine = fleet.reboot(machine);
    machine.wait_until("farewell start fails", |it| {
        is_failed(it, "farewell-start.service")
    });
    machine.must("systemctl stop farewell-undo.timer farewell-undo.service");
    let frozen = machine.freeze();
    let said = machine.sh("farewell start --undo-only");
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("systemd does not report"), "{said:?}");
    assert!(fleet.is_held(&machine));
    drop(frozen);
    let said = machine.sh("farewell start --undo-only");
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("app.service is failed"), "{said:?}");
    assert!(fleet.is_held(&machine));
    assert_eq!(machine.state("farewell-undo.timer"), "active");
    let said = machine.sh("farewell start --undo-only --yes");
    assert_eq!(said.code, 0, "{said:?}");
    assert!(!fleet.is_held(&machine));
    assert_eq!(machine.state("farewell-undo.timer"), "inactive");
}

/// The application is active long before it serves.
#[test]
#[ignore = "needs root; tests/run has it"]
fn a_lock_is_kept_until_the_application_says_that_it_is_ready() {
    let ready = r#"ready = { url = "http://127.0.0.1:8080/health", until = { pointer = "/state", equals = "up" } }"#;
    let serve = "[Service]\nExecStart=/usr/bin/python3 -m http.server 8080 --bind 127.0.0.1 --directory /srv/app\n";
    let machine = rig("\"app.service\"", ready)
        .app("app", 0.0)
        .unit("serve.service", serve)
        .wants("serve.service")
        .file("/srv/app/index.html", "")
        .boot();
    let mut fleet = Fleet::start("comes-back-ready", &machine);
    machine.wait_for_life("app", "start");
    let machine = fleet.reboot(machine);
    machine.wait_until("farewell start fails", |it| {
        is_failed(it, "farewell-start.service")
    });
    assert_eq!(machine.state("app.service"), "active");
    assert!(
        machine
            .journal()
            .says("answered 404: not yet as `ready` has it")
    );
    machine.write("/srv/app/health", r#"{"state": "starting"}"#);
    machine.wait_until("it is asked again", |it| {
        it.journal()
            .says("answered 200 with another value at \"/state\": not yet")
    });
    assert!(fleet.is_held(&machine));
    machine.write("/srv/app/health", r#"{"state": "up"}"#);
    is_given_back(&machine, &fleet);
}
