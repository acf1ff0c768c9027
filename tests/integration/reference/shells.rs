//! That shells complete.

use std::process::Command;

use super::tree::{place, read};
use crate::support::Dir;
use crate::support::binary::Ended;

/// What bash offers for the last of these words.
fn completed(words: &[&str]) -> Vec<String> {
    let script = "source \"$1\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); \
        function=$(complete -p farewell | sed 's/.*-F \\([^ ]*\\).*/\\1/'); \
        \"$function\" farewell \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD-1]}\"; \
        printf '%s\\n' \"${COMPREPLY[@]}\"";
    let file = place("units/completions/farewell.bash");
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", script, "bash"])
        .arg(file)
        .args(words);
    let said = Ended::of(&mut bash);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{words:?}");
    said.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_verbs_options_and_triggers() {
    assert_eq!(completed(&["farewell", "ru"]), ["run"]);
    assert_eq!(completed(&["farewell", "check", "--im"]), ["--image"]);
    let triggers = [
        "poweroff",
        "halt",
        "reboot",
        "kexec",
        "soft-reboot",
        "stop",
        "restart",
    ];
    assert_eq!(completed(&["farewell", "run", "--trigger", ""]), triggers);
    assert_eq!(
        completed(&["farewell", "run", "--trigger", "ke"]),
        ["kexec"]
    );
}

#[test]
#[ignore = "needs fish and zsh; tests/run has it"]
fn fish_and_zsh_read_their_completions() {
    let fish =
        "source $argv[1]; complete -C 'farewell ru'; complete -C 'farewell run --trigger ke'";
    let file = place("units/completions/farewell.fish");
    let home = Dir::new("reference-fish");
    let mut command = Command::new("fish");
    command
        .args(["--no-config", "-c", fish])
        .arg(file)
        .env("HOME", &home.0);
    let said = Ended::of(&mut command);
    assert_eq!(said.stderr, "");
    let words: Vec<&str> = said
        .stdout
        .lines()
        .filter_map(|line| line.split('\t').next())
        .collect();
    assert_eq!(words, ["run", "kexec"], "{said:?}");
    let said = Ended::of(
        Command::new("zsh")
            .arg("-n")
            .arg(place("units/completions/_farewell")),
    );
    assert_eq!((said.code, said.stderr.as_str()), (0, ""));
    assert!(read("units/completions/_farewell").starts_with("#compdef farewell\n"));
}
