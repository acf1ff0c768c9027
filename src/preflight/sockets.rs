//! Peers of steps that listen on a unix socket: as with those on a port, their units must outlive the run.

use std::path::Path;

use super::peers::{Sockets, owners};
use super::requirement::Requirement;
use super::{Inspection, Units};
use crate::config::facts::Facts;
use crate::plan::load::Plan;
use crate::sys::dbus::BusError;
use crate::sys::listeners::socket_listeners;

/// What the steps depend on for the unix sockets that they talk to.
pub(super) fn behind<'a>(
    plan: &'a Plan,
    facts: &Facts,
    units: &mut Units<'_>,
    inspection: &mut Inspection,
) -> Result<Vec<Requirement<'a>>, BusError> {
    let peers: Vec<_> = (plan.steps.iter())
        .flat_map(|step| step.dependencies.peers.iter().map(move |peer| (step, peer)))
        .filter_map(|(step, peer)| Some((step, peer.get_ahead(facts).ok()?)))
        .filter(|(_, endpoint)| endpoint.socket().is_some())
        .collect();
    let paths: Vec<&Path> = peers.iter().filter_map(|(_, it)| it.socket()).collect();
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    let listening = match socket_listeners(&paths) {
        Ok(listening) => listening,
        Err(error) => {
            let remark = format!("cannot check unix sockets: /proc: {error}");
            inspection.remarks.push(remark);
            return Ok(Vec::new());
        }
    };
    let (mut found, mut sockets): (_, Sockets) = (Vec::new(), None);
    for (((step, endpoint), path), listening) in peers.iter().zip(paths).zip(listening) {
        // If nobody listens, the step's own probe finds it unreachable.
        let Some(listening) = listening else { continue };
        let place = path.display().to_string();
        if listening.holders.is_empty() && listening.is_hidden {
            inspection.remarks.push(format!(
                "cannot determine whether the process that listens on {place} (step {}) outlives the run: only root can see it",
                step.name
            ));
            continue;
        }
        let hears = |listen: &str| is_same(Path::new(listen), path);
        let at = (place.as_str(), &hears as &dyn Fn(&str) -> bool);
        let owners = owners(at, &listening, units, &mut sockets, inspection)?;
        found.extend(owners.requirements(step, endpoint, |text| inspection.remarks.push(text)));
    }
    Ok(found)
}

/// Whether two paths name the same socket: /var/run is a link to /run.
fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    one == other || real(one).is_some_and(|it| Some(it) == real(other))
}
