//! The .deb and the .rpm with real dpkg and rpm: what they enable, what they leave alone, and what they take with them.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::binary::Ended;
use crate::support::release::{Copy, deb, file_in, rpm};
use crate::support::roots::{DPKG, Machine};

const CONFIG: &str = "/etc/farewell/farewell.toml";
const RECORD: &str = "/var/lib/farewell/runs/x.jsonl";

/// What enables the units of farewell.
const LINKS: [&str; 2] = [
    "/etc/systemd/system/multi-user.target.wants/farewell.service",
    "/etc/systemd/system/sysinit.target.wants/farewell-arm.service",
];

/// What a script does that has nothing but files to look after.
const RELOADED: [&str; 3] = [
    "systemctl daemon-reload",
    "systemctl --quiet is-enabled farewell.service",
    "systemctl --quiet is-active farewell.service",
];

/// What it does before the files go: systemd forgets, without a farewell.
const FORGOTTEN: [&str; 2] = [
    "systemctl is-system-running",
    "systemctl stop farewell.service farewell-arm.service farewell-rehearse.timer (skip)",
];

const GONE: [&str; 2] = [
    "systemctl daemon-reload",
    "systemctl reset-failed farewell*.service",
];

/// A Debian 12 in which systemctl and journalctl write down what they are called for. Links are systemctl's own work, as
/// they are where systemd does not run.
fn machine(name: &str) -> Machine {
    let machine = Machine::new(name, "bookworm", DPKG);
    machine.must("mv /bin/systemctl /bin/systemctl.real; mkdir -p /run/systemd/system /var/lib/dpkg/info /var/lib/dpkg/updates");
    let record = |name: &str, more: &str| {
        let skip = "skip=; [ ! -e /run/farewell/skip ] || skip=' (skip)'";
        let text = format!("#!/bin/sh\n{skip}\necho \"{name} $*$skip\" >>/calls\n{more}\n");
        machine.executable(&format!("/bin/{name}"), &text);
    };
    let system = "case $* in\nis-system-running) cat /state ;;\n*is-active*) exit 3 ;;\n\
        *is-enabled* | *preset* | *disable* | enable*) exec systemctl.real --root=/ \"$@\" ;;\nesac";
    record("systemctl", system);
    record("journalctl", "");
    machine.write("/state", "running\n");
    // It is gone in a minute: nothing of it has to be on a disk.
    machine.write("/etc/dpkg/dpkg.cfg", "force-unsafe-io\n");
    status(&machine, "252.39-1~deb12u1");
    machine
}

/// Tells dpkg what is there of what farewell depends on.
fn status(machine: &Machine, systemd: &str) {
    let packages = [("systemd", systemd), ("libc6", "2.36-9")].map(|(name, version)| {
        format!(
            "Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n\
             Maintainer: test\nDescription: test\n\n"
        )
    });
    machine.write("/var/lib/dpkg/status", &packages.concat());
}

/// What was called since the last time, but for what deb-systemd-helper does for links.
fn calls(machine: &Machine) -> Vec<String> {
    let calls = machine.text("/calls");
    machine.write("/calls", "");
    let calls = calls
        .lines()
        .filter(|call| !call.contains("--preset-mode=enable-only"));
    calls.map(str::to_owned).collect()
}

fn enabled(machine: &Machine) -> [bool; 2] {
    LINKS.map(|link| machine.has(link))
}

