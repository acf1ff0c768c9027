//! The environment that a child begins with.

use std::env;
use std::ffi::OsString;
use std::process::Command;

/// What a child must not inherit: systemctl and other children of systemd report their own errors and status for the
/// unit where they find the socket, a watchdog's time is the unit's, and credentials are handed on one by one, through
/// the step's `environment`.
const KEPT_FROM_CHILDREN: [&str; 4] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "CREDENTIALS_DIRECTORY",
];

/// What the C library takes where there is no `$PATH`.
const SEARCH: &str = "/bin:/usr/bin";

/// What a child of another user gets of the environment of this process beside `PATH`: the language, and what begins like
/// this.
const OURS: &str = "FAREWELL_";

/// The `$PATH` that a child begins with.
pub(super) fn search() -> OsString {
    env::var_os("PATH").unwrap_or_else(|| SEARCH.into())
}

/// Gives `command` the environment of this process.
pub(super) fn pass_on(command: &mut Command) {
    command
        .envs(env::vars_os().filter(|(name, _)| !KEPT_FROM_CHILDREN.iter().any(|it| name == it)));
}

/// Gives `command` what a fresh environment begins with: `PATH`, `LANG` and `FAREWELL_…`. What else this process has in its
/// own is root's, and may be secret.
pub(super) fn begin_anew(command: &mut Command) {
    let kept =
        |name: &OsString| name == "LANG" || name.as_encoded_bytes().starts_with(OURS.as_bytes());
    command.env("PATH", search());
    command.envs(env::vars_os().filter(|(name, _)| kept(name)));
}
