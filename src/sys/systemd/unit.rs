//! A unit as systemd has it loaded.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use zbus::OwnedVariant;

/// The state of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitState {
    /// The name under which it was requested.
    pub name: String,
    /// Its own name, even if it was requested by an alias.
    pub id: String,
    /// `ActiveState`.
    pub active: String,
    /// `SubState`.
    pub sub: String,
    /// The type of its queued job: start, stop, restart …; empty if there is none.
    pub job: String,
}

impl UnitState {
    /// As [`Unit::is_down`].
    pub fn is_down(&self) -> bool {
        is_down(&self.active)
    }

    /// Whether a queued job will start it. A stop job never does, and a shutdown queues one for every active unit.
    pub fn is_to_start(&self) -> bool {
        ["start", "restart", "try-restart", "reload-or-start"].contains(&self.job.as_str())
    }
}

fn is_down(active: &str) -> bool {
    matches!(active, "inactive" | "failed")
}

/// The properties of a unit that farewell uses; see org.freedesktop.systemd1(5). Those that a unit does not have are
/// empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// Its own name, even if it was requested by an alias.
    pub id: String,
    pub names: Vec<String>,
    /// `LoadState`: loaded, not-found, masked …
    pub load: String,
    /// `ActiveState`: active, inactive, deactivating …
    pub active: String,
    /// `SubState`: running, dead, stop-sigterm …
    pub sub: String,
    /// `Result` of a service: success, timeout, exit-code …
    pub result: String,
    /// `TriggeredBy`: the sockets, timers, paths and automounts that start it.
    pub triggered_by: Vec<String>,
    /// `Triggers`: what it starts, such as the service of a socket, timer or path.
    pub triggers: Vec<String>,
    /// `Requires`: what is started with it, and whose stop stops it.
    pub requires: Vec<String>,
    /// `Wants`: what is started with it.
    pub wants: Vec<String>,
    /// `UpheldBy`: what starts it again while active itself (since systemd 249).
    pub upheld_by: Vec<String>,
    /// `WantedBy`: what has Wants= on it.
    pub wanted_by: Vec<String>,
    /// `RequiredBy`: what has Requires= on it, the members of a slice among them.
    pub required_by: Vec<String>,
    /// `RequisiteOf`: what has Requisite= on it.
    pub requisite_of: Vec<String>,
    /// `BoundBy`: what has BindsTo= on it.
    pub bound_by: Vec<String>,
    /// `ConsistsOf`: what has PartOf= on it.
    pub consists_of: Vec<String>,
    /// `PropagatesStopTo`: what is stopped with it (since systemd 249).
    pub propagates_stop_to: Vec<String>,
    /// `After`: what it is ordered after.
    pub after: Vec<String>,
    /// `Before`: what is ordered after it.
    pub before: Vec<String>,
    /// `Conflicts`: what stops it by starting; `shutdown.target` for units that a shutdown stops.
    pub conflicts: Vec<String>,
    /// `StateChangeTimestamp`: when it entered its state.
    pub since: Option<SystemTime>,
    /// `TimeoutStopUSec` of a service or scope, `TimeoutUSec` of a socket, mount or swap; `None` if it is infinite or
    /// missing.
    pub stop_timeout: Option<Duration>,
    /// `Transient`: it was created at run time, and is gone after a reboot.
    pub is_transient: bool,
    /// Whether its conditions (`Condition…=`) were not met at the last start.
    pub is_condition_unmet: bool,
    /// Whether its `Type` is oneshot.
    pub is_oneshot: bool,
    /// Whether it was started in this boot, as far as systemd remembers.
    pub has_run: bool,
    /// `NotifyAccess` of a service: none, main, exec, all.
    pub notify_access: String,
    /// `Perpetual`: systemd never stops it.
    pub is_perpetual: bool,
    /// `RefuseManualStop`: systemd stops it only because of a dependency.
    pub refuses_stop: bool,
    /// `FragmentPath`: its unit file.
    pub fragment: String,
    /// `DropInPaths`: the files that add to it.
    pub drop_ins: Vec<String>,
    /// `Slice`: its slice; empty for a unit without processes.
    pub slice: String,
    /// `ControlGroup`: its control group's path from the root of the hierarchy; empty if it has none now.
    pub control_group: String,
    /// `KillMode`: control-group, mixed, process, none; empty for a unit without processes.
    pub kill_mode: String,
    /// Whether `SendSIGKILL` is off: processes that survive SIGTERM are left behind.
    pub spares_survivors: bool,
    /// `MainPID` of a service; 0 if it has none now.
    pub main_pid: u32,
    /// `Where` of a mount.
    pub mount_point: String,
    /// `ExecMainStatus` of a service: the exit status of its last `ExecStart=`.
    pub status: i32,
    /// `UnitFileState`: enabled, disabled, static …
    pub file_state: String,
}

/// The types of units that have processes, and their D-Bus interfaces.
const WITH_PROCESSES: [(&str, &str); 6] = [
    ("service", "org.freedesktop.systemd1.Service"),
    ("scope", "org.freedesktop.systemd1.Scope"),
    ("socket", "org.freedesktop.systemd1.Socket"),
    ("mount", "org.freedesktop.systemd1.Mount"),
    ("swap", "org.freedesktop.systemd1.Swap"),
    ("slice", "org.freedesktop.systemd1.Slice"),
];

