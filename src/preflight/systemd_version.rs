//! Checks the version of this machine's systemd against the oldest supported one.

use super::{Finding, Inspection};
use crate::sys::systemd::{OLDEST, version_number};

/// Reports a systemd that is too old; a version without a number is only a remark.
pub(super) fn judge(version: &str, inspection: &mut Inspection) {
    match version_number(version) {
        Some(number) if number >= OLDEST => {}
        Some(number) => {
            let version = if version == number.to_string() {
                String::new()
            } else {
                format!(" ({version})")
            };
            let message = format!(
                "this machine runs systemd {number}{version}, and farewell needs systemd {OLDEST} or later: its farewell \
                 may not take place; upgrade the system"
            );
            inspection.findings.push(Finding {
                message,
                is_stale: false,
            });
        }
        None => inspection.remarks.push(format!(
            "systemd's version {version:?} has no number: farewell needs {OLDEST} or later"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_systemd_is_found() {
        let judged = |version: &str| {
            let mut inspection = Inspection::default();
            judge(version, &mut inspection);
            inspection
        };
        for version in ["247", "247.3-7+deb11u7", "257~rc1", "v252"] {
            assert_eq!(judged(version), Inspection::default(), "{version}");
        }
        for (version, expected) in [
            ("245.4-4ubuntu3.24", "systemd 245 (245.4-4ubuntu3.24), and"),
            ("241", "systemd 241, and"),
        ] {
            let inspection = judged(version);
            let [finding] = &inspection.findings[..] else {
                panic!("{inspection:?}");
            };
            assert!(finding.message.contains(expected), "{}", finding.message);
        }
        let unknown = judged("main");
        assert!(unknown.findings.is_empty() && unknown.remarks.len() == 1);
    }
}
