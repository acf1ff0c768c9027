//! What could keep farewell's units from being started, and a machine from its farewell.

use crate::rig::harness::{Ending, Machine, Rig};

const MARK: &str = r#"
[farewell]
budget = "60s"

[[step]]
name = "mark"
kind = "command"
argv = ["sh", "-c", "echo ${trigger} >>/rig/left"]
"#;

fn marked(machine: Machine) {
    let end = machine.end("systemctl poweroff");
    assert_eq!(end.ending(), Ending::Off);
    assert_eq!(end.read("/rig/left"), "poweroff\n");
}

/// Waits until the farewell is armed and looked at.
fn settle(machine: &Machine) {
    machine.wait_until("farewell-start.service has ended", |it| {
        it.state("farewell.service") == "active"
            && it.state("farewell-start.service") != "activating"
    });
}

/// systemd's own limit is five starts in ten seconds.
#[test]
#[ignore = "needs root; tests/run has it"]
fn restarts_without_end() {
    let machine = Rig::new().configuration(MARK).boot();
    machine.must("for n in $(seq 12); do systemctl restart farewell.service || exit; done");
    machine.must("for n in $(seq 12); do systemctl restart farewell-arm.service || exit; done");
    machine.must("for n in $(seq 12); do systemctl start farewell-start.service || exit; done");
    assert_eq!(machine.state("farewell.service"), "active");
    marked(machine);
}

