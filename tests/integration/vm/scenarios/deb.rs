//! The released .deb, and the machine's own dpkg: installed, upgraded, removed and installed again on a machine that is a
//! member all the while. None of that is a farewell, and none keeps the machine from having one.

use crate::support::member::{LEAVE_AND_STOP, left_first};
use crate::support::release::{deb, dist, file_in};
use crate::vm::lab::{Machine, Stage};

/// Installs the released package as README.md says, over a configuration that is there already.
fn install(machine: &mut Machine) -> String {
    let readme = include_str!("../../../../README.md");
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
    left_first(&end.journal);
    registry.is_clean();
}
