//! Peers of steps on this machine: which process listens, and which unit ends it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use super::process_owner::{self, ProcessOwner, owner};
use super::requirement::{Requirement, listed};
use super::resolved_peers::Addressed;
use super::{Inspection, Units};
use crate::plan::step::Step;
use crate::sys::dbus::BusError;
use crate::sys::http::Endpoint;
use crate::sys::listeners::{Listening, listeners};
use crate::sys::systemd::{Socket, Unit};
use crate::sys::{dbus, host};

/// How long a connection within this machine may take.
const CONNECTION: Duration = Duration::from_secs(1);

/// The socket units of this machine, read once.
pub(super) type Sockets = Option<Result<Vec<Socket>, dbus::BusError>>;

/// Adds a remark, once.
fn remark(inspection: &mut Inspection, text: String) {
    if !inspection.remarks.contains(&text) {
        inspection.remarks.push(text);
    }
}

/// What the steps depend on for their peers on this machine.
pub(super) fn behind<'a>(
    peers: &[Addressed<'a>],
    units: &mut Units<'_>,
    inspection: &mut Inspection,
) -> Result<Vec<Requirement<'a>>, BusError> {
    let own = match host::addresses() {
        Ok(own) => own,
        Err(error) => {
            let text = format!("cannot check local peers: {error}");
            remark(inspection, text);
            return Ok(Vec::new());
        }
    };
    let is_local = |peer: &&Addressed<'_>| is_here(peer.address.ip(), &own);
    let peers: Vec<&Addressed<'_>> = peers.iter().filter(is_local).collect();
    let addresses: Vec<SocketAddr> = peers.iter().map(|peer| peer.address).collect();
    let listening = match listeners(&addresses) {
        Ok(listening) => listening,
        Err(error) => {
            let text = format!("cannot check local peers: /proc: {error}");
            remark(inspection, text);
            return Ok(Vec::new());
        }
    };
    let (mut found, mut sockets, mut answering) = (Vec::new(), None, BTreeMap::new());
    for (peer, listening) in peers.into_iter().zip(listening) {
        let (step, endpoint) = (peer.step, &peer.endpoint);
        let Some(listening) = listening else {
            found.extend(forwarded(peer, &mut answering, units, inspection)?);
            continue;
        };
        if listening.holders.is_empty() && listening.is_hidden {
            let text = format!(
                "cannot determine whether the process that listens at {endpoint} (step {}) outlives the run: only root can see it",
                step.name
            );
            remark(inspection, text);
            continue;
        }
        let place = peer.address.to_string();
        let hears = |listen: &str| hears(listen, peer.address);
        let at = (place.as_str(), &hears as &dyn Fn(&str) -> bool);
        let owners = owners(at, &listening, units, &mut sockets, inspection)?;
        found.extend(owners.requirements(step, endpoint, |text| remark(inspection, text)));
    }
    Ok(found)
}

/// The requirement of a peer at whose address no process of this machine listens, where the kernel forwards connections to a
/// container. Where it does not, the step's own probe finds the peer unreachable.
fn forwarded<'a>(
    peer: &Addressed<'a>,
    answering: &mut BTreeMap<SocketAddr, bool>,
    units: &mut Units<'_>,
    inspection: &mut Inspection,
) -> Result<Option<Requirement<'a>>, BusError> {
    let answers = |address: &SocketAddr| TcpStream::connect_timeout(address, CONNECTION).is_ok();
    if !*answering.entry(peer.address).or_insert_with_key(answers) {
        return Ok(None);
    }
    let engines = process_owner::all_running(units)?;
    if !engines.is_empty() {
        return Ok(Some(published(peer, engines)));
    }
    let text = format!(
        "step {} talks to {}, where something answers although no process of this machine listens (a container's published \
         port, say): name the unit that ends it in `needs`",
        peer.step.name, peer.endpoint
    );
    remark(inspection, text);
    Ok(None)
}

/// A peer at a port that the kernel forwards elsewhere.
fn published<'a>(peer: &Addressed<'a>, engines: Vec<Unit>) -> Requirement<'a> {
    let names = listed(engines.iter().map(|it| it.id.as_str()));
    Requirement {
        step: peer.step,
        what: format!(
            "talks to {}, where something answers although no process of this machine listens, as at a container's published \
             port, which {names} ends",
            peer.endpoint
        ),
        units: engines,
        sessions: Vec::new(),
    }
}

fn is_here(address: IpAddr, own: &[IpAddr]) -> bool {
    let address = address.to_canonical();
    address.is_loopback() || address.is_unspecified() || own.contains(&address)
}

/// The owners of the processes that listen at an address.
#[derive(Default)]
pub(super) struct Owners {
    units: Vec<Unit>,
    sessions: Vec<String>,
    containers: Vec<(String, Vec<Unit>)>,
    nobody: BTreeSet<String>,
}

impl Owners {
    fn add(&mut self, owner: ProcessOwner) {
        match owner {
            ProcessOwner::Unit(unit) if self.units.iter().all(|it| it.id != unit.id) => {
                self.units.push(unit);
            }
            ProcessOwner::Session(unit) if !self.sessions.contains(&unit.id) => {
                self.sessions.push(unit.id);
            }
            ProcessOwner::Container { place, engines } => {
                if self.containers.iter().all(|(it, _)| *it != place) {
                    self.containers.push((place, engines));
                }
            }
            ProcessOwner::Nobody(place) => {
                self.nobody.insert(place);
            }
            ProcessOwner::Unit(_) | ProcessOwner::Session(_) => {}
        }
    }

