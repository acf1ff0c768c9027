//! What a stop takes along: everything that `systemctl stop` would, and nothing that the machine or a later step needs.

use crate::rig::harness::{Machine, Rig, app};

/// A configuration with one step, `stop`.
pub fn stopping(units: &str, more: &str) -> String {
    format!(
        "[farewell]\nbudget = \"300s\"\n[[step]]\nname = \"stop\"\nkind = \"stop-unit\"\nunits = [{units}]\ntimeout = \"120s\"\n{more}\n"
    )
}

/// What the last run says of how a step ended.
pub fn said(machine: &Machine, step: &str) -> String {
    let report = machine.report();
    let steps = report["steps"].as_array().expect("steps");
    let step = steps
        .iter()
        .find(|it| it["name"] == step)
        .expect("the step");
    let message = step["error"]["message"].as_str();
    message
        .or(step["reason"].as_str())
        .unwrap_or_default()
        .to_owned()
}

/// Fails unless all of these are down.
pub fn are_down(machine: &Machine, units: &[&str]) {
    for unit in units {
        assert_eq!(machine.state(unit), "inactive", "{unit}");
    }
}

pub fn are_up(machine: &Machine, units: &[&str]) {
    for unit in units {
        assert_eq!(machine.state(unit), "active", "{unit}");
    }
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn members_of_a_target() {
    let machine = Rig::new()
        .unit(
            "app@.service",
            &app(
                "app%i",
                0.5,
                "[Unit]\nPartOf=app.target\n[Install]\nWantedBy=app.target",
            ),
        )
        .unit("app.target", "[Unit]\nWants=app@1.service app@2.service\n")
        .wants("app.target")
        .configuration(&stopping("\"app.target\"", ""))
        .boot();
    for app in ["app1", "app2"] {
        machine.wait_for_life(app, "start");
    }
    let rehearsed = machine.sh("farewell rehearse");
    assert!(
        rehearsed
            .stdout
            .contains("app@1.service (PartOf=app.target)"),
        "{rehearsed:?}"
    );
    let planned = machine.must("farewell plan");
    assert!(
        planned.contains("app@2.service (PartOf=app.target)"),
        "{planned}"
    );
    let planned = machine.must("farewell plan --json");
    assert!(
        planned.contains("app@2.service (PartOf=app.target)"),
        "{planned}"
    );
    are_up(&machine, &["app.target", "app@1.service", "app@2.service"]);
    machine.farewell();
    assert_eq!(machine.step("stop"), "done");
    are_down(&machine, &["app.target", "app@1.service", "app@2.service"]);
    assert!(said(&machine, "stop").contains("app@1.service (PartOf=app.target)"));
    machine.journal().in_order(&[
        "step stop: also stops app@1.service (PartOf=app.target)",
        "step stop: done",
    ]);
    for app in ["app1", "app2"] {
        assert!(machine.life().at(app, "end").is_some(), "{app}");
    }
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn members_of_a_slice() {
    let machine = Rig::new()
        .unit("apps.slice", "[Slice]\n")
        .unit("web.service", &app("web", 0.2, "Slice=apps.slice"))
        .unit("db.service", &app("db", 0.2, "Slice=apps-db.slice"))
        .configuration(&stopping("\"apps.slice\"", ""))
        .boot();
    machine.must("systemctl start web db && systemd-run --scope --slice=apps.slice -u loose -- sleep infinity >/dev/null 2>&1 & disown");
    machine.wait_for("systemctl is-active loose.scope web db");
    machine.farewell();
    assert_eq!(machine.step("stop"), "done");
    are_down(
        &machine,
        &[
            "apps.slice",
            "apps-db.slice",
            "web.service",
            "db.service",
            "loose.scope",
        ],
    );
    let said = said(&machine, "stop");
    for also in [
        "web.service (in apps.slice)",
        "db.service (in apps-db.slice)",
        "loose.scope (in apps.slice)",
    ] {
        assert!(said.contains(also), "{said}");
    }
}

/// As Debian's postgresql.service is the umbrella of postgresql@15-main.service.
#[test]
#[ignore = "needs root; tests/run has it"]
fn parts_and_their_parts() {
    let machine = Rig::new()
        .unit(
            "umbrella.service",
            "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n",
        )
        .unit(
            "db@.service",
            &app("db%i", 0.5, "[Unit]\nPartOf=umbrella.service"),
        )
        .unit(
            "pool.service",
            &app("pool", 0.0, "[Unit]\nPartOf=db@15.service"),
        )
        .configuration(&stopping("\"umbrella.service\"", ""))
        .boot();
    machine.must("systemctl start umbrella db@15 pool");
    machine.wait_for_life("db15", "start");
    machine.farewell();
    assert_eq!(machine.step("stop"), "done");
    are_down(
        &machine,
        &["umbrella.service", "db@15.service", "pool.service"],
    );
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn everything_that_depends_on_it() {
    let mut rig = Rig::new().app("base", 0.0);
    let dependencies = [
        ("requires", "Requires=base.service"),
        ("requisite", "Requisite=base.service\nAfter=base.service"),
        ("binds", "BindsTo=base.service"),
        ("behind", "BindsTo=requires.service"),
        ("bystander", "Wants=base.service\nAfter=base.service"),
    ];
    for (name, tie) in dependencies {
        rig = rig.unit(
            &format!("{name}.service"),
            &app(name, 0.0, &format!("[Unit]\n{tie}")),
        );
    }
    let machine = rig
        .unit("other.service", &app("other", 0.0, ""))
        .drop_in(
            "base.service",
            "propagates.conf",
            "[Unit]\nPropagatesStopTo=other.service\n",
        )
        .configuration(&stopping("\"base.service\"", ""))
        .boot();
    machine.must("systemctl start base requires requisite binds behind bystander other");
    let version: u32 = machine
        .must("systemctl --version | sed -n '1s/systemd \\([0-9]*\\).*/\\1/p'")
        .parse()
        .expect("a number");
    machine.farewell();
    assert_eq!(machine.step("stop"), "done");
    let down =
        ["base", "requires", "requisite", "binds", "behind"].map(|it| format!("{it}.service"));
    are_down(&machine, &down.each_ref().map(String::as_str));
    are_up(&machine, &["bystander.service"]);
    // PropagatesStopTo= came with 249.
    let propagated = if version >= 249 { "inactive" } else { "active" };
    assert_eq!(machine.state("other.service"), propagated);
}

/// What every other unit needs, and what a later step needs, is not taken along, and stops nobody from stopping the rest.
#[test]
#[ignore = "needs root; tests/run has it"]
fn what_is_left_alone() {
    let needing = "[[step]]\nname = \"later\"\nkind = \"command\"\nargv = [\"true\"]\nneeds = [\"agent.service\"]\n";
    let machine = Rig::new()
        .app("base", 0.0)
        .unit(
            "agent.service",
            &app("agent", 0.0, "[Unit]\nRequires=base.service"),
        )
        .unit(
            "client.service",
            &app("client", 0.0, "[Unit]\nRequires=base.service"),
        )
        .drop_in("dbus.service", "tie.conf", "[Unit]\nPartOf=base.service\n")
        .drop_in(
            "farewell-rehearse.timer",
            "tie.conf",
            "[Unit]\nPartOf=base.service\n",
        )
        .drop_in(
            "remote-fs.target",
            "tie.conf",
            "[Unit]\nPartOf=base.service\n",
        )
        .configuration(&stopping("\"base.service\"", needing))
        .boot();
    machine.must("systemctl start agent client remote-fs.target dbus.service");
    machine.farewell();
    assert_eq!(machine.step("stop"), "done");
    are_down(&machine, &["base.service", "client.service"]);
    are_up(
        &machine,
        &["agent.service", "dbus.service", "remote-fs.target"],
    );
    let journal = machine.journal();
    for (unit, why) in [
        ("dbus.service (PartOf=base.service)", "the system needs it"),
        (
            "agent.service (Requires=base.service)",
            "this or a later step needs it",
        ),
        (
            "remote-fs.target (PartOf=base.service)",
            "farewell.service itself is ordered after it",
        ),
    ] {
        journal.in_order(&[&format!("step stop: does not stop {unit}: {why}")]);
    }
}

/// By hand within a slice that is to be stopped: who asks lives on, and with it the slices around it.
#[test]
#[ignore = "needs root; tests/run has it"]
fn who_asks_is_left_alone() {
    let machine = Rig::new()
        .unit("login.slice", "[Slice]\n")
        .unit("app.service", &app("app", 0.0, "Slice=login.slice"))
        .configuration(&stopping("\"login.slice\"", ""))
        .boot();
    machine.must("systemctl start app");
    machine.wait_for_life("app", "start");
    let asked = machine.sh(
        "systemd-run -q --slice=login.slice -u session --scope -- sh -c 'farewell run; echo code $?' 2>&1",
    );
    assert!(asked.stdout.contains("code 1"), "{asked:?}");
    are_down(&machine, &["app.service"]);
    assert_eq!(machine.step("stop"), "failed");
    assert_eq!(
        said(&machine, "stop"),
        "login.slice: it is not stopped: this process runs in it"
    );
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn instances_are_found_when_the_step_begins() {
    let machine = Rig::new()
        .unit("worker@.service", &app("worker%i", 0.2, ""))
        .configuration(&stopping(
            "\"worker@*.service\", \"nothing-*.service\"",
            "[[step]]\nname = \"first\"\nkind = \"command\"\nargv = [\"systemctl\", \"start\", \"worker@9\"]\nbefore = [\"stop\"]\n",
        ))
        .boot();
    machine.must("systemctl start worker@1 worker@2");
    let rehearsed = machine.sh("farewell rehearse");
    assert!(
        rehearsed.stdout.contains("worker@1.service is active"),
        "{rehearsed:?}"
    );
    machine.farewell();
    assert_eq!(machine.step("stop"), "done");
    are_down(
        &machine,
        &["worker@1.service", "worker@2.service", "worker@9.service"],
    );
    assert_eq!(said(&machine, "stop"), "no unit matches nothing-*.service");
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_typo_is_a_warning_with_the_nearest_name() {
    let machine = Rig::new()
        .app("consumer", 0.0)
        .configuration(&stopping("\"consumr.service\"", ""))
        .boot();
    let rehearsed = machine.sh("farewell rehearse");
    assert_eq!(rehearsed.code, 0, "{rehearsed:?}");
    let warning = "consumr.service does not exist; did you mean `consumer.service`?";
    assert!(rehearsed.stdout.contains(warning), "{rehearsed:?}");
    let strict = machine.sh("farewell rehearse --strict");
    assert_eq!(strict.code, 1, "{strict:?}");
    machine.farewell();
    assert_eq!(machine.step("stop"), "already-done");
    assert_eq!(said(&machine, "stop"), "there is no unit consumr.service");
}

/// Its file is gone, and it runs.
#[test]
#[ignore = "needs root; tests/run has it"]
fn a_running_unit_without_a_file() {
    let machine = Rig::new()
        .app("app", 0.5)
        .configuration(&stopping("\"app.service\"", ""))
        .boot();
    machine.wait_for_life("app", "start");
    machine.must("rm /etc/systemd/system/app.service && systemctl daemon-reload");
    assert_eq!(machine.property("app.service", "LoadState"), "not-found");
    let rehearsed = machine.sh("farewell rehearse");
    assert!(
        rehearsed.stdout.contains("app.service is active (running)"),
        "{rehearsed:?}"
    );
    machine.farewell();
    assert_eq!(machine.step("stop"), "done");
    assert!(machine.life().at("app", "end").is_some());
    assert_eq!(machine.state("app.service"), "inactive");
}
