//! Finds what ends a process at shutdown: its unit, or the engine of its container.

use super::{SHUTDOWN, Units, distinct};
use crate::sys::dbus::BusError;
use crate::sys::host::process_parent;
use crate::sys::systemd::{UNIT, Unit, group_of, unit_in};

/// What ends a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ProcessOwner {
    /// Its unit.
    Unit(Unit),
    /// A scope that systemd ends, such as a login session: it is created at run time, so that no configuration can name
    /// it.
    Session(Unit),
    /// The engine of its container, which is a scope or control group that systemd does not stop.
    Container {
        /// The scope or the control group.
        place: String,
        /// The engine's units, at least one.
        engines: Vec<Unit>,
    },
    /// A scope that systemd does not stop, and whose creator is unknown.
    Nobody(String),
}

/// The units that end containers, by prefixes of the names of their scopes or control groups. Docker's engine ends them
/// when it is stopped; those of Kubernetes keep them, but not the network that leads to them.
const ENGINES: [(&str, &[&str]); 6] = [
    ("docker", DOCKER),
    ("cri-containerd", KUBERNETES),
    ("crio", KUBERNETES),
    ("kubepods", KUBERNETES),
    ("nerdctl", &["containerd.service"]),
    (
        "lxc",
        &[
            "lxc.service",
            "lxd.service",
            "snap.lxd.daemon.service",
            "incus.service",
        ],
    ),
];

pub(super) const DOCKER: &[&str] = &["docker.service", "snap.docker.dockerd.service"];

pub(super) const KUBERNETES: &[&str] = &[
    "containerd.service",
    "crio.service",
    "kubelet.service",
    "k3s.service",
    "k3s-agent.service",
    "rke2-server.service",
    "rke2-agent.service",
];

/// Podman has no daemon: a container has a unit of its own, and this one ends those started by hand.
const PODMAN: &[&str] = &["podman-restart.service"];

/// How many ancestors of a process are examined.
const GENERATIONS: usize = 16;

/// What ends the process `pid`; `None` if it is gone, or in no known unit or container.
pub(super) fn owner(pid: u32, units: &mut Units<'_>) -> Result<Option<ProcessOwner>, BusError> {
    let Some(group) = group_of(&pid.to_string()) else {
        return Ok(None);
    };
    let Some(name) = unit_in(&group) else {
        let place = container(&group).map(str::to_owned);
        let Some(place) = place else { return Ok(None) };
        let engines = engines(&place, pid, units)?;
        return Ok(Some(match engines.is_empty() {
            true => ProcessOwner::Nobody(place),
            false => ProcessOwner::Container { place, engines },
        }));
    };
    if name == UNIT {
        return Ok(None);
    }
    let unit = units.get(&name)?;
    if !name.ends_with(".scope") {
        return Ok(Some(ProcessOwner::Unit(unit)));
    }
    if unit.conflicts.iter().any(|it| it == SHUTDOWN) {
        return Ok(Some(ProcessOwner::Session(unit)));
    }
    let engines = engines(&name, pid, units)?;
    Ok(Some(match engines.is_empty() {
        true => ProcessOwner::Nobody(name),
        false => ProcessOwner::Container {
            place: name,
            engines,
        },
    }))
}

/// Whether a process is in the control group of a mount unit, as a daemon that `mount` has started: it ends with the
/// mount, which farewell.service is ordered after.
pub(super) fn is_in_mount(pid: u32) -> bool {
    let group = group_of(&pid.to_string()).unwrap_or_default();
    group.split('/').any(|part| part.ends_with(".mount"))
}

/// The part of a control group's path that names a container.
fn container(group: &str) -> Option<&str> {
    let is_one = |part: &&str| part.starts_with("libpod") || engines_named(part).is_some();
    group.split('/').find(is_one)
}

fn engines_named(place: &str) -> Option<&'static [&'static str]> {
    let named = ENGINES.iter().find(|(prefix, _)| place.starts_with(prefix));
    named.map(|(_, units)| *units)
}

/// The units that end a container: the engines known for its name, else the unit of the nearest ancestor in another
/// unit.
fn engines(place: &str, pid: u32, units: &mut Units<'_>) -> Result<Vec<Unit>, BusError> {
    let mut found = running(engines_named(place).unwrap_or_default(), units)?;
    if found.is_empty() {
        found.extend(maker(pid, units)?);
    }
    if found.is_empty() && place.starts_with("libpod") {
        found = running(PODMAN, units)?;
    }
    Ok(found)
}

/// Those of `names` that are not down.
pub(super) fn running(names: &[&str], units: &mut Units<'_>) -> Result<Vec<Unit>, BusError> {
    let mut found = Vec::new();
    for name in names {
        let unit = units.get(name)?;
        if unit.exists() && !unit.is_down() {
            found.push(unit);
        }
    }
    Ok(found)
}

/// All container engines that run on this machine.
pub(super) fn all_running(units: &mut Units<'_>) -> Result<Vec<Unit>, BusError> {
    let names = (ENGINES.iter()).flat_map(|(_, names)| names.iter());
    let names: Vec<&str> = names.chain(PODMAN).copied().collect();
    running(&names, units).map(distinct)
}

/// The service of the nearest ancestor that is in one.
fn maker(pid: u32, units: &mut Units<'_>) -> Result<Option<Unit>, BusError> {
    let mut pid = pid;
    for _ in 0..GENERATIONS {
        let Some(parent) = process_parent(pid).filter(|parent| *parent > 1) else {
            return Ok(None);
        };
        pid = parent;
        let unit = group_of(&pid.to_string()).and_then(|group| unit_in(&group));
        match unit.filter(|it| it.ends_with(".service") && it != UNIT) {
            Some(service) => return units.get(&service).map(Some),
            None => continue,
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_known_by_their_control_groups() {
        for (group, place) in [
            ("/docker/0123abcd", Some("docker")),
            ("/system.slice/docker-0123.scope", Some("docker-0123.scope")),
            ("/kubepods/burstable/pod1/2", Some("kubepods")),
            (
                "/machine.slice/libpod-1.scope/container",
                Some("libpod-1.scope"),
            ),
            ("/lxc.payload.web/init.scope", Some("lxc.payload.web")),
            ("/user.slice", None),
        ] {
            assert_eq!(container(group), place, "{group}");
        }
        assert_eq!(engines_named("docker-1.scope"), Some(DOCKER));
        assert_eq!(engines_named("libpod-1.scope"), None);
    }
}
