//! No secret in anything that the binary writes, sends or shows, wherever it came from and whoever repeats it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use crate::support::binary::Binary;
use crate::support::own_process::{in_own_namespace, this_test};
use crate::support::scene::{IN_URL, LITERAL, Scene, clean};
use crate::support::stand_in::StandIn;

#[test]
fn no_secret_is_in_anything_that_a_run_leaves() {
    let scene = Scene::new("secrets");
    let binary = Binary::new("secrets-run", &scene.config);
    scene.plays(&binary, scene.command(&binary));
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn no_secret_goes_to_the_journal() {
    in_own_namespace(this_test!(), goes_to_the_journal);
}

fn goes_to_the_journal() {
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "tmpfs", "/run"])
        .status();
    assert!(mounted.expect("mount").success());
    fs::create_dir_all("/run/systemd/journal").expect("a directory");
    let scene = Scene::new("secrets-journal");
    let journal = StandIn::at(Path::new("/run/systemd/journal/socket"));
    let binary = Binary::new("secrets-journal-run", &scene.config);
    let mut command = scene.command(&binary);
    let log = fs::metadata(scene.dir.file("stderr")).expect("a file");
    command.env("JOURNAL_STREAM", format!("{}:{}", log.dev(), log.ino()));
    scene.plays(&binary, command);
    let heard = journal.heard();
    let text = String::from_utf8_lossy(&heard);
    assert!(
        text.contains("FAREWELL_STEP=child")
            && text.contains("FAREWELL_ERROR=tls")
            && text.contains("********")
    );
    clean("the journal", &heard);
}

#[test]
fn check_repeats_no_password_of_a_wrong_configuration() {
    let binary = Binary::new("secrets-check", "");
    let head = "[[step]]\nname = \"s\"\nkind = \"http\"\n";
    let url = "url = \"http://127.0.0.1:1/\"\nuser = \"joe\"\n";
    let number = "982451653987654321098765";
    for wrong in [
        format!("{head}{url}password = '{LITERAL}"),
        format!("{head}{url}password = {LITERAL}"),
        format!("{head}{url}password = ['{LITERAL}']"),
        format!("{head}{url}password = '{LITERAL}'\npassword = '{LITERAL}'"),
        format!("{head}{url}pasword = '{LITERAL}'"),
        format!("{head}{url}password = '{}'", LITERAL.replace("$${", "${")),
        format!("{head}{url}password = {number}"),
        format!(
            "{head}{url}password = '{LITERAL}'\nheaders = {{ Authorization = '{LITERAL}\u{7f}' }}"
        ),
        format!("{head}{url}password = '{LITERAL}'\nheaders = 'X-Token: {LITERAL}'"),
        format!("{head}{url}password = '{LITERAL}'\nuser = 'joe:{LITERAL}'"),
        format!("{head}url = 'http://joe:{IN_URL}@127.0.0.1:1/'"),
        format!(
            "{head}url = 'http://joe:{}@127.0.0.1:1/'",
            IN_URL.replace('/', "-")
        ),
    ] {
        binary.configure(&wrong);
        for verb in [&["check"][..], &["plan"], &["run"]] {
            let ended = binary.verb(verb);
            let said = format!("{}{}", ended.stdout, ended.stderr);
            assert_eq!(ended.code, 78, "{verb:?}: {wrong}\n{said}");
            clean(&wrong, said.as_bytes());
            assert!(
                !said.contains(number) && !said.contains("Dg3-Sk9"),
                "{said}"
            );
        }
    }
}
