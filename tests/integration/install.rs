//! `packer/install.sh`, as an image meets it: what it puts where, what a second time changes, what it leaves, and what it
//! says where it cannot.

use std::path::Path;
use std::process::Command;

use crate::support::binary::Ended;

/// Runs a script with a copy of this machine's root at /mnt/root, whose changes are in /mnt/upper, and a release of farewell
/// in "/mnt/a release": `install` calls its script for that root, `listed` tells each file of it that is farewell's.
fn in_a_root(script: &str) -> Ended {
    let room = r#"set -eu; source=$1; program=$2
        umask 077
        mount -t tmpfs none /mnt
        mkdir -m 755 /mnt/root /mnt/upper /mnt/work "/mnt/a release"
        mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work none /mnt/root
        for part in units packer README.md CHANGELOG.md LICENSE; do
            cp -r "$source/$part" "/mnt/a release/"
        done
        cp "$program" "/mnt/a release/farewell"
        cd /mnt
        install() { DESTDIR=/mnt/root "/mnt/a release/packer/install.sh" "$@"; }
        snapshot() { find /mnt/upper -printf '%p %y %m %i %T@ %C@\n' | sort; }
        listed() { (cd /mnt/root && find etc usr var -xdev -name '*farewell*' -o -path '*farewell/*') | sort; }
        "#;
    Ended::of(
        Command::new("unshare")
            .args(["-m", "--propagation", "private", "sh", "-c"])
            .arg(format!("{room}{script}"))
            .arg("sh")
            .arg(env!("CARGO_MANIFEST_DIR"))
            .arg(env!("CARGO_BIN_EXE_farewell")),
    )
}