/// The interface of `name`'s type, for types that have processes.
pub(super) fn own_interface(name: &str) -> Option<&'static str> {
    let (_, suffix) = name.rsplit_once('.')?;
    let found = WITH_PROCESSES.iter().find(|(it, _)| *it == suffix)?;
    Some(found.1)
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
        let condition_looked_at: u64 = take(values, "ConditionTimestamp").unwrap_or_default();
        let is_condition_met: bool = take(values, "ConditionResult").unwrap_or_default();
        let last_started: u64 = take(values, "InactiveExitTimestamp").unwrap_or_default();
        let timeout: Option<u64> = take(values, "TimeoutUSec");
        let sends_sigkill: Option<bool> = take(values, "SendSIGKILL");
        Unit {
            id: take(values, "Id").unwrap_or_default(),
            names: take(values, "Names").unwrap_or_default(),
            load: take(values, "LoadState").unwrap_or_default(),
            active: take(values, "ActiveState").unwrap_or_default(),
            sub: take(values, "SubState").unwrap_or_default(),
            result: take(values, "Result").unwrap_or_default(),
            triggered_by: take(values, "TriggeredBy").unwrap_or_default(),
            triggers: take(values, "Triggers").unwrap_or_default(),
            requires: take(values, "Requires").unwrap_or_default(),
            wants: take(values, "Wants").unwrap_or_default(),
            upheld_by: take(values, "UpheldBy").unwrap_or_default(),
            wanted_by: take(values, "WantedBy").unwrap_or_default(),
            required_by: take(values, "RequiredBy").unwrap_or_default(),
            requisite_of: take(values, "RequisiteOf").unwrap_or_default(),
            bound_by: take(values, "BoundBy").unwrap_or_default(),
            consists_of: take(values, "ConsistsOf").unwrap_or_default(),
            propagates_stop_to: take(values, "PropagatesStopTo").unwrap_or_default(),
            after: take(values, "After").unwrap_or_default(),
            before: take(values, "Before").unwrap_or_default(),
            conflicts: take(values, "Conflicts").unwrap_or_default(),
            since: since
                .filter(|usec| *usec > 0)
                .map(|usec| SystemTime::UNIX_EPOCH + Duration::from_micros(usec)),
            // systemd writes "for ever" as the largest number.
            stop_timeout: stop_timeout
                .or(timeout)
                .filter(|usec| *usec < u64::MAX)
                .map(Duration::from_micros),
            file_state: take(values, "UnitFileState").unwrap_or_default(),
            is_transient: take(values, "Transient").unwrap_or_default(),
            is_condition_unmet: condition_looked_at > 0 && !is_condition_met,
            is_oneshot: take::<String>(values, "Type").is_some_and(|it| it == "oneshot"),
            has_run: last_started > 0,
            notify_access: take(values, "NotifyAccess").unwrap_or_default(),
            is_perpetual: take(values, "Perpetual").unwrap_or_default(),
            refuses_stop: take(values, "RefuseManualStop").unwrap_or_default(),
            fragment: take(values, "FragmentPath").unwrap_or_default(),
            drop_ins: take(values, "DropInPaths").unwrap_or_default(),
            slice: take(values, "Slice").unwrap_or_default(),
            control_group: take(values, "ControlGroup").unwrap_or_default(),
            kill_mode: take(values, "KillMode").unwrap_or_default(),
            spares_survivors: sends_sigkill == Some(false),
            main_pid: take(values, "MainPID").unwrap_or_default(),
            mount_point: take(values, "Where").unwrap_or_default(),
            status: take(values, "ExecMainStatus").unwrap_or_default(),
        }
    }

    /// Whether systemd knows a unit of this name. A running unit exists even if its file is gone.
    pub fn exists(&self) -> bool {
        let is_loaded = !matches!(self.load.as_str(), "not-found" | "");
        is_loaded || !matches!(self.active.as_str(), "inactive" | "")
    }

    /// Whether its own settings let processes outlive its stop.
    pub fn lets_processes_stay(&self) -> bool {
        self.spares_survivors || matches!(self.kill_mode.as_str(), "process" | "none")
    }

    /// The setting that decides which of its processes outlive its stop: `KillMode=process`; empty for a unit without
    /// processes.
    pub fn kill_setting(&self) -> String {
        match self.kill_mode.as_str() {
            _ if self.spares_survivors => "SendSIGKILL=no".to_owned(),
            "" => String::new(),
            mode => format!("KillMode={mode}"),
        }
    }

    /// The limit of its stop (TimeoutStopSec=); `None` without a limit. Zero for a unit without processes.
    pub fn longest_stop(&self) -> Option<Duration> {
        match own_interface(&self.id) {
            Some(_) if !self.id.ends_with(".slice") => self.stop_timeout,
            _ => Some(Duration::ZERO),
        }
    }

    /// Its unit file and drop-ins.
    pub fn files(&self) -> Vec<PathBuf> {
        let files = std::iter::once(&self.fragment).chain(&self.drop_ins);
        let files = files.filter(|file| !file.is_empty());
        files.map(PathBuf::from).collect()
    }

    /// Whether it is inactive or failed.
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
