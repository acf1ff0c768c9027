//! The released .deb, and the machine's own dpkg: installed, upgraded, removed and installed again on a machine that is a
//! member all the while. None of that is a farewell, and none keeps the machine from having one.

use std::fs;
use std::path::Path;

use crate::rig::harness::{Machine, Rig, member, on_each_release, registry};
use crate::support::member::{LEAVE_AND_STOP, left_first};
use crate::support::release::{Copy, deb, dist, file_in};

/// Every unit of the package.
const UNITS: [&str; 7] = [
    "farewell.service",
    "farewell-arm.service",
    "farewell-start.service",
    "farewell-undo.service",
    "farewell-undo.timer",
    "farewell-rehearse.service",
    "farewell-rehearse.timer",
];

/// What tells one activation of farewell.service from another.
const ACTIVATION: &str = "systemctl show -P ActiveState -P InvocationID -P ActiveEnterTimestampMonotonic farewell.service";

fn is_unknown(machine: &Machine) {
    for unit in UNITS {
        assert_eq!(machine.property(unit, "LoadState"), "not-found", "{unit}");
        assert_eq!(machine.state(unit), "inactive", "{unit}");
    }
}

/// Lays a file of this host into /root; its path there.
fn bring(machine: &Machine, file: &Path) -> String {
    let path = format!(
        "/root/{}",
        file.file_name().expect("a name").to_string_lossy()
    );
    fs::copy(file, machine.path(&path)).expect("copied");
    path
}

/// Installs the released package as README.md says, over a configuration that is there already.
fn install(machine: &Machine) -> String {
    let readme = include_str!("../../../README.md");
    let (_, rest) = readme
        .split_once("<!-- package -->\n```sh\n")
        .expect("a block");
    let (command, _) = rest.split_once("```").expect("its end");
    bring(machine, &deb());
    machine.must(&format!("cd /root && {command}"))
}

/// Has systemd start what is installed, as who has installed it is told to.
fn arm(machine: &Machine) {
    machine.must("systemctl start farewell.service");
    machine.wait_for_start();
}

on_each_release! {
    fn installed(rig: Rig) {
        // Before the case has a network of its own, in which nothing could be built.
        dist();
        let registry = registry();
        let machine = member(rig, &registry.within(LEAVE_AND_STOP)).boot();
        // A record to keep.
        let step = "[[step]]\nname = \"nothing\"\nkind = \"wait\"\nfor = \"0s\"";
        machine.write("/rig/by-hand.toml", step);
        machine.must("farewell run --config /rig/by-hand.toml");
        let sums = "sha256sum /etc/farewell/farewell.toml /var/lib/farewell/runs/*.jsonl";
        let kept = machine.must(sums);
        let archive = bring(&machine, &file_in(dist(), ".tar.gz"));
        machine.must(&format!(
            "tar -C /root -xzf {archive} && /root/farewell-*/packer/install.sh --uninstall"
        ));
        assert_eq!(machine.property("farewell.service", "LoadState"), "not-found");
        assert_eq!(machine.must(sums), kept);
        let said = install(&machine);
        assert!(said.contains("on this boot: systemctl start farewell"), "{said}");
        assert_eq!(machine.must(sums), kept);
        machine.must("systemctl is-enabled farewell.service farewell-arm.service");
        assert_eq!(machine.state("farewell.service"), "inactive");
        machine.must("journalctl --list-catalog | grep 'farewell: run started'");
        registry.still_lists_member();
        arm(&machine);
        let end = machine.end("systemctl poweroff");
        let [by_hand, last] = &end.runs()[..] else {
            panic!("not two runs");
        };
        by_hand.is_recorded("stop", "ok");
        last.is("poweroff", "ok");
        left_first(&end.journal);
        registry.is_clean();
    }

    fn upgraded(rig: Rig) {
        // Before the case has a network of its own, in which nothing could be built.
        dist();
        let registry = registry();
        let machine = member(rig, &registry.within(LEAVE_AND_STOP)).boot();
        let active = machine.must(ACTIVATION);
        install(&machine);
        let thread = std::thread::current().name().unwrap_or("case").replace("::", "-");
        let copy = Copy::new(&format!("rig-upgrade-{thread}"));
        copy.replace(
            "units/farewell.service",
            "this machine (farewell)",
            "this machine (packaged again)",
        );
        let package = bring(&machine, &file_in(&copy.revision(2), ".deb"));
        machine.must(&format!("dpkg -i {package}"));
        let version = machine.must("dpkg-query -W -f '${Version}' farewell");
        assert!(version.ends_with("-2"), "{version}");
        // The same activation lives on, and what it does at its end is the new one's.
        assert_eq!(machine.must(ACTIVATION), active);
        let description = machine.property("farewell.service", "Description");
        assert_eq!(description, "Last duties of this machine (packaged again)");
        assert_eq!(machine.property("farewell.service", "NeedDaemonReload"), "no");
        machine.must("systemctl is-active app.service farewell.service");
        registry.still_lists_member();
        let end = machine.end("systemctl poweroff");
        end.run().is("poweroff", "ok");
        left_first(&end.journal);
        registry.is_clean();
    }

    fn removed(rig: Rig) {
        // Before the case has a network of its own, in which nothing could be built.
        dist();
        let registry = registry();
        // Not even where the change of a package is a farewell.
        let config = format!("[farewell]\nrestart = \"run\"\n{LEAVE_AND_STOP}");
        let machine = member(rig, &registry.within(&config)).boot();
        install(&machine);
        machine.must("dpkg -r farewell");
        is_unknown(&machine);
        machine.must("test ! -e /run/farewell/skip && test -e /etc/farewell/farewell.toml && systemctl is-active app.service");
        registry.still_lists_member();
        let end = machine.end("systemctl poweroff");
        end.in_order(&["farewell: /run/farewell/skip exists: this unit stops WITHOUT A FAREWELL (trigger restart: dpkg"]);
        end.nothing_ran();
        registry.still_lists_member();
    }

    fn reinstalled(rig: Rig) {
        // Before the case has a network of its own, in which nothing could be built.
        dist();
        let registry = registry();
        let config = LEAVE_AND_STOP.replace("for = \"1s\"", "for = \"4s\"");
        let machine = member(rig, &registry.within(&config)).boot();
        install(&machine);
        // Removed while a member leaves by hand: it has left then.
        machine.must("systemctl stop --no-block farewell.service");
        machine.wait_for("grep -q step-started /var/lib/farewell/runs/*.jsonl");
        machine.must("dpkg -r farewell");
        registry.is_clean();
        is_unknown(&machine);
        install(&machine);
        machine.must("systemctl start app.service");
        registry.register();
        arm(&machine);
        let end = machine.end("systemctl poweroff");
        let [by_hand, last] = &end.runs()[..] else {
            panic!("not two runs");
        };
        by_hand.is("stop", "ok");
        last.is("poweroff", "ok");
        left_first(&end.journal);
        registry.is_clean();
    }
}
