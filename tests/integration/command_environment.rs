//! What farewell has for itself, and a command does not: what systemd gives to it, its umask and its limit of core dumps.

use std::time::Duration;

use crate::support::binary::{Binary, Ended};
use crate::support::own_process::{again, is_inside, this_test};
use crate::support::scope::attempt;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn what_is_systemd_s_is_kept_from_it() {
    if is_inside(this_test!()) {
        let attempt = attempt("command", "argv = ['env']", SECOND * 10);
        return println!("{}", attempt.recorder.lines().join("\n"));
    }
    let output = again(this_test!(), &[])
        .env("NOTIFY_SOCKET", "/scrub")
        .env("WATCHDOG_USEC", "scrub")
        .env("WATCHDOG_PID", "scrub")
        .env("CREDENTIALS_DIRECTORY", "/scrub")
        .env("OTHER", "kept")
        .output()
        .expect("started");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("OTHER=kept"),
        "{text}"
    );
    assert!(!text.contains("scrub"), "{text}");
}

#[test]
fn commands_have_the_umask_of_a_service_and_the_core_limit_that_farewell_was_started_with() {
    let look = "umask; ulimit -S -c; ulimit -H -c; sed -n 's/^Umask:.//p' /proc/$PPID/status; \
                awk '/core file/ { print $5, $6 }' /proc/$PPID/limits";
    for (soft, hard, own) in [
        ("unlimited", "unlimited", "0 unlimited"),
        ("8", "16", "0 16384"),
        ("0", "0", "0 0"),
    ] {
        for umask in ["0077", "0027", "0000"] {
            let step = format!(
                "[[step]]\nname = \"look\"\nkind = \"command\"\nargv = [\"bash\", \"-c\", {look:?}]\n"
            );
            let binary = Binary::new("inherited", &step);
            let command = binary.command(&["run"]);
            let mut limited = std::process::Command::new("bash");
            let begin = format!(
                "umask {umask}; ulimit -S -c 0; ulimit -H -c {hard}; ulimit -S -c {soft}; exec \"$0\" \"$@\""
            );
            limited.arg("-c").arg(begin).arg(command.get_program());
            limited.args(command.get_args());
            for (key, value) in command.get_envs() {
                match value {
                    Some(value) => limited.env(key, value),
                    None => limited.env_remove(key),
                };
            }
            let said = Ended::of(&mut limited);
            assert_eq!(said.code, 0, "{said:?}");
            let lines = said.stderr.lines().chain(said.stdout.lines());
            let seen: Vec<&str> = lines
                .filter_map(|it| it.split_once("look | "))
                .map(|(_, line)| line)
                .collect();
            assert_eq!(seen, ["0022", soft, hard, "0077", own], "{said:?}");
        }
    }
}
