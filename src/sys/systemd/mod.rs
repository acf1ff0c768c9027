//! systemd, as it is asked over D-Bus: org.freedesktop.systemd1(5).

mod manager;
mod unit;

use std::fs;
use std::path::Path;

pub use manager::{Job, Manager, Process, Socket};
pub use unit::{Activity, Unit, escape_path};

/// The unit that runs the sequence.
pub const UNIT: &str = "farewell.service";

/// Whether systemd is this machine's init; see sd_booted(3).
pub fn is_booted() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// The unit that a process belongs to, by its control group (`/proc/PID/cgroup`): the first part of the path that is a
/// service or a scope. Those below it are not PID 1's units but those of a user's own manager, or of a container's.
/// `None` for a process that is gone, or in no unit.
pub fn unit_of(pid: &str) -> Option<String> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    unit_in(&groups)
}

fn unit_in(groups: &str) -> Option<String> {
    // The unified hierarchy first; on a hybrid one systemd's own is named.
    let of = |prefix: &str| groups.lines().find_map(|line| line.strip_prefix(prefix));
    let named = |line: &'_ str| {
        line.split_once(":name=systemd:")
            .map(|(_, path)| path.to_owned())
    };
    let unified = of("0::").filter(|path| *path != "/").map(str::to_owned);
    let path = unified.or_else(|| groups.lines().find_map(named))?;
    let is_unit = |part: &&str| part.ends_with(".service") || part.ends_with(".scope");
    path.split('/').find(is_unit).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_have_their_unit() {
        let unit = |groups: &str| unit_in(groups);
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
    }
}
