//! systemd over D-Bus: org.freedesktop.systemd1(5).

mod boot;
mod cgroup_processes;
mod closure;
mod files;
mod loaded_order;
mod logind;
mod manager;
mod manual_stop;
mod name;
mod ordering_chain;
mod protected_units;
mod stop_cause;
mod stop_order;
mod unit;
mod version;

use std::fs;
use std::path::Path;

use crate::model::deadline::Deadline;
use crate::sys::dbus::BusError;
use crate::sys::signals;

pub use boot::{Around, BootState, starts_at_boot};
pub use cgroup_processes::{Process, control_group, has_ended, remaining};
pub use closure::{Closure, Member, Spared, Wanted};
pub use files::{UNIT_PATH, UnitFiles};
pub use loaded_order::Orders;
pub use logind::Logind;
pub use manager::{Job, Manager, Socket};
pub use manual_stop::Permission;
pub use name::{is_unit_name, template};
pub use ordering_chain::chain;
pub use protected_units::{Protection, StopLimits};
pub use stop_cause::{StopCause, StopDependency};
pub use stop_order::{longest, waits};
pub use unit::{Unit, UnitState, escape_path};
pub use version::{OLDEST, number as version_number};

/// The unit that runs the sequence.
pub const UNIT: &str = "farewell.service";

/// The unit that makes [`UNIT`] active early in the boot.
pub const ARM_UNIT: &str = "farewell-arm.service";

/// The unit that runs `farewell start`.
pub const START_UNIT: &str = "farewell-start.service";

/// The unit that runs `farewell start --undo-only`.
pub const UNDO_UNIT: &str = "farewell-undo.service";

/// The timer that starts [`UNDO_UNIT`] each minute.
pub const UNDO_TIMER: &str = "farewell-undo.timer";

/// farewell's own units.
pub const OWN: [&str; 7] = [
    UNIT,
    ARM_UNIT,
    START_UNIT,
    UNDO_UNIT,
    UNDO_TIMER,
    "farewell-rehearse.service",
    "farewell-rehearse.timer",
];

/// Whether systemd is this machine's init; see sd_booted(3).
pub fn is_booted() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// The effect that a stop of `names` (unit names or patterns) would have on this machine now. `needed`: the units that
/// it must not take along.
pub fn stop_of(
    manager: &Manager,
    names: &[String],
    needed: &[String],
    deadline: Deadline,
) -> Result<Closure, BusError> {
    let farewell = manager.unit(UNIT, deadline)?;
    let bounds = StopLimits::of_this_process(&farewell, needed);
    let (patterns, names): (Vec<_>, Vec<_>) = names.iter().partition(|name| is_pattern(name));
    // Names first: a unit that is both named and matched counts as named.
    let mut wanted: Vec<Wanted> = (names.into_iter().cloned())
        .map(|name| Wanted {
            name,
            pattern: None,
        })
        .collect();
    for pattern in patterns {
        let found = manager.matching(std::slice::from_ref(pattern), deadline)?;
        wanted.extend(found.into_iter().map(|state| Wanted {
            name: state.name,
            pattern: Some(pattern.clone()),
        }));
    }
    Closure::of(&wanted, &bounds, |name| manager.unit(name, deadline))
}

/// Whether `name` is a pattern for units (`worker@*.service`); see glob(7).
pub fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?', '['])
}

/// The unit of a process, by its control group (`/proc/PID/cgroup`): the first part of the path that is a service or a
/// scope. Those below it belong to a user's or a container's manager, not to PID 1. `None` for a process that is gone
/// or in no unit.
pub fn unit_of(pid: &str) -> Option<String> {
    units_of(pid).pop().filter(|unit| is_process_unit(unit))
}

/// The units of PID 1 that contain a process: the slices, from the outermost one, and the unit. Empty for a process
/// that is gone.
pub fn units_of(pid: &str) -> Vec<String> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup"));
    groups.map_or_else(|_| Vec::new(), |groups| units_in(&groups))
}

/// The path of a process' control group, from the root of the hierarchy: `/system.slice/app.service`. `None` for a process
/// that is gone.
pub fn group_of(pid: &str) -> Option<String> {
    path_in(&fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?)
}

/// The service or scope that contains a control group, as in [`unit_of`].
pub fn unit_in(group: &str) -> Option<String> {
    group
        .split('/')
        .find(|part| is_process_unit(part))
        .map(str::to_owned)
}

fn is_process_unit(part: &str) -> bool {
    part.ends_with(".service") || part.ends_with(".scope")
}

fn units_in(groups: &str) -> Vec<String> {
    let Some(path) = path_in(groups) else {
        return Vec::new();
    };
    let mut units = Vec::new();
    for part in path.split('/') {
        if is_process_unit(part) {
            units.push(part.to_owned());
            break;
        }
        if part.ends_with(".slice") {
            units.push(part.to_owned());
        }
    }
    units
}

/// The path of a process' control group.
fn path_in(groups: &str) -> Option<String> {
    // The unified hierarchy first; a hybrid system has systemd's own by name.
    let of = |prefix: &str| groups.lines().find_map(|line| line.strip_prefix(prefix));
    let named = |line: &'_ str| {
        line.split_once(":name=systemd:")
            .map(|(_, path)| path.to_owned())
    };
    let unified = of("0::").filter(|path| *path != "/").map(str::to_owned);
    unified.or_else(|| groups.lines().find_map(named))
}

/// Whether PID 1 itself started this process as the command of a unit. systemd 248 and later set `SYSTEMD_EXEC_PID`
/// (see systemd.exec(5)): a shell within a unit inherits the variable, but not the process id.
///
/// On older versions it must be a child of PID 1, lead a session of its own as every command of a unit does, have the
/// unit's invocation id, and be in the control group of a service. What a shell, cron or sshd starts has another
/// parent.
pub fn is_command_of_unit() -> bool {
    match std::env::var("SYSTEMD_EXEC_PID") {
        Ok(pid) => pid == std::process::id().to_string(),
        Err(_) => {
            signals::is_child_of_init()
                && std::env::var_os("INVOCATION_ID").is_some()
                && unit_of("self").is_some_and(|unit| unit.ends_with(".service"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_have_their_unit() {
        let unit = |groups: &str| units_in(groups).pop().filter(|it| is_process_unit(it));
        assert_eq!(
            unit("0::/system.slice/consul.service\n").as_deref(),
            Some("consul.service")
        );
        assert_eq!(
            unit("0::/system.slice/app.service/worker/deep\n").as_deref(),
            Some("app.service")
        );
        let hybrid = "12:cpu:/x\n1:name=systemd:/system.slice/app@1.service\n0::/\n";
        assert_eq!(unit(hybrid).as_deref(), Some("app@1.service"));
        let user = "0::/user.slice/user-1000.slice/session-3.scope\n";
        assert_eq!(unit(user).as_deref(), Some("session-3.scope"));
        let own = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/agent.service\n";
        assert_eq!(unit(own).as_deref(), Some("user@1000.service"));
        assert_eq!(unit("0::/\n"), None);
        assert_eq!(
            units_in(user),
            ["user.slice", "user-1000.slice", "session-3.scope"]
        );
    }
}
