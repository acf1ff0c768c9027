//! What `farewell check` says of every file in `tests/integration/configuration`, word for word.
//!
//! Beside each `NAME.toml` lies `NAME.expected`: the exit code in its first line, then what is told. With
//! `FAREWELL_TESTS_WRITE=1` the expected files are written anew; read them before they are committed.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::support::Dir;
use crate::support::binary::{Ended, farewell};

fn place() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/configuration")
}

fn check(directory: &Path, file: &str) -> Ended {
    Ended::of(
        farewell()
            .current_dir(directory)
            .args(["check", "--config", file]),
    )
}

/// The names of the files with this extension, without it.
fn names(extension: &str) -> BTreeSet<String> {
    fs::read_dir(place())
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|it| it == extension))
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect()
}

#[test]
fn every_file_is_told_what_is_wrong_with_it() {
    let write = std::env::var_os("FAREWELL_TESTS_WRITE").is_some();
    let mut wrong = Vec::new();
    let files = names("toml");
    assert!(files.len() > 30, "{files:?}");
    for name in &files {
        let said = check(&place(), &format!("{name}.toml"));
        let told = format!("exit {}\n{}{}", said.code, said.stderr, said.stdout);
        let path = place().join(format!("{name}.expected"));
        if write {
            fs::write(&path, &told).expect("written");
        }
        let expected = fs::read_to_string(&path).unwrap_or_else(|error| format!("({error})\n"));
        if told != expected {
            wrong.push(format!(
                "{name}.toml\n--- expected\n{expected}--- told\n{told}"
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "FAREWELL_TESTS_WRITE=1 writes the expected files anew\n{}",
        wrong.join("\n")
    );
    let alone: Vec<_> = names("expected").difference(&files).cloned().collect();
    assert!(
        alone.is_empty(),
        "expected files without their TOML: {alone:?}"
    );
}

#[test]
fn no_secret_is_repeated() {
    for name in names("expected") {
        let path = place().join(format!("{name}.expected"));
        let text = fs::read_to_string(&path).expect("readable");
        assert!(!text.contains("hunter2"), "{name}: {text}");
    }
}

#[test]
fn what_is_no_readable_file_is_named() {
    let dir = Dir::new("unreadable");
    fs::write(dir.file("huge.toml"), "#".repeat((1 << 20) + 1)).expect("written");
    fs::write(dir.file("large.toml"), "#".repeat(1 << 20)).expect("written");
    fs::create_dir(dir.file("directory.toml")).expect("made");
    for (file, cause) in [
        ("huge.toml", "larger than 1 MiB"),
        ("directory.toml", "Is a directory (os error 21)"),
        ("none.toml", "No such file or directory (os error 2)"),
    ] {
        let said = check(&dir.0, file);
        assert_eq!(said.code, 78, "{said:?}");
        assert_eq!(said.stderr, format!("{file}: cannot be read: {cause}\n"));
    }
    assert_eq!(check(&dir.0, "large.toml").code, 0);
}

#[test]
fn a_credential_that_others_can_read_is_refused() {
    let dir = Dir::new("credential");
    let step = "[[step]]\nname = \"a\"\nkind = \"http\"\nurl = \"http://127.0.0.1:1/\"\nuser = \"u\"\n\
                password = \"${credential:token}\"\n";
    fs::write(dir.file("a.toml"), step).expect("written");
    fs::write(dir.file("token"), "hunter2-and-more\n").expect("written");
    let check_with = |mode| {
        fs::set_permissions(dir.file("token"), fs::Permissions::from_mode(mode)).expect("set");
        Ended::of(
            farewell()
                .current_dir(&dir.0)
                .env("CREDENTIALS_DIRECTORY", &dir.0)
                .args(["check", "--config", "a.toml"]),
        )
    };
    let said = check_with(0o644);
    let place = dir.file("token");
    let refused = format!("{place} can be read by others (mode 0644): chmod 600 {place}");
    assert_eq!(
        said.stderr,
        format!(
            "a.toml:6: step \"a\": key \"password\": ${{credential:token}} is not available: {refused}\n"
        )
    );
    assert_eq!(said.code, 78);
    let said = check_with(0o600);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:?}");
}

#[test]
fn an_escape_that_looks_like_one_of_a_unit_name_is_warned_of() {
    // Not among the files: other readers of TOML do not know this escape yet.
    let dir = Dir::new("escapes");
    let text = "[[step]]\nname = \"stop\"\nkind = \"stop-unit\"\n\
                units = [\"machine-qemu\\x2d1.scope\", 'machine-qemu\\x2d2.scope']\n";
    fs::write(dir.file("a.toml"), text).expect("written");
    let said = check(&dir.0, "a.toml");
    assert_eq!(said.code, 0, "{said:?}");
    let warning = "a.toml:4: warning: in double quotes `\\x2d` is an escape for one character; where a backslash is \
                   meant, as in the name of a systemd unit, write the string in single quotes\n";
    assert_eq!(said.stderr, warning);
}

#[test]
fn the_quick_start_has_no_problems() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("units");
    let said = Ended::of(farewell().current_dir(units).args([
        "check",
        "--image",
        "--config",
        "quickstart.toml",
    ]));
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:?}");
}