/// A file lies where the state directory should be: systemd would neither start a unit with StateDirectory= nor run its
/// ExecStop=.
#[test]
#[ignore = "needs root; tests/run has it"]
fn a_state_directory_that_cannot_be_made() {
    let machine = Rig::new()
        .configuration(MARK)
        .file("/var/lib/farewell", "no directory")
        .boot();
    settle(&machine);
    // That nothing can be recorded is told.
    let said = machine.sh("farewell start");
    assert_ne!(said.code, 0, "{said:?}");
    assert!(said.stderr.contains("/var/lib/farewell"), "{said:?}");
    marked(machine);
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_var_that_is_read_only() {
    let machine = Rig::new()
        .configuration(MARK)
        .unit(
            "var.service",
            "[Unit]\nDefaultDependencies=no\nBefore=farewell-arm.service\n[Service]\nType=oneshot\n\
             ExecStart=/bin/sh -c 'rm -rf /var/lib/farewell; mount -t tmpfs -o ro none /var/lib'\n",
        )
        .link(
            "/etc/systemd/system/sysinit.target.wants/var.service",
            "/etc/systemd/system/var.service",
        )
        .boot();
    settle(&machine);
    machine.must("! mkdir /var/lib/farewell");
    marked(machine);
}

/// Where records are kept is a file system of its own: it stays until the farewell has ended, and who stops it runs none.
#[test]
#[ignore = "needs root; tests/run has it"]
fn a_file_system_of_the_records() {
    let leave = format!(
        "{MARK}\n[[step]]\nname = \"mounted\"\nkind = \"command\"\nargv = [\"mountpoint\", \"/var/lib/farewell\"]\n"
    );
    let machine = Rig::new()
        .configuration(&leave)
        .unit(
            "var-lib-farewell.mount",
            "[Mount]\nWhat=/data\nWhere=/var/lib/farewell\nType=none\nOptions=bind\n",
        )
        .file("/data/here", "")
        .link(
            "/etc/systemd/system/local-fs.target.wants/var-lib-farewell.mount",
            "/etc/systemd/system/var-lib-farewell.mount",
        )
        .boot();
    settle(&machine);
    machine.must("mountpoint /var/lib/farewell");
    let after = machine.property("farewell.service", "After");
    assert!(after.contains("var-lib-farewell.mount"), "{after}");
    for property in ["Requires", "BindsTo", "RequiresMountsFor"] {
        let needed = machine.property("farewell.service", property);
        assert!(!needed.contains("var"), "{property}: {needed}");
    }
    machine.must("systemctl stop var-lib-farewell.mount; test ! -e /rig/left");
    assert_eq!(machine.state("farewell.service"), "active");
    machine.must("systemctl start var-lib-farewell.mount");
    let end = machine.end("systemctl poweroff");
    assert_eq!(end.read("/rig/left"), "poweroff\n");
    end.in_order(&["step mounted: done", "Unmounted"]);
}

/// What somebody adds to the unit makes its start fail: it counts as started, since a stop of it may well run.
#[test]
#[ignore = "needs root; tests/run has it"]
fn a_credential_that_is_missing() {
    let machine = Rig::new()
        .configuration(MARK)
        .drop_in(
            "farewell.service",
            "own.conf",
            "[Service]\nLoadCredential=token:/nowhere\n",
        )
        .boot();
    settle(&machine);
    let said = machine.sh("farewell rehearse");
    let told = "farewell.service was started, but its ExecStart= ended with status 243";
    assert!(said.stdout.contains(told), "{said:?}");
    assert_eq!(said.code, 1, "{said:?}");
    marked(machine);
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_sandbox_that_cannot_be_set_up_is_told() {
    let machine = Rig::new()
        .configuration(MARK)
        .drop_in(
            "farewell.service",
            "own.conf",
            "[Service]\nReadWritePaths=/nowhere\n",
        )
        .boot();
    settle(&machine);
    assert_eq!(machine.state("farewell-start.service"), "failed");
    let told = "farewell.service was started, but its ExecStart= ended with status 226";
    let journal = machine.must("journalctl -b -o cat -u farewell-start.service");
    assert!(journal.contains(told), "{journal}");
    machine.must(
        "rm /etc/systemd/system/farewell.service.d/own.conf; systemctl daemon-reload; systemctl restart farewell.service; \
         farewell rehearse",
    );
    marked(machine);
}

/// Nothing that farewell.service asks for has to be there.
#[test]
#[ignore = "needs root; tests/run has it"]
fn without_farewell_start() {
    let machine = Rig::new().configuration(MARK).boot();
    settle(&machine);
    machine.must("systemctl mask farewell-start.service network-online.target");
    let said = machine.sh("farewell rehearse");
    let told =
        "farewell-start.service is masked, so that nothing is checked, kept or undone at boot";
    assert!(said.stdout.contains(told) && said.code == 1, "{said:?}");
    machine.must("systemctl restart farewell.service");
    marked(machine);
}

/// A `farewell start` that does not end costs the farewell some seconds at most.
#[test]
#[ignore = "needs root; tests/run has it"]
fn a_start_that_does_not_end() {
    let machine = Rig::new()
        .configuration(MARK)
        .drop_in(
            "farewell-start.service",
            "hang.conf",
            "[Service]\nExecStart=\nExecStart=/bin/sh -c 'trap \"\" TERM; echo begun >/rig/hangs; while :; do sleep 1; done'\n",
        )
        .unbooted()
        .boot();
    machine.wait_for("test -e /rig/hangs");
    assert_eq!(
        machine.property("farewell-start.service", "TimeoutStopUSec"),
        "5s"
    );
    marked(machine);
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn enabled_and_disabled_together() {
    let machine = Rig::new().configuration(MARK).boot();
    let both = "systemctl is-enabled farewell.service farewell-arm.service";
    assert_eq!(machine.must(both), "enabled\nenabled");
    machine.must("systemctl disable farewell.service");
    assert_eq!(machine.sh(both).stdout, "disabled\ndisabled\n");
    let end = machine.end("systemctl reboot");
    assert_eq!(end.read("/rig/left"), "reboot\n");

    let machine = end.boot();
    assert_eq!(machine.state("farewell.service"), "inactive");
    assert_eq!(machine.state("farewell-arm.service"), "inactive");
    machine.must("systemctl enable farewell.service");
    assert_eq!(machine.must(both), "enabled\nenabled");
    machine.must("systemctl start farewell.service && farewell rehearse");
    for (disable, told) in [
        (
            "farewell-arm.service",
            "farewell-arm.service is disabled while farewell.service is enabled",
        ),
        (
            "farewell.service; systemctl enable farewell-arm.service",
            "farewell.service is disabled while farewell-arm.service is enabled",
        ),
    ] {
        machine.must(&format!("systemctl disable {disable}"));
        let said = machine.sh("farewell rehearse");
        assert!(said.stdout.contains(told) && said.code == 1, "{said:?}");
    }
    machine.must("systemctl preset farewell.service farewell-arm.service");
    assert_eq!(machine.must(both), "enabled\nenabled");
}

/// systemd forgets ExecStop= of a unit that is masked: the stop runs no farewell, and neither does the shutdown.
#[test]
#[ignore = "needs root; tests/run has it"]
fn a_mask_is_told() {
    let machine = Rig::new().configuration(MARK).boot();
    settle(&machine);
    machine.must("systemctl mask --now farewell.service");
    for verb in ["start", "rehearse"] {
        let said = machine.sh(&format!("farewell {verb} 2>&1"));
        let told = "farewell.service is masked, so that no farewell runs at shutdown: run `systemctl unmask farewell.service`";
        assert!(said.stdout.contains(told) && said.code == 1, "{said:?}");
    }
    machine.must("test ! -e /rig/left");
    machine.must("systemctl unmask farewell.service && systemctl start farewell.service && farewell rehearse");
    marked(machine);
}