/// What systemd calls one of its places, below the root.
fn place(name: &str) -> String {
    let said = Ended::of(Command::new("systemd-path").arg(name));
    assert_eq!(said.code, 0, "{said:?}");
    said.stdout.trim().trim_start_matches('/').to_owned()
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn everything_is_in_its_place_and_everybody_may_read_it() {
    let said = in_a_root(
        "install >/mnt/said; cd /mnt/upper; find . -type f,l -printf '%m %y %P %l\\n'; \
         find . -mindepth 1 -type d ! -perm -755 -printf 'closed: %P\\n'; tail -1 /mnt/said",
    );
    assert_eq!(said.code, 0, "{said:?}");
    let has = |line: &str| {
        assert!(
            said.stdout.lines().any(|it| it.trim_end() == line),
            "{line}: {}",
            said.stdout
        );
    };
    let [units, generators, presets] =
        ["unit", "generator", "preset"].map(|it| place(&format!("systemd-system-{it}")));
    // The root has /lib as a link into /usr.
    let merged = |path: &str| match path.strip_prefix("lib/") {
        Some(rest) if Path::new("/lib").is_symlink() => format!("usr/lib/{rest}"),
        _ => path.to_owned(),
    };
    let [unit_files, generators, preset_files] =
        [&units, &generators, &presets].map(|it| merged(it));
    for unit in [
        "farewell.service",
        "farewell-arm.service",
        "farewell-start.service",
        "farewell-undo.service",
        "farewell-undo.timer",
        "farewell-rehearse.service",
        "farewell-rehearse.timer",
    ] {
        has(&format!("644 f {unit_files}/{unit}"));
    }
    for line in [
        "755 f usr/bin/farewell".to_owned(),
        format!("777 l {generators}/farewell-generator /usr/bin/farewell"),
        format!("644 f {preset_files}/50-farewell.preset"),
        format!("644 f {}/farewell.catalog", merged(&place("catalog"))),
        "644 f usr/share/dbus-1/system.d/org.farewell.Agent1.conf".to_owned(),
        "644 f usr/share/doc/farewell/README.md".to_owned(),
        "644 f usr/share/doc/farewell/copyright".to_owned(),
        "644 f etc/farewell/farewell.toml".to_owned(),
        format!(
            "777 l etc/systemd/system/multi-user.target.wants/farewell.service /{units}/farewell.service"
        ),
        format!(
            "777 l etc/systemd/system/sysinit.target.wants/farewell-arm.service /{units}/farewell-arm.service"
        ),
    ] {
        has(&line);
    }
    for page in
        std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("units/manual")).expect("it")
    {
        let name = page
            .expect("a page")
            .file_name()
            .into_string()
            .expect("UTF-8");
        if name.ends_with(".md") {
            has(&format!("644 f usr/share/doc/farewell/manual/{name}"));
        }
    }
    assert!(!said.stdout.contains("closed: "), "{}", said.stdout);
    assert!(
        !said.stdout.contains("timers.target.wants"),
        "{}",
        said.stdout
    );
    assert!(
        said.stdout.ends_with(
            "farewell check: 1 file; the sequence is empty: farewell run would do nothing; no problems\n"
        ),
        "{}",
        said.stdout
    );
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn links_of_the_installed_readme_lead_to_installed_files() {
    let said = in_a_root(
        "install >said; cd root/usr/share/doc/farewell
         links=$(grep -o '](\\([^)]*\\))' README.md | sed 's/^](//; s/)$//')
         for link in $links; do [ -e \"$link\" ] || echo \"dead: $link\"; done
         echo \"$links\" | grep -c '^manual/'; grep -c ']()' README.md || :",
    );
    assert_eq!(said.code, 0, "{said:?}");
    let pages = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"))
        .expect("README.md")
        .matches("](units/manual/")
        .count();
    assert_eq!(said.stdout, format!("{pages}\n0\n"));
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_second_time_changes_nothing_but_what_is_not_the_same() {
    let said = in_a_root(
        "mkdir drop-ins; echo >drop-ins/50-app.toml
         install --conf-dir drop-ins >said; grep -c installed said >/dev/null
         snapshot >before; install --conf-dir drop-ins; snapshot >after; cmp before after
         echo '# mine' >root/etc/farewell/farewell.toml
         chmod 600 root/usr/share/doc/farewell/README.md
         systemctl --quiet --root /mnt/root disable farewell.service
         install; cat root/etc/farewell/farewell.toml",
    );
    let told = "farewell check: 2 files; the sequence is empty: farewell run would do nothing; no problems\n";
    assert_eq!(
        (said.code, said.stdout.as_str(), said.stderr.as_str()),
        (
            0,
            format!(
                "everything is up to date: nothing was changed\n{told}\
                 installed /usr/share/doc/farewell/README.md\nenabled farewell.service\n{told}# mine\n"
            )
            .as_str(),
            ""
        )
    );
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_configuration_is_read_by_nobody_who_could_not_read_it_before() {
    let said = in_a_root(
        "mkdir drop-ins; echo >main.toml; for mode in 600 640 644 666; do echo >drop-ins/$mode.toml; chmod $mode drop-ins/$mode.toml; done
         for mode in 600 400 640 660 604 644; do
             chmod $mode main.toml; install --config main.toml --conf-dir drop-ins >said
             stat -c \"$mode %a\" root/etc/farewell/farewell.toml
         done
         stat -c '%n %a' root/etc/farewell/conf.d/*.toml",
    );
    let told = "600 600\n400 600\n640 640\n660 640\n604 644\n644 644\n\
                root/etc/farewell/conf.d/600.toml 600\nroot/etc/farewell/conf.d/640.toml 640\n\
                root/etc/farewell/conf.d/644.toml 644\nroot/etc/farewell/conf.d/666.toml 644\n";
    assert_eq!(
        (said.code, said.stdout.as_str(), said.stderr.as_str()),
        (0, told, "")
    );
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn the_licences_beside_the_program_are_installed_with_it() {
    let said = in_a_root(
        "there() { (cd root/usr/share/doc/farewell && cat third-party-licenses.txt 2>/dev/null) || echo none; }
         cp 'a release/farewell' . && install >said; there
         mkdir built; cp farewell built/; echo texts >built/third-party-licenses.txt
         install --binary built/farewell >said; there; stat -c %a root/usr/share/doc/farewell/third-party-licenses.txt
         install --binary farewell | head -n 1; there
         (cd built; install --binary farewell | head -n 1); there
         install --uninstall >said; [ ! -e root/usr/share/doc/farewell ] || echo left",
    );
    let place = "/usr/share/doc/farewell/third-party-licenses.txt";
    let told = format!("none\ntexts\n644\nremoved {place}\nnone\ninstalled {place}\ntexts\n");
    assert_eq!(
        (said.code, said.stdout.as_str(), said.stderr.as_str()),
        (0, told.as_str(), "")
    );
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn removal_leaves_the_configuration_and_the_records() {
    let said = in_a_root(
        "rm -rf root/etc/farewell root/var/lib/farewell; listed >before; mkdir drop-ins; echo >drop-ins/50-app.toml
         install --conf-dir drop-ins >said
         mkdir -p root/var/lib/farewell/runs; echo >root/var/lib/farewell/runs/1.jsonl
         systemctl --quiet --root /mnt/root enable farewell-rehearse.timer
         install --uninstall | tail -1; listed | comm -13 before -
         install --uninstall; listed | comm -13 before - | wc -l",
    );
    let last =
        "farewell is removed; /mnt/root/etc/farewell and /mnt/root/var/lib/farewell are kept\n";
    let left = "etc/farewell\netc/farewell/conf.d\netc/farewell/conf.d/50-app.toml\n\
                etc/farewell/farewell.toml\nvar/lib/farewell\nvar/lib/farewell/runs\nvar/lib/farewell/runs/1.jsonl\n";
    assert_eq!(
        (said.code, said.stdout.as_str(), said.stderr.as_str()),
        (0, format!("{last}{left}{last}7\n").as_str(), "")
    );
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_wrong_configuration_is_told_and_ends_with_78() {
    let said = in_a_root(
        "printf '[[step]]\\nname = \"a\"\\nkind = \"wiat\"\\nfor = \"1s\"\\n' >wrong.toml
         install --config wrong.toml >said",
    );
    assert_eq!(said.code, 78, "{said:?}");
    assert!(
        said.stderr.contains("/etc/farewell/farewell.toml:3") && said.stderr.contains("wait"),
        "{said:?}"
    );
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn what_is_missing_or_wrong_is_told_before_anything_is_changed() {
    for (arguments, code, told) in [
        ("--frobnicate", 64, "unknown argument '--frobnicate'; see "),
        ("--config", 64, "--config needs a value"),
        (
            "--binary nothing",
            66,
            "nothing is missing: it is the farewell binary",
        ),
        (
            "--config nothing",
            66,
            "nothing is missing: it is to become /etc/farewell/farewell.toml",
        ),
        (
            "--conf-dir nothing",
            66,
            "nothing/*.toml is missing: --conf-dir names a folder of drop-ins",
        ),
    ] {
        let said = in_a_root(&format!(
            "code=0; install {arguments} || code=$?; find /mnt/upper -mindepth 1; exit $code"
        ));
        assert_eq!((said.code, said.stdout.as_str()), (code, ""), "{said:?}");
        assert!(
            said.stderr.starts_with(&format!("install.sh: {told}")),
            "{said:?}"
        );
    }
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn in_the_image_itself_it_does_the_same_and_needs_systemd() {
    // Not mounted: whether this machine runs systemd is not to be seen from there.
    let said = in_a_root(
        "mkdir root/srv/release; cp -r '/mnt/a release/.' root/srv/release
         chroot root /srv/release/packer/install.sh | tail -1; ls root/usr/bin/farewell
         rm root/usr/bin/systemd-path; chroot root /srv/release/packer/install.sh",
    );
    assert_eq!(said.code, 69, "{said:?}");
    assert_eq!(
        said.stdout,
        "farewell check: 1 file; the sequence is empty: farewell run would do nothing; no problems\nroot/usr/bin/farewell\n"
    );
    assert_eq!(
        said.stderr,
        "install.sh: systemd-path does not know systemd-system-unit: farewell needs systemd 247 or later\n"
    );
}
