//! Versions of systemd.

/// The oldest supported version.
pub const OLDEST: u32 = 247;

/// The number of a version as PID 1 and packages write it: 247 for `247.3-7+deb11u7`, 257 for `257~rc1`, 252 for `v252`.
/// `None` where there is no number in front.
pub fn number(version: &str) -> Option<u32> {
    let version = version.trim();
    let version = version.strip_prefix('v').unwrap_or(version);
    let end = version.find(|it: char| !it.is_ascii_digit());
    version[..end.unwrap_or(version.len())].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_their_number() {
        for (version, expected) in [
            ("247.3-7+deb11u7", Some(247)),
            ("249.11-0ubuntu3.12", Some(249)),
            ("252.38-1~deb12u1", Some(252)),
            ("v252", Some(252)),
            ("257~rc1", Some(257)),
            ("257-rc1", Some(257)),
            ("256", Some(256)),
            ("v255.4-1.fc40", Some(255)),
            (" 250.3\n", Some(250)),
            ("", None),
            ("v", None),
            ("main", None),
            ("99999999999", None),
        ] {
            assert_eq!(number(version), expected, "{version}");
        }
    }
}
