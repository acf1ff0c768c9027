//! `packer/seal.sh`: what it takes from the machine that an image is built on, what it leaves, and what it says of both.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::binary::Ended;

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packer/seal.sh")
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_machine_is_not_sealed_by_mistake() {
    let nobody = "--reuid 65534 --regid 65534 --clear-groups sh -s --";
    for (arguments, code, told) in [
        (
            &[][..],
            64,
            "seal.sh: this removes this machine's identity: pass --build-machine to confirm",
        ),
        (
            &["--build-machine"],
            77,
            "seal.sh: only root can seal a machine",
        ),
    ] {
        // As somebody who could not, whatever it does.
        let mut command = Command::new("setpriv");
        command.args(nobody.split(' ')).args(arguments);
        command.stdin(fs::File::open(script()).expect("the script"));
        let said = Ended::of(&mut command);
        assert_eq!(said.code, code, "{said:?}");
        assert!(said.stderr.starts_with(told), "{said:?}");
    }
}

/// What is planted, and must be gone.
const GONE: [&str; 15] = [
    "/root/.bash_history",
    "/root/.python_history",
    "/home/builder/.zsh_history",
    "/home/builder/.lesshst",
    "/home/builder/.local/share/fish/fish_history",
    "/etc/credstore/token",
    "/etc/credstore/.hidden",
    "/etc/credstore.encrypted/token",
    "/var/lib/systemd/credential.secret",
    "/var/cache/apt/archives/it_1_amd64.deb",
    "/var/lib/apt/lists/it_Packages",
    "/var/cache/dnf/it.rpm",
    "/var/lib/systemd/coredump/core.it",
    "/var/log/syslog.2.gz",
    "/var/log/it/it.log-20260101",
];

/// What must be there and empty.
const EMPTY: [&str; 4] = [
    "/etc/machine-id",
    "/var/log/syslog",
    "/var/log/it/a b.log",
    "/var/log/wtmp",
];

/// What must be there as it was.
const KEPT: [&str; 4] = [
    "/home/builder/.bashrc",
    "/root/linked",
    "/etc/farewell/farewell.toml",
    "/var/cache/apt/archives/lock",
];

/// Seals a copy of this machine's root, whose changes are in memory, in which all that is planted. Then prints `gone PATH`,
/// `empty PATH` or `there PATH` of each, and what the script said.
const SEAL: &str = r#"set -eu
    mount -t tmpfs none /mnt
    mkdir /mnt/root /mnt/upper /mnt/work
    mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work none /mnt/root
    cd /mnt
    rm -rf root/run/systemd
    cp "$1" root/seal.sh
    shift
    for path; do
        mkdir -p "root${path%/*}"
        rm -rf "root$path"
        echo secret >"root$path"
    done
    mkdir -p root/var/cache/apt/archives/partial
    ln -s /root/linked root/etc/credstore/link
    chmod 640 root/var/log/syslog
    chroot root sh /seal.sh --build-machine >said
    for path; do
        if [ -s "root$path" ]; then echo "there $path"; elif [ -e "root$path" ]; then echo "empty $path"; else echo "gone $path"; fi
    done
    stat -c 'mode %a' root/var/log/syslog
    [ -z "$(ls -A root/etc/credstore)" ]
    [ -d root/var/cache/apt/archives/partial ]
    cat said"#;

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_sealed_machine_has_nothing_of_the_build_and_lists_what_is_gone() {
    let mut command = Command::new("unshare");
    command
        .args(["-m", "--propagation", "private", "sh", "-c", SEAL, "sh"])
        .arg(script())
        .args(GONE.iter().chain(&EMPTY).chain(&KEPT));
    let said = Ended::of(&mut command);
    assert_eq!(said.code, 0, "{said:?}");
    let has = |line: String| {
        let is_there = said.stdout.lines().any(|it| it == line);
        assert!(is_there, "{line}: {said:?}");
    };
    for path in GONE {
        has(format!("gone {path}"));
        has(format!("removed {path}"));
    }
    for path in EMPTY {
        has(format!("empty {path}"));
        has(format!("emptied {path}"));
    }
    for path in KEPT {
        has(format!("there {path}"));
    }
    has("removed /etc/credstore/link".to_owned());
    has("mode 640".to_owned());
    let last = said.stdout.lines().last().unwrap_or_default();
    assert!(last.starts_with("this machine is sealed"), "{said:?}");
}
