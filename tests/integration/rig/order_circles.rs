//! Units that a step stops, and that are ordered after farewell's own units: systemd would drop a job of the circle.

use crate::rig::harness::{Ending, Machine, Rig, app};

const STOP_APP: &str = r#"
[farewell]
budget = "60s"

[[step]]
name = "first"
kind = "command"
argv = ["true"]

[[step]]
name = "stop-app"
kind = "stop-unit"
units = ["app.service"]
"#;

/// The application with these lines in its [Unit] section.
fn with(lines: &str) -> Rig {
    let text = app("app", 0.2, &format!("[Unit]\n{lines}"));
    Rig::new()
        .unit("app.service", &text)
        .wants("app.service")
        .configuration(STOP_APP)
}

/// Both are there after the boot, the circle is told with the line to change, the farewell takes place, and all is well
/// when that line is gone.
fn is_told_and_mended(machine: Machine, parts: &[&str], mend: &str) {
    machine.wait_for_life("app", "start");
    machine.wait_until("farewell-start.service has ended", |it| {
        it.state("farewell-start.service") != "activating"
    });
    assert_eq!(machine.state("farewell.service"), "active");
    assert_eq!(machine.state("farewell-start.service"), "failed");
    let journal = machine.must("journalctl -b -o cat -u farewell-start.service");
    let rehearsed = machine.sh("farewell rehearse");
    assert_eq!(rehearsed.code, 1, "{rehearsed:?}");
    for part in parts {
        assert!(journal.contains(part), "{part}: {journal}");
        assert!(rehearsed.stdout.contains(part), "{part}: {rehearsed:?}");
    }
    // A reload changes nothing of it.
    machine.must("systemctl daemon-reload");
    let after = machine.property("farewell.service", "After");
    assert!(!after.split(' ').any(|it| it == "app.service"), "{after}");
    let end = machine.end("systemctl reboot");
    assert_eq!(end.ending(), Ending::Reboot);
    end.run().is("reboot", "ok").step("first", "done");

    // Another boot finds what was learnt, and its application.
    let machine = end.boot();
    machine.wait_until("the application is up again", |it| {
        it.life().times("app", "start") == 2
    });
    machine.must(mend);
    machine.must("systemctl daemon-reload && systemctl start farewell-start.service");
    let after = machine.property("farewell.service", "After");
    assert!(after.split(' ').any(|it| it == "app.service"), "{after}");
    machine.must("farewell rehearse");
    let end = machine.end("systemctl poweroff");
    assert_eq!(end.ending(), Ending::Off);
    end.runs()[1].is("poweroff", "ok").step("stop-app", "done");
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn through_farewell_itself() {
    is_told_and_mended(
        with("After=farewell.service").boot(),
        &[
            "app.service is ordered after farewell.service, so farewell.service cannot be ordered after app.service",
            "remove farewell.service from `After=` in line 4 of /etc/systemd/system/app.service",
        ],
        "sed -i /^After=/d /etc/systemd/system/app.service",
    );
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn through_farewell_start() {
    is_told_and_mended(
        with("After=farewell-start.service").boot(),
        &[
            "app.service is ordered after farewell-start.service, farewell-start.service after farewell.service, so",
            "remove farewell-start.service from `After=` in line 4 of /etc/systemd/system/app.service",
        ],
        "sed -i /^After=/d /etc/systemd/system/app.service",
    );
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn through_a_third_unit() {
    let third = "[Unit]\nAfter=farewell.service\nBefore=app.service\n[Service]\nType=oneshot\nExecStart=true\n";
    is_told_and_mended(
        with("")
            .unit("third.service", third)
            .wants("third.service")
            .boot(),
        &[
            "app.service is ordered after third.service, third.service after farewell.service, so",
            "remove farewell.service from `After=` in line 2 of /etc/systemd/system/third.service",
        ],
        "sed -i /^After=/d /etc/systemd/system/third.service",
    );
}

/// A target waits for what it wants, without a line that says so.
#[test]
#[ignore = "needs root; tests/run has it"]
fn through_a_target() {
    let third = "[Unit]\nAfter=farewell-start.service\n[Service]\nType=oneshot\nExecStart=true\n";
    let machine = with("After=multi-user.target")
        .unit("third.service", third)
        .wants("third.service")
        .boot();
    is_told_and_mended(
        machine,
        &[
            "app.service is ordered after multi-user.target, multi-user.target after third.service, third.service after \
             farewell-start.service, farewell-start.service after farewell.service, so",
            "remove farewell-start.service from `After=` in line 2 of /etc/systemd/system/third.service",
        ],
        "sed -i /^After=/d /etc/systemd/system/third.service",
    );
}

/// A drop-in of farewell.service itself may close it.
#[test]
#[ignore = "needs root; tests/run has it"]
fn through_a_before_of_farewell() {
    is_told_and_mended(
        with("")
            .drop_in(
                "farewell.service",
                "early.conf",
                "[Unit]\nBefore=app.service\n",
            )
            .boot(),
        &[
            "app.service is ordered after farewell.service, so",
            "remove app.service from `Before=` in line 2 of /etc/systemd/system/farewell.service.d/early.conf",
        ],
        "rm /etc/systemd/system/farewell.service.d/early.conf",
    );
}

/// After farewell-arm.service alone is no circle.
#[test]
#[ignore = "needs root; tests/run has it"]
fn after_farewell_arm_is_none() {
    let machine = with("After=farewell-arm.service").boot();
    machine.wait_for_life("app", "start");
    machine.must("systemctl start farewell-start.service && farewell rehearse");
    let end = machine.end("systemctl poweroff");
    end.run().is("poweroff", "ok").step("stop-app", "done");
}

/// What farewell.service is ordered after by its own file closes a circle too, which only can be told.
#[test]
#[ignore = "needs root; tests/run has it"]
fn through_what_the_unit_itself_names() {
    let stray = "[Unit]\nAfter=farewell.service\nBefore=network.target\n[Service]\nType=oneshot\n\
                 RemainAfterExit=yes\nExecStart=true\n";
    let machine = Rig::new().unit("stray.service", stray).boot();
    machine.must("systemctl start stray.service");
    let said = machine.sh("farewell rehearse");
    assert_eq!(said.code, 1, "{said:?}");
    for part in [
        "farewell.service is ordered after network.target, network.target after stray.service, stray.service after \
         farewell.service: systemd breaks this circle",
        "remove farewell.service from `After=` in line 2 of /etc/systemd/system/stray.service",
    ] {
        assert!(said.stdout.contains(part), "{part}: {said:?}");
    }
    machine.must("systemctl stop stray.service; rm /etc/systemd/system/stray.service; systemctl daemon-reload; farewell rehearse");
}
