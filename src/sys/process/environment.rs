//! The environment of a child.

use std::env;
use std::ffi::OsString;
use std::process::Command;

/// Variables that a child must not inherit: with the socket, systemctl and other programs would report their own status
/// for the unit; the watchdog is the unit's; and credentials are passed one by one, through the step's `environment`.
const KEPT_FROM_CHILDREN: [&str; 4] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "CREDENTIALS_DIRECTORY",
];

/// The C library's default for `$PATH`.
const SEARCH: &str = "/bin:/usr/bin";

/// The prefix of the variables that a child of another user inherits, beside `PATH` and `LANG`.
const OURS: &str = "FAREWELL_";

/// A child's `$PATH`.
pub(super) fn search() -> OsString {
    env::var_os("PATH").unwrap_or_else(|| SEARCH.into())
}

/// Gives `command` this process' environment.
pub(super) fn pass_on(command: &mut Command) {
    command
        .envs(env::vars_os().filter(|(name, _)| !KEPT_FROM_CHILDREN.iter().any(|it| name == it)));
}

/// Gives `command` a fresh environment: `PATH`, `LANG` and `FAREWELL_…`. The rest belongs to root, and may be secret.
pub(super) fn begin_anew(command: &mut Command) {
    let kept =
        |name: &OsString| name == "LANG" || name.as_encoded_bytes().starts_with(OURS.as_bytes());
    command.env("PATH", search());
    command.envs(env::vars_os().filter(|(name, _)| kept(name)));
}
