//! What is installed beside the binary: units that systemd takes without a word, and a catalog for every kind of entry.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::Dir;
use crate::support::binary::Ended;
use farewell::logging::message_id::{MESSAGES, Message};

fn units() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("units")
}

/// Runs a script in a mount namespace in which farewell is installed below /usr.
fn installed(script: &str) -> Ended {
    // A tmpfs over the parents, so that the mount points cost this machine nothing.
    let install = "set -e; source=$1; program=$2; \
        mount -t tmpfs none /mnt; mkdir /mnt/upper /mnt/work; \
        lib=/usr/lib/systemd; export unitdir=$lib/system generatordir=$lib/system-generators; \
        export presetdir=$lib/system-preset catalogdir=$lib/catalog DESTDIR=/mnt/stage; \
        \"$source/packer/install.sh\" --stage --binary \"$program\" >/dev/null; \
        mount -t overlay -o lowerdir=/usr,upperdir=/mnt/upper,workdir=/mnt/work none /usr; \
        cp -r /mnt/stage/usr/. /usr; ";
    Ended::of(
        Command::new("unshare")
            .args(["-m", "--propagation", "private", "sh", "-c"])
            .arg(format!("{install}{script}"))
            .arg("sh")
            .arg(env!("CARGO_MANIFEST_DIR"))
            .arg(env!("CARGO_BIN_EXE_farewell")),
    )
}

/// The names of the files in units/ with this extension.
fn names(extension: &str) -> Vec<String> {
    let entries = fs::read_dir(units()).expect("a directory");
    let names = entries.map(|it| it.expect("an entry").file_name().into_string());
    let mut names: Vec<String> = names.map(|it| it.expect("UTF-8")).collect();
    names.retain(|name| name.ends_with(extension));
    names.sort();
    names
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn systemd_finds_nothing_wrong_with_the_units() {
    let all = [names(".service"), names(".timer")].concat();
    assert_eq!(all.len(), 7, "{all:?}");
    for drop_in in ["", "strict.conf"] {
        let with = match drop_in {
            "" => String::new(),
            name => format!(
                "mkdir /usr/lib/systemd/system/farewell.service.d; \
                 cp /usr/share/doc/farewell/{name} /usr/lib/systemd/system/farewell.service.d/50-{name}; "
            ),
        };
        let said = installed(&format!(
            "{with}exec systemd-analyze verify {}",
            all.join(" ")
        ));
        let told = (said.code, said.stdout.as_str(), said.stderr.as_str());
        assert_eq!(told, (0, "", ""), "with {drop_in:?}");
    }
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_typo_in_a_unit_would_be_found() {
    let said = installed(
        "sed -i s/NotifyAccess=/NotifyAcess=/ /usr/lib/systemd/system/farewell.service; \
         exec systemd-analyze verify farewell.service",
    );
    assert!(said.stderr.contains("NotifyAcess"), "{said:?}");
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_manual_page_that_a_unit_names_and_that_is_not_there_would_be_found() {
    let said = installed(
        "rm /usr/share/man/man5/farewell.toml.5; exec systemd-analyze verify farewell.service",
    );
    assert!(said.stderr.contains("farewell.toml(5)"), "{said:?}");
}

#[test]
fn every_file_begins_with_what_it_is_for() {
    for name in [names(".service"), names(".timer"), names(".conf")].concat() {
        let text = fs::read_to_string(units().join(&name)).expect("a unit");
        assert!(
            text.starts_with(['#', '<']),
            "{name} begins with what it is for"
        );
    }
}

/// The catalog's entry for a kind of journal entries; see the catalog's format in journald's documentation.
fn explained(message: &Message) -> String {
    let run = "The whole run: farewell report @FAREWELL_RUN@\n";
    let more = match message.name.split('-').next() {
        Some("step" | "attempt") => {
            format!("Step @FAREWELL_STEP@ (@FAREWELL_KIND@), trigger @FAREWELL_TRIGGER@.\n{run}")
        }
        Some("run") if message.name != "run-skipped" && message.name != "run-refused" => {
            format!("Trigger @FAREWELL_TRIGGER@.\n{run}")
        }
        _ => String::new(),
    };
    let mut lines = vec![String::new()];
    for word in message.meaning.split(' ') {
        let last = lines.last_mut().expect("one line");
        if last.len() + word.len() > 76 {
            lines.push(word.to_owned());
        } else {
            last.push_str(if last.is_empty() { "" } else { " " });
            last.push_str(word);
        }
    }
    let subject = message.name.replace('-', " ");
    format!(
        "-- {}\nSubject: {subject}\nDefined-By: farewell\n\n{}\n{more}",
        message.id,
        lines.join("\n")
    )
}

#[test]
#[ignore = "needs systemd; tests/run has it"]
fn the_catalog_explains_every_kind_of_entry() {
    let path = units().join("farewell.catalog");
    let head = "# What `journalctl -x` says beside the entries of farewell; made from src/message.rs by\n\
                # FAREWELL_UPDATE_UNITS=1 cargo test --test integration units::\n\n";
    let entries: Vec<String> = MESSAGES.iter().map(|message| explained(message)).collect();
    let catalog = format!("{head}{}", entries.join("\n"));
    if std::env::var_os("FAREWELL_UPDATE_UNITS").is_some() {
        fs::write(&path, &catalog).expect("written");
    }
    let shipped = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(shipped, catalog, "FAREWELL_UPDATE_UNITS=1 makes it anew");

    let dir = Dir::new("catalog");
    let place = dir.0.join("usr/lib/systemd/catalog");
    fs::create_dir_all(&place).expect("made");
    fs::create_dir_all(dir.0.join("var/lib/systemd/catalog")).expect("made");
    fs::copy(&path, place.join("farewell.catalog")).expect("copied");
    let journalctl = |argument: &str| {
        let root = format!("--root={}", dir.0.display());
        Ended::of(Command::new("journalctl").args([root.as_str(), argument]))
    };
    let said = journalctl("--update-catalog");
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:?}");
    let listed = journalctl("--list-catalog");
    for message in MESSAGES {
        let line = format!(
            "{} farewell: {}",
            message.id,
            message.name.replace('-', " ")
        );
        assert!(listed.stdout.contains(&line), "{line}: {listed:?}");
    }
}

#[test]
fn the_sample_is_a_configuration_and_so_is_what_it_suggests() {
    let sample = fs::read_to_string(units().join("farewell.toml")).expect("the sample");
    // What is commented out, and looks like a line of TOML, without its mark.
    let suggested: Vec<&str> = sample
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with([' ', ':']) => rest,
            _ => line,
        })
        .collect();
    let dir = Dir::new("sample");
    for (text, told) in [
        (
            sample.clone(),
            "farewell check: 1 file; the sequence is empty: farewell run would do nothing; no problems\n",
        ),
        (
            suggested.join("\n"),
            "farewell check: 1 file; 3 steps; no problems\n",
        ),
    ] {
        let path = dir.file("farewell.toml");
        fs::write(&path, text).expect("written");
        let mut check = crate::support::binary::farewell();
        let said = Ended::of(check.args(["check", "--image", "--config", &path]));
        assert_eq!(
            (said.code, said.stdout.as_str(), said.stderr.as_str()),
            (0, told, "")
        );
    }
}