/// A configuration and a record, as a machine has them.
fn use_it(machine: &Machine) -> String {
    let config = "[[step]]\nname = \"own\"\nkind = \"wait\"\nfor = \"1s\"\n".to_owned();
    machine.write(CONFIG, &config);
    machine.write(RECORD, "{}\n");
    config
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn the_deb_says_what_it_is() {
    let field = |name: &str| {
        let said = Ended::of(Command::new("dpkg-deb").arg("-f").arg(deb()).arg(name));
        said.stdout.trim().to_owned()
    };
    for (name, value) in [
        ("Package", "farewell"),
        ("Version", env!("CARGO_PKG_VERSION")),
        ("Architecture", "amd64"),
        ("Section", "admin"),
        ("Priority", "optional"),
        ("Depends", "systemd (>= 247), libc6 (>= 2.17)"),
        ("Recommends", "ca-certificates"),
        ("Homepage", ""),
    ] {
        assert_eq!(field(name), value, "{name}");
    }
    let conffiles = Ended::of(
        Command::new("dpkg-deb")
            .arg("--info")
            .arg(deb())
            .arg("conffiles"),
    );
    assert_eq!(conffiles.stdout.trim(), CONFIG);
    let listed = Ended::of(Command::new("dpkg-deb").arg("-c").arg(deb())).stdout;
    assert!(
        listed.lines().all(|line| line.contains(" root/root ")),
        "{listed}"
    );
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn the_deb_waits_for_systemd_247() {
    let machine = machine("deb-depends");
    status(&machine, "246.6-2");
    let package = machine.bring(&deb());
    let said = machine.run(&format!("dpkg -i {package}"));
    assert_ne!(said.code, 0, "{said:?}");
    assert!(said.stderr.contains("systemd (>= 247)"), "{said:?}");
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn the_deb_enables_and_starts_nothing() {
    let machine = machine("deb-image");
    // An image build: nothing runs.
    machine.must("rmdir /run/systemd/system");
    let package = machine.bring(&deb());
    let said = machine.must(&format!("dpkg -i {package}"));
    assert!(!said.contains("this boot"), "{said}");
    assert_eq!(enabled(&machine), [true, true]);
    assert!(!machine.has("/etc/systemd/system/timers.target.wants/farewell-rehearse.timer"));
    assert_eq!(calls(&machine), [""; 0]);
    assert_eq!(
        machine.must("farewell check --image | grep -c 'no problems'"),
        "1\n"
    );
    machine.must(
        "test -L /usr/lib/systemd/system-generators/farewell-generator && dpkg --verify farewell",
    );
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn an_upgrade_by_the_deb_only_reloads() {
    let machine = machine("deb-upgrade");
    let package = machine.bring(&deb());
    let said = machine.must(&format!("dpkg -i {package}"));
    assert!(
        said.contains("on this boot: systemctl start farewell"),
        "{said}"
    );
    assert_eq!(calls(&machine), RELOADED);
    let config = use_it(&machine);
    let copy = Copy::new("deb-upgrade-2");
    let package = machine.bring(&file_in(&copy.revision(2), ".deb"));
    machine.must(&format!("dpkg -i {package}"));
    assert_eq!(calls(&machine), RELOADED);
    assert_eq!(
        (machine.text(CONFIG), enabled(&machine)),
        (config, [true, true])
    );
    // A configuration that the program does not take is told, and is no failure of the package.
    machine.write(CONFIG, "nonsense = 1\n");
    let said = machine.must(&format!("dpkg -i {package}"));
    assert!(
        said.contains("nonsense") && said.contains("does not work with this version"),
        "{said}"
    );
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn what_was_disabled_stays_so() {
    let machine = machine("deb-disabled");
    let package = machine.bring(&deb());
    machine.must(&format!("dpkg -i {package}"));
    // One link alone, by hand.
    machine.must(&format!("rm {}", LINKS[0]));
    for again in [
        format!("dpkg -i {package}"),
        format!("dpkg -r farewell && dpkg -i {package}"),
    ] {
        machine.must(&again);
        assert_eq!(enabled(&machine), [false, true], "{again}");
    }
    // As it is done: farewell-arm.service goes with it, and so it stays.
    machine.must("systemctl disable farewell.service");
    assert_eq!(enabled(&machine), [false, false]);
    for again in [
        format!("dpkg -i {package}"),
        format!("dpkg -r farewell && dpkg -i {package}"),
    ] {
        machine.must(&again);
        assert_eq!(enabled(&machine), [false, false], "{again}");
    }
    machine.must("systemctl enable farewell.service");
    assert_eq!(enabled(&machine), [true, true]);
    // A purge forgets that, too; what an administrator has decided beforehand holds then.
    machine.must(&format!("dpkg -P farewell && dpkg -i {package}"));
    assert_eq!(enabled(&machine), [true, true]);
    machine.must("dpkg -P farewell");
    // Both or none: one is never enabled without the other.
    let preset = "/etc/systemd/system-preset/10-own.preset";
    for (unit, both) in [("farewell.service", false), ("farewell-arm.service", true)] {
        machine.write(preset, &format!("disable {unit}\n"));
        machine.must(&format!("dpkg -i {package}"));
        assert_eq!(enabled(&machine), [both, both], "{unit}");
        machine.must("dpkg -P farewell");
    }
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn the_deb_is_removed_without_a_farewell() {
    let machine = machine("deb-remove");
    let package = machine.bring(&deb());
    machine.must(&format!("dpkg -i {package}"));
    let config = use_it(&machine);
    calls(&machine);
    machine.must("dpkg -r farewell");
    assert_eq!(calls(&machine), [FORGOTTEN, GONE].concat());
    assert!(!machine.has("/run/farewell/skip") && !machine.has("/usr/bin/farewell"));
    assert_eq!(machine.text(CONFIG), config);
    assert!(machine.has(RECORD));
    machine.must(&format!("dpkg -i {package}"));
    assert_eq!(
        (machine.text(CONFIG), enabled(&machine)),
        (config, [true, true])
    );
    // An administrator's own file stays, and so does the farewell of a machine that goes down.
    machine.must("mkdir -p /run/farewell && : >/run/farewell/skip && dpkg -r farewell && rm /run/farewell/skip");
    machine.must(&format!("dpkg -i {package}"));
    machine.write("/state", "stopping\n");
    calls(&machine);
    machine.must("dpkg -r farewell");
    let stop = FORGOTTEN[1].trim_end_matches(" (skip)");
    assert_eq!(calls(&machine)[1], stop);
    machine.must("dpkg -P farewell");
    for gone in [
        "/etc/farewell",
        "/var/lib/farewell",
        "/run/farewell",
        LINKS[0],
        LINKS[1],
    ] {
        assert!(!machine.has(gone), "{gone}");
    }
}

/// rpm of this host, at work in a machine.
fn rpm_in(machine: &Machine, arguments: &[&str], package: &Path) -> Ended {
    Ended::of(
        Command::new("rpm")
            .arg("--root")
            .arg(machine.root())
            .args(arguments)
            .arg(package)
            .env("LC_ALL", "C"),
    )
}

/// Has rpm do something that must succeed.
fn rpm_must(machine: &Machine, arguments: &[&str], package: &Path) -> String {
    let said = rpm_in(machine, arguments, package);
    assert_eq!(said.code, 0, "{arguments:?}: {said:?}");
    format!("{}{}", said.stdout, said.stderr)
}

/// A package that stands for the rest of a distribution.
fn distribution(systemd: &str) -> (crate::support::Dir, std::path::PathBuf) {
    let dir = crate::support::Dir::new(&format!("rpm-distribution-{systemd}"));
    let config = dir.file("nfpm.yaml");
    let text = format!(
        "name: systemd\narch: amd64\nversion: {systemd}\nmaintainer: test\ndescription: test\n\
         provides: [\"libc.so.6(GLIBC_2.17)(64bit)\"]\n"
    );
    fs::write(&config, text).expect("written");
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/release-tools/bin/nfpm");
    let package = dir.0.join("systemd.rpm");
    let mut nfpm = Command::new(tool);
    nfpm.args([
        "package",
        "--packager",
        "rpm",
        "--config",
        &config,
        "--target",
    ]);
    let said = Ended::of(nfpm.arg(&package));
    assert_eq!(said.code, 0, "{said:?}");
    (dir, package)
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn the_rpm_installs_upgrades_and_goes() {
    let machine = machine("rpm");
    let first = rpm();
    let install = ["--force-debian", "--install"];
    let refused = rpm_in(&machine, &install, &first);
    assert!(
        refused.code != 0 && refused.stderr.contains("systemd >= 247"),
        "{refused:?}"
    );
    let (_old, old) = distribution("246");
    rpm_must(&machine, &install, &old);
    let refused = rpm_in(&machine, &install, &first);
    assert!(
        refused.code != 0 && refused.stderr.contains("systemd >= 247"),
        "{refused:?}"
    );
    let (_new, new) = distribution("247");
    rpm_must(&machine, &["--force-debian", "--upgrade"], &new);

    let said = rpm_must(&machine, &install, &first);
    assert!(
        said.contains("on this boot: systemctl start farewell"),
        "{said}"
    );
    let preset = "systemctl --no-reload --quiet preset farewell.service farewell-rehearse.timer";
    let catalog = "journalctl --update-catalog";
    assert_eq!(
        calls(&machine),
        [&[preset, catalog][..], &RELOADED].concat()
    );
    let name = Path::new("farewell");
    assert_eq!(rpm_must(&machine, &["--verify"], name), "");
    let told = rpm_must(&machine, &["-q", "--configfiles"], name);
    assert_eq!(told.trim(), CONFIG);

    let config = use_it(&machine);
    let copy = Copy::new("rpm-upgrade");
    // The sample changes as well: the machine's own stays, and the new one lies beside it.
    copy.replace("units/farewell.toml", "[farewell]", "[farewell] # changed");
    let second = file_in(&copy.revision(2), ".rpm");
    rpm_must(&machine, &["--force-debian", "--upgrade"], &second);
    let after = [catalog, "systemctl daemon-reload"];
    assert_eq!(
        calls(&machine),
        [&[catalog][..], &RELOADED, &after].concat()
    );
    assert_eq!(machine.text(CONFIG), config);
    assert!(machine.has(&format!("{CONFIG}.rpmnew")));

    rpm_must(&machine, &["--force-debian", "--erase"], name);
    let disable = "systemctl --no-reload --quiet disable farewell.service farewell-arm.service farewell-rehearse.timer (skip)";
    assert_eq!(
        calls(&machine),
        [&FORGOTTEN[..], &[disable, catalog], &GONE].concat()
    );
    assert!(!machine.has("/run/farewell/skip") && !machine.has("/usr/bin/farewell"));
    assert_eq!(machine.text(&format!("{CONFIG}.rpmsave")), config);
    assert!(machine.has(RECORD));
}
