//! Whether the package that farewell came in is being installed, upgraded or removed; see dpkg-query(1).

use std::path::Path;
use std::time::Duration;

use super::cancel::Cancel;
use super::file_lock;
use super::process::{End, Process};
use crate::model::deadline::Deadline;
use crate::model::event::Stream;

const PACKAGE: &str = "farewell";

/// The lock that dpkg holds while it works.
const DPKG_LOCK: &str = "/var/lib/dpkg/lock";

/// The package's state in dpkg's words ("deinstall half-configured") while dpkg changes it; else `None`.
///
/// While dpkg works on a package, the package is in an intermediate state, in which an administrator's own stop never
/// finds it; the lock distinguishes this from a package that was left half-configured long ago.
pub fn change_under_way(deadline: Deadline) -> Option<String> {
    if !file_lock::is_record_locked(Path::new(DPKG_LOCK)) {
        return None;
    }
    let argv = [
        "dpkg-query",
        "-W",
        "-f=${db:Status-Want} ${db:Status-Status}\\n",
        PACKAGE,
    ];
    let process = Process {
        argv: argv.map(str::to_owned).to_vec(),
        user: None,
        working_directory: None,
        environment: Vec::new(),
        grace: Duration::ZERO,
        no_new_privileges: false,
        leave_behind: false,
    };
    let mut status = String::new();
    let mut hear = |stream, line: &str| {
        if stream == Stream::Out {
            status = line.to_owned();
        }
    };
    let cancel = Cancel::new().ok()?;
    let outcome = process.run(deadline, &cancel, &mut hear).ok()?;
    let is_known = outcome.end == End::Exited(0);
    (is_known && is_between(&status)).then_some(status)
}

fn is_between(status: &str) -> bool {
    let state = status.split_once(' ').map_or("", |(_, state)| state);
    matches!(state, "half-installed" | "half-configured" | "unpacked")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_administrator_s_stop_is_none() {
        for (status, between) in [
            ("install installed", false),
            ("hold installed", false),
            ("install half-configured", true),
            ("install half-installed", true),
            ("deinstall half-configured", true),
            ("deinstall config-files", false),
            ("", false),
        ] {
            assert_eq!(is_between(status), between, "{status}");
        }
    }
}