/// What `systemd-analyze security` thinks of a unit with these drop-ins: from 0 (none is exposed) to 10.
fn exposure(unit: &str, drop_ins: &[&str]) -> f64 {
    let dir = Dir::new("exposure");
    let place = dir.file(&format!("{unit}.d"));
    fs::create_dir(&place).expect("made");
    for name in drop_ins {
        fs::copy(units().join(name), format!("{place}/50-{name}")).expect("copied");
    }
    fs::copy(units().join(unit), dir.file(unit)).expect("copied");
    let said = Ended::of(
        Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager"])
            .arg(dir.file(unit)),
    );
    let line = said.stdout.lines().find(|it| it.contains("exposure level"));
    let figure = line.and_then(|it| it.split(&format!("for {unit}: ")).nth(1));
    let figure = figure.and_then(|it| it.split_whitespace().next()?.parse().ok());
    let figure = figure.unwrap_or_else(|| panic!("{said:?}"));
    println!("{unit} {drop_ins:?}: {figure}");
    figure
}

#[test]
#[ignore = "needs systemd; tests/run has it"]
fn what_runs_no_command_has_a_sandbox_and_commands_may_have_one() {
    for unit in ["start", "undo", "rehearse"] {
        let figure = exposure(&format!("farewell-{unit}.service"), &[]);
        assert!(figure <= 4.5, "{unit}: {figure}");
    }
    let open = exposure("farewell.service", &[]);
    assert!(open > 9.0, "commands are not held: {open}");
    let strict = exposure("farewell.service", &["strict.conf"]);
    assert!(strict <= 4.0, "{strict}");
}

/// The settings of a unit's section [Service], as `Key=value`.
fn settings(unit: &str) -> Vec<String> {
    let text = fs::read_to_string(units().join(unit)).expect("a unit");
    let (_, service) = text.split_once("[Service]\n").expect("a service");
    let lines = service.lines().take_while(|it| !it.starts_with('['));
    lines
        .filter(|it| it.contains('=') && !it.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

/// Settings that make a mount namespace; see systemd.exec(5).
const MOUNTS: [&str; 22] = [
    "BindPaths",
    "BindReadOnlyPaths",
    "DynamicUser",
    "InaccessiblePaths",
    "MountAPIVFS",
    "NoExecPaths",
    "PrivateDevices",
    "PrivateIPC",
    "PrivateMounts",
    "PrivateTmp",
    "ProcSubset",
    "ProtectControlGroups",
    "ProtectHome",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "ProtectProc",
    "ProtectSystem",
    "ReadOnlyPaths",
    "ReadWritePaths",
    "RootDirectory",
    "TemporaryFileSystem",
];

#[test]
fn no_unit_has_a_mount_namespace_or_a_directory_that_keeps_it_from_running() {
    for unit in names(".service") {
        for setting in settings(&unit) {
            let (key, _) = setting.split_once('=').expect("a setting");
            let wrong = MOUNTS.contains(&key) || key.ends_with("Directory");
            assert!(!wrong, "{unit}: {setting}");
        }
    }
}

#[test]
fn the_retry_of_an_undo_is_held_as_the_start_is() {
    let sandbox = |unit: &str| -> Vec<String> {
        let all = settings(unit);
        let from = all.iter().position(|it| it.starts_with("UMask="));
        all[from.expect("a sandbox")..].to_vec()
    };
    let start = sandbox("farewell-start.service");
    assert_eq!(start, sandbox("farewell-undo.service"));
    assert!(start.contains(&"LimitCORE=0".to_owned()), "{start:?}");
    assert!(start.contains(&"UMask=0077".to_owned()), "{start:?}");
}