    /// What `step`, which talks to `endpoint` there, depends on.
    pub(super) fn requirements<'a>(
        self,
        step: &'a Step,
        endpoint: &Endpoint,
        mut remark: impl FnMut(String),
    ) -> Vec<Requirement<'a>> {
        let mut found = Vec::new();
        for (place, engines) in self.containers {
            let names = listed(engines.iter().map(|it| it.id.as_str()));
            let ends = if engines.len() == 1 { "ends" } else { "end" };
            found.push(Requirement {
                step,
                what: format!(
                    "talks to {endpoint}, where the container {place} listens, which {names} {ends}"
                ),
                units: engines,
                sessions: Vec::new(),
            });
        }
        for place in self.nobody {
            remark(format!(
                "step {} talks to {endpoint}, where {place} listens: systemd leaves it running until the very end of a \
                 shutdown, and what else may end it is not known; if a unit does, name it in `needs`",
                step.name
            ));
        }
        let (services, scopes) = (self.units.iter(), self.sessions.iter());
        let names: Vec<&str> = (services.map(|it| it.id.as_str()))
            .chain(scopes.map(String::as_str))
            .collect();
        let listens = if names.len() == 1 {
            "listens"
        } else {
            "listen"
        };
        let what = format!(
            "talks to {endpoint}, where {} {listens}",
            listed(names.iter().copied())
        );
        if !names.is_empty() {
            found.push(Requirement {
                step,
                what,
                units: self.units,
                sessions: self.sessions,
            });
        }
        found
    }
}

/// What ends the listening processes: the unit of each process, and for PID 1 the socket unit for which it listens.
/// `at`: the address, and whether a socket unit's address is that address.
pub(super) fn owners(
    at: (&str, &dyn Fn(&str) -> bool),
    listening: &Listening,
    units: &mut Units<'_>,
    sockets: &mut Sockets,
    inspection: &mut Inspection,
) -> Result<Owners, BusError> {
    let (place, hears) = at;
    let mut owners = Owners::default();
    for pid in listening.holders.iter().filter(|pid| **pid != 1) {
        if let Some(owner) = owner(*pid, units)? {
            owners.add(owner);
        }
    }
    if !listening.holders.contains(&1) {
        return Ok(owners);
    }
    let sockets = sockets.get_or_insert_with(|| units.manager.sockets(units.deadline));
    match sockets {
        Ok(sockets) => {
            let hears = |socket: &&Socket| socket.listens.iter().any(|it| hears(it));
            let own = sockets.iter().filter(hears).map(|it| it.unit.clone());
            let own: BTreeSet<String> = own.collect();
            if own.is_empty() {
                let text = format!("systemd itself listens at {place}, but not for a socket unit");
                inspection.remarks.push(text);
            }
            for name in own {
                owners.add(ProcessOwner::Unit(units.get(&name)?));
            }
        }
        Err(error) => {
            let text =
                format!("cannot determine for which unit systemd listens at {place}: {error}");
            inspection.remarks.push(text);
        }
    }
    Ok(owners)
}

/// Whether a socket unit that listens at `place`, in systemd's notation, serves connections to `address`.
fn hears(place: &str, address: SocketAddr) -> bool {
    // It may be bound to an interface: `[::]:80%eth0`.
    let place = place.split('%').next().unwrap_or_default();
    let Ok(place) = place.parse::<SocketAddr>() else {
        return false;
    };
    let (own, asked) = (place.ip().to_canonical(), address.ip().to_canonical());
    // The IPv6 wildcard address includes IPv4, unless BindIPv6Only= says otherwise.
    let is_any = own.is_unspecified() && (own.is_ipv6() || asked.is_ipv4());
    place.port() == address.port() && (own == asked || is_any)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_units_are_known_by_where_they_listen() {
        let hears = |place: &str, address: &str| hears(place, address.parse().expect("an address"));
        for (place, address) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("[::1]:80%lo", "[::1]:80"),
        ] {
            assert!(hears(place, address), "{place} {address}");
        }
        for (place, address) in [
            ("127.0.0.1:81", "127.0.0.1:80"),
            ("127.0.0.2:80", "127.0.0.1:80"),
            ("0.0.0.0:80", "[::1]:80"),
            ("/run/app.sock", "127.0.0.1:80"),
            ("80", "127.0.0.1:80"),
        ] {
            assert!(!hears(place, address), "{place} {address}");
        }
    }

    #[test]
    fn loopback_and_own_addresses_are_here() {
        let own: Vec<IpAddr> = vec!["10.0.0.5".parse().expect("an address")];
        for (address, here) in [
            ("127.0.0.2", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("0.0.0.0", true),
            ("10.0.0.5", true),
            ("10.0.0.6", false),
        ] {
            assert_eq!(
                is_here(address.parse().expect("one"), &own),
                here,
                "{address}"
            );
        }
    }
}
