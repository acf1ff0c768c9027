//! What systemd gives to farewell, and a command must not see.

mod support;

use std::time::Duration;

use support::scope::attempt;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn what_is_systemd_s_is_kept_from_it() {
    // In a process of its own, since the environment is everybody's.
    let output = std::process::Command::new(std::env::current_exe().expect("a path"))
        .args([
            "--exact",
            "prints_its_environment",
            "--ignored",
            "--nocapture",
        ])
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
#[ignore = "started by what_is_systemd_s_is_kept_from_it"]
fn prints_its_environment() {
    println!(
        "{}",
        attempt("command", "argv = ['env']", SECOND * 10)
            .told
            .text()
    );
}
