//! The released .deb, and the machine's own dpkg: installed, upgraded, removed and installed again on a machine that is a
//! member all the while. None of that is a farewell, and none keeps the machine from having one.

use super::{LEAVE_AND_STOP, left_first};
use crate::lab::{Machine, Stage};
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

/// What systemd says of a unit that it knows nothing of.
const UNKNOWN: &str = "not-found\ninactive";

/// What tells one activation of farewell.service from another.
const ACTIVATION: &str = "systemctl show -P ActiveState -P InvocationID -P ActiveEnterTimestampMonotonic farewell.service";

fn is_unknown(machine: &mut Machine) {
    for unit in UNITS {
        let state = machine.must(&format!(
            "systemctl show -P LoadState -P ActiveState {unit}"
        ));
        assert_eq!(state, UNKNOWN, "{unit}");
    }
}

/// Installs the released package as README.md says, over a configuration that is there already.
fn install(machine: &mut Machine) -> String {
    let readme = include_str!("../../../README.md");
    let (_, rest) = readme
        .split_once("<!-- package -->\n```sh\n")
        .expect("a block");
    let (command, _) = rest.split_once("```").expect("its end");
    if machine.run("test -e /root/farewell_*.deb").code != 0 {
        machine.bring(&deb());
    }
    machine.must(&format!("cd /root && {command}"))
}

/// Has systemd start what is installed, as who has installed it is told to.
fn arm(machine: &mut Machine) {
    machine.must("systemctl start farewell.service");
    machine.wait_for_start();
}

pub fn package_installed(stage: &Stage) {
    let registry = stage.registry();
    let mut machine = stage.machine();
    machine.configure(&registry.within(LEAVE_AND_STOP));
    // A record to keep.
    let step = "[[step]]\nname = \"nothing\"\nkind = \"wait\"\nfor = \"0s\"";
    machine.write("/run/lab/by-hand.toml", step);
    machine.must("farewell run --config /run/lab/by-hand.toml");
    let sums = "sha256sum /etc/farewell/farewell.toml /var/lib/farewell/runs/*.jsonl";
    let kept = machine.must(sums);
    let archive = machine.bring(&file_in(dist(), ".tar.gz"));
    machine.must(&format!(
        "tar -C /root -xzf {archive} && /root/farewell-*/packer/install.sh --uninstall"
    ));
    assert_eq!(
        machine.must("systemctl show -P LoadState farewell.service"),
        "not-found"
    );
    assert_eq!(machine.must(sums), kept);
    let said = install(&mut machine);
    assert!(
        said.contains("on this boot: systemctl start farewell"),
        "{said}"
    );
    assert_eq!(machine.must(sums), kept);
    machine.must("systemctl is-enabled farewell.service farewell-arm.service");
    assert_eq!(
        machine.run("systemctl is-active farewell.service").text,
        "inactive\n"
    );
    let explained = "journalctl --list-catalog | grep 'farewell: run started'";
    machine.must(explained);
    registry.still_lists_member();
    arm(&mut machine);
    machine.must("systemctl poweroff");
    let end = machine.powered_off();
    let [by_hand, last] = &end.runs()[..] else {
        panic!("not two runs");
    };
    by_hand.is_recorded("stop", "ok");
    last.is("poweroff", "ok");
    left_first(&end);
    registry.is_clean();
}

pub fn package_upgraded(stage: &Stage) {
    let registry = stage.registry();
    let mut machine = stage.machine();
    machine.configure(&registry.within(LEAVE_AND_STOP));
    let active = machine.must(ACTIVATION);
    install(&mut machine);
    let copy = Copy::new(&format!("vm-{}-upgrade", stage.release));
    copy.replace(
        "units/farewell.service",
        "this machine (farewell)",
        "this machine (packaged again)",
    );
    let package = machine.bring(&file_in(&copy.revision(2), ".deb"));
    machine.must(&format!("dpkg -i {package}"));
    let version = machine.must("dpkg-query -W -f '${Version}' farewell");
    assert!(version.ends_with("-2"), "{version}");
    // The same activation lives on, and what it does at its end is the new one's.
    assert_eq!(machine.must(ACTIVATION), active);
    assert_eq!(
        machine.must("systemctl show -P Description -P NeedDaemonReload farewell.service"),
        "Last duties of this machine (packaged again)\nno"
    );
    machine.must("systemctl is-active app.service farewell.service");
    registry.still_lists_member();
    machine.must("systemctl poweroff");
    let end = machine.powered_off();
    end.run().is("poweroff", "ok");
    left_first(&end);
    registry.is_clean();
}

pub fn package_removed(stage: &Stage) {
    let registry = stage.registry();
    let mut machine = stage.machine();
    // Not even where the change of a package is a farewell.
    let config = format!("[farewell]\nrestart = \"run\"\n{LEAVE_AND_STOP}");
    machine.configure(&registry.within(&config));
    install(&mut machine);
    machine.must("dpkg -r farewell");
    is_unknown(&mut machine);
    machine.must("test ! -e /run/farewell/skip && test -e /etc/farewell/farewell.toml && systemctl is-active app.service");
    registry.still_lists_member();
    machine.must("systemctl poweroff");
    let end = machine.powered_off();
    end.in_order(&["farewell: /run/farewell/skip is there: this unit stops WITHOUT A FAREWELL (trigger restart: dpkg"]);
    end.nothing_ran();
    registry.still_lists_member();
}

pub fn package_reinstalled(stage: &Stage) {
    let registry = stage.registry();
    let mut machine = stage.machine();
    machine.configure(&registry.within(&LEAVE_AND_STOP.replace("for = \"1s\"", "for = \"4s\"")));
    install(&mut machine);
    // Removed while a member leaves by hand: it has left then.
    machine.must("systemctl stop --no-block farewell.service");
    machine.wait_for("systemctl show -P ActiveState farewell.service | grep -x deactivating");
    machine.must("dpkg -r farewell");
    registry.is_clean();
    is_unknown(&mut machine);
    install(&mut machine);
    machine.must("systemctl start app.service");
    registry.register();
    arm(&mut machine);
    machine.must("systemctl poweroff");
    let end = machine.powered_off();
    let [by_hand, last] = &end.runs()[..] else {
        panic!("not two runs");
    };
    by_hand.is("stop", "ok");
    last.is("poweroff", "ok");
    left_first(&end);
    registry.is_clean();
}
