//! A unit, as systemd has it loaded.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use zbus::OwnedVariant;

/// The properties of a unit that farewell looks at; see org.freedesktop.systemd1(5). What a unit does not have is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// Its name, where it was asked for under an alias.
    pub id: String,
    /// All its names.
    pub names: Vec<String>,
    /// `LoadState`: loaded, not-found, masked …
    pub load: String,
    /// `ActiveState`: active, inactive, deactivating …
    pub active: String,
    /// `SubState`: running, dead, stop-sigterm …
    pub sub: String,
    /// `Result` of a service: success, timeout, exit-code …
    pub result: String,
    /// `TriggeredBy`: the sockets, timers and paths that start it.
    pub triggered_by: Vec<String>,
    /// `After`: what it is ordered after.
    pub after: Vec<String>,
    /// `Conflicts`: what ends it when it starts, `shutdown.target` among them for what a shutdown stops.
    pub conflicts: Vec<String>,
    /// `StateChangeTimestamp`: since when it is in its state.
    pub since: Option<SystemTime>,
    /// `TimeoutStopUSec` of a service; `None` where it is infinite, or the unit has none.
    pub stop_timeout: Option<Duration>,
    /// `NotifyAccess` of a service: none, main, exec, all.
    pub notify_access: String,
    /// `NRestarts` of a service.
    pub restarts: u32,
}

/// What a unit does, in a word, its `ActiveState`: active, inactive, deactivating …
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activity(pub String);

impl Activity {
    /// Whether nothing of the unit runs, and nothing is about to.
    pub fn is_down(&self) -> bool {
        is_down(&self.0)
    }
}

fn is_down(active: &str) -> bool {
    matches!(active, "inactive" | "failed")
}

impl Unit {
    pub(super) fn of(mut values: HashMap<String, OwnedVariant>) -> Unit {
        fn take<T: TryFrom<OwnedVariant>>(
            values: &mut HashMap<String, OwnedVariant>,
            name: &str,
        ) -> Option<T> {
            values
                .remove(name)
                .and_then(|value| T::try_from(value).ok())
        }
        let values = &mut values;
        let since: Option<u64> = take(values, "StateChangeTimestamp");
        let stop_timeout: Option<u64> = take(values, "TimeoutStopUSec");
        Unit {
            id: take(values, "Id").unwrap_or_default(),
            names: take(values, "Names").unwrap_or_default(),
            load: take(values, "LoadState").unwrap_or_default(),
            active: take(values, "ActiveState").unwrap_or_default(),
            sub: take(values, "SubState").unwrap_or_default(),
            result: take(values, "Result").unwrap_or_default(),
            triggered_by: take(values, "TriggeredBy").unwrap_or_default(),
            after: take(values, "After").unwrap_or_default(),
            conflicts: take(values, "Conflicts").unwrap_or_default(),
            since: since
                .filter(|usec| *usec > 0)
                .map(|usec| SystemTime::UNIX_EPOCH + Duration::from_micros(usec)),
            // systemd writes "for ever" as the largest number.
            stop_timeout: stop_timeout
                .filter(|usec| *usec < u64::MAX)
                .map(Duration::from_micros),
            notify_access: take(values, "NotifyAccess").unwrap_or_default(),
            restarts: take(values, "NRestarts").unwrap_or_default(),
        }
    }

    /// Whether systemd knows a unit of this name.
    pub fn exists(&self) -> bool {
        !matches!(self.load.as_str(), "not-found" | "")
    }

    /// Whether nothing of it runs, and nothing is about to.
    pub fn is_down(&self) -> bool {
        is_down(&self.active)
    }
}

/// The name that a unit of `suffix` has for `path`: `/mnt/shared` is `mnt-shared.mount`; see systemd.unit(5), "String
/// escaping for inclusion in unit names".
pub fn escape_path(path: &Path, suffix: &str) -> String {
    let bytes = path.as_os_str().as_bytes();
    let parts: Vec<&[u8]> = bytes
        .split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .collect();
    if parts.is_empty() {
        return format!("-.{suffix}");
    }
    let mut name = String::new();
    for (at, byte) in parts.join(&b'/').into_iter().enumerate() {
        match byte {
            b'/' => name.push('-'),
            b'.' if at > 0 => name.push('.'),
            b':' | b'_' => name.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => name.push(char::from(byte)),
            byte => name += &format!("\\x{byte:02x}"),
        }
    }
    format!("{name}.{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_names_of_units() {
        // As `systemd-escape --path --suffix=mount` prints them.
        for (path, name) in [
            ("/", "-.mount"),
            ("/mnt/shared", "mnt-shared.mount"),
            ("/mnt//shared/", "mnt-shared.mount"),
            ("/mnt/a-b/c d", "mnt-a\\x2db-c\\x20d.mount"),
            ("/.hidden/x.y", "\\x2ehidden-x.y.mount"),
            ("/mnt/ü", "mnt-\\xc3\\xbc.mount"),
        ] {
            assert_eq!(escape_path(Path::new(path), "mount"), name);
        }
    }
}
