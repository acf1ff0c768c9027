//! The file systems of steps that depend on a server: FUSE on a local process, network file systems on a server behind
//! an interface.

use std::net::{IpAddr, SocketAddr};

use super::interfaces::Interfaces;
use super::process_owner::{self, ProcessOwner};
use super::requirement::{Requirement, listed};
use super::{Inspection, Units};
use crate::config::facts::Facts;
use crate::plan::load::Plan;
use crate::plan::step::Step;
use crate::sys::dbus::BusError;
use crate::sys::device_owners;
use crate::sys::mounts::{Mount, Mounts};

/// What steps depend on for their paths.
pub(super) fn behind<'a>(
    plan: &'a Plan,
    facts: &Facts,
    interfaces: &mut Interfaces,
    units: &mut Units<'_>,
    inspection: &mut Inspection,
) -> Result<Vec<Requirement<'a>>, BusError> {
    let mounts = match Mounts::read() {
        Ok(mounts) => mounts,
        Err(error) => {
            let remark = format!("cannot check the file systems of the steps: {error}");
            inspection.remarks.push(remark);
            return Ok(Vec::new());
        }
    };
    let mut found: Vec<Requirement<'a>> = Vec::new();
    for step in &plan.steps {
        let fields = step.dependencies.paths.iter().chain(&step.if_path);
        let mut seen = Vec::new();
        for path in fields.filter_map(|field| field.get(facts).ok()) {
            for place in path.ancestors() {
                let Some(mount) = mounts.top(place).filter(|mount| !seen.contains(&mount.id))
                else {
                    continue;
                };
                seen.push(mount.id);
                if mount.fs_type.starts_with("fuse") {
                    found.extend(served(step, mount, units, inspection)?);
                } else if let Some(address) = server(&mount.options) {
                    let what = format!("uses {} ({mount})", mount.point.display());
                    let address = SocketAddr::new(address, 0);
                    found.extend(interfaces.towards(step, &what, address, units)?);
                }
            }
        }
    }
    Ok(found)
}

/// The units of the processes that serve a FUSE file system.
fn served<'a>(
    step: &'a Step,
    mount: &Mount,
    units: &mut Units<'_>,
    inspection: &mut Inspection,
) -> Result<Option<Requirement<'a>>, BusError> {
    let point = mount.point.display();
    let mut requirement = Requirement {
        step,
        what: String::new(),
        units: Vec::new(),
        sessions: Vec::new(),
    };
    let mut is_known = false;
    for pid in device_owners::fuse_servers(&mount.point, mount.device).unwrap_or_default() {
        let owner = process_owner::owner(pid, units)?;
        is_known |= owner.is_some() || process_owner::is_in_mount(pid);
        match owner {
            Some(ProcessOwner::Unit(unit)) => requirement.units.push(unit),
            Some(ProcessOwner::Session(unit)) => requirement.sessions.push(unit.id),
            Some(ProcessOwner::Container { engines, .. }) => requirement.units.extend(engines),
            Some(ProcessOwner::Nobody(_)) | None => {}
        }
    }
    if !is_known {
        let remark = format!(
            "step {}: the unit that serves {point} ({mount}) is not known: if a unit runs its daemon, name it in `needs`",
            step.name
        );
        if !inspection.remarks.contains(&remark) {
            inspection.remarks.push(remark);
        }
        return Ok(None);
    }
    let (services, sessions) = (requirement.units.iter(), requirement.sessions.iter());
    let names = listed(
        services
            .map(|unit| unit.id.as_str())
            .chain(sessions.map(String::as_str)),
    );
    let serves = if requirement.units.len() + requirement.sessions.len() > 1 {
        "serve"
    } else {
        "serves"
    };
    requirement.what = format!("uses {point} ({mount}), which {names} {serves}");
    Ok(Some(requirement))
}

/// The address of the server of a network file system: `addr=10.0.0.5` among the mount's options (NFS, CIFS, Ceph).
fn server(options: &str) -> Option<IpAddr> {
    let mut options = options.split(',');
    options.find_map(|option| option.strip_prefix("addr=")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_found_in_the_options() {
        let options = "rw,vers=4.2,clientaddr=10.0.0.9,local_lock=none,addr=10.0.0.5";
        assert_eq!(server(options), Some(IpAddr::from([10, 0, 0, 5])));
        assert_eq!(server("rw,size=2g"), None);
    }
}
