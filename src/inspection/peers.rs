//! Peers of steps that are on this machine: systemd stops every unit that farewell is not ordered after at the same moment
//! that farewell starts, and then nobody answers.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::addressed::Addressed;
use super::{Finding, Inspection, Ordering, Units, is_after};
use crate::config::facts::Facts;
use crate::plan::gate::Plan;
use crate::sys::http::Endpoint;
use crate::sys::listeners::{Listening, listeners};
use crate::sys::systemd::{Socket, UNIT, Unit, unit_of};
use crate::sys::{bus, host};

/// What a shutdown starts, which ends every unit that conflicts with it.
const SHUTDOWN: &str = "shutdown.target";

/// Who would end too early, and what it is to systemd.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owner {
    /// A unit that farewell.service can be ordered after.
    Unit(String),
    /// A scope, a login session say: made when it begins, so that no configuration can name it.
    Scope(String),
}

/// Adds what is wrong with the peers of the plan that are on this machine.
pub(super) fn inspect(
    plan: &Plan,
    facts: &Facts,
    peers: &[Addressed<'_>],
    farewell: &Unit,
    units: &mut Units<'_>,
    inspection: &mut Inspection,
) {
    let own = match host::addresses() {
        Ok(own) => own,
        Err(error) => {
            let remark = format!("local peers were not looked at: {error}");
            return inspection.remarks.push(remark);
        }
    };
    let is_local = |peer: &&Addressed<'_>| is_here(peer.address.ip(), &own);
    let peers: Vec<&Addressed<'_>> = peers.iter().filter(is_local).collect();
    let addresses: Vec<SocketAddr> = peers.iter().map(|peer| peer.address).collect();
    let listening = match listeners(&addresses) {
        Ok(listening) => listening,
        Err(error) => {
            let remark = format!("local peers were not looked at: /proc: {error}");
            return inspection.remarks.push(remark);
        }
    };
    // What the configuration names is compared on its own.
    let named = Ordering::of(plan, facts).units;
    let mut sockets = None;
    let mut told = BTreeSet::new();
    for (peer, listening) in peers.iter().zip(listening) {
        // Where nobody listens the step's own probe tells that it is unreachable.
        let Some(listening) = listening else { continue };
        if listening.holders.is_empty() && listening.is_hidden {
            let remark = format!(
                "who listens at {} (step {}) is shown to root alone: whether it outlives the run is not known",
                peer.endpoint, peer.step.name
            );
            if told.insert(remark.clone()) {
                inspection.remarks.push(remark);
            }
            continue;
        }
        let mut owners = Vec::new();
        for name in names(peer.address, &listening, units, &mut sockets, inspection) {
            match units.get(&name) {
                Ok(unit) => owners.extend(early(farewell, &unit, &named)),
                Err(trouble) => {
                    let remark = format!("{name} was not looked at: {trouble}");
                    inspection.remarks.push(remark);
                }
            }
        }
        if owners.is_empty() {
            continue;
        }
        let message = message(&peer.step.name, &peer.step.needs, &peer.endpoint, &owners);
        // A name may have several addresses.
        if told.insert(message.clone()) {
            let is_stale = false;
            inspection.findings.push(Finding { message, is_stale });
        }
    }
}

fn is_here(address: IpAddr, own: &[IpAddr]) -> bool {
    let address = address.to_canonical();
    address.is_loopback() || address.is_unspecified() || own.contains(&address)
}

/// The units of those who listen: of each process its own one, and for PID 1 the socket unit for which it listens.
fn names(
    address: SocketAddr,
    listening: &Listening,
    units: &Units<'_>,
    sockets: &mut Option<Result<Vec<Socket>, bus::Trouble>>,
    inspection: &mut Inspection,
) -> BTreeSet<String> {
    let others = listening.holders.iter().filter(|pid| **pid != 1);
    let mut names: BTreeSet<String> = others
        .filter_map(|pid| unit_of(&pid.to_string()))
        .filter(|name| name != UNIT)
        .collect();
    if listening.holders.contains(&1) {
        let sockets = sockets.get_or_insert_with(|| units.manager.sockets(units.deadline));
        match sockets {
            Ok(sockets) => {
                let hears = |socket: &&Socket| socket.listens.iter().any(|it| hears(it, address));
                let own = sockets.iter().filter(hears).map(|it| it.unit.clone());
                let own: Vec<String> = own.collect();
                if own.is_empty() {
                    let remark = format!(
                        "systemd itself listens at {address}, for no socket unit that it tells of"
                    );
                    inspection.remarks.push(remark);
                }
                names.extend(own);
            }
            Err(trouble) => {
                let remark =
                    format!("for whom systemd listens at {address} is not known: {trouble}");
                inspection.remarks.push(remark);
            }
        }
    }
    names
}

/// Whether a socket unit that listens at `place`, as systemd writes it, is asked by those who connect to `address`.
fn hears(place: &str, address: SocketAddr) -> bool {
    // It may be bound to an interface: `[::]:80%eth0`.
    let place = place.split('%').next().unwrap_or_default();
    let Ok(place) = place.parse::<SocketAddr>() else {
        return false;
    };
    let (own, asked) = (place.ip().to_canonical(), address.ip().to_canonical());
    // Any address of IPv6 is any of IPv4 too, unless BindIPv6Only= says otherwise.
    let is_any = own.is_unspecified() && (own.is_ipv6() || asked.is_ipv4());
    place.port() == address.port() && (own == asked || is_any)
}

/// The owner, where nothing orders farewell after it and systemd ends it.
fn early(farewell: &Unit, unit: &Unit, named: &BTreeSet<String>) -> Option<Owner> {
    if is_after(farewell, unit) {
        return None;
    }
    if unit.id.ends_with(".scope") {
        // Containers are often in scopes that systemd leaves to those who made them.
        let is_ended = unit.conflicts.iter().any(|it| it == SHUTDOWN);
        return is_ended.then(|| Owner::Scope(unit.id.clone()));
    }
    let is_named = named.contains(&unit.id) || unit.names.iter().any(|it| named.contains(it));
    (!is_named).then(|| Owner::Unit(unit.id.clone()))
}

fn message(step: &str, needs: &[String], endpoint: &Endpoint, owners: &[Owner]) -> String {
    let name = |owner: &Owner| match owner {
        Owner::Unit(name) | Owner::Scope(name) => name.clone(),
    };
    let all: Vec<String> = owners.iter().map(name).collect();
    let units: Vec<&String> = (owners.iter())
        .filter_map(|owner| match owner {
            Owner::Unit(name) => Some(name),
            Owner::Scope(_) => None,
        })
        .collect();
    let mut remedies = Vec::new();
    if !units.is_empty() {
        let needs: Vec<String> = (needs.iter().chain(units))
            .map(|unit| format!("{unit:?}"))
            .collect();
        remedies.push(format!(
            "add `needs = [{}]` to the step, and run `systemctl daemon-reload`",
            needs.join(", ")
        ));
    }
    if owners.iter().any(|it| matches!(it, Owner::Scope(_))) {
        remedies.push(
            "what listens in a scope (a login session) cannot be waited for: run it as a service"
                .to_owned(),
        );
    }
    let (listens, it) = if all.len() == 1 {
        ("listens", "it")
    } else {
        ("listen", "them")
    };
    format!(
        "step {step} talks to {endpoint}, where {} {listens}: systemd ends {it} at the same moment that farewell starts, \
         since nothing orders {UNIT} after {it}; {}",
        all.join(" and "),
        remedies.join("; ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(id: &str, names: &[&str]) -> Unit {
        Unit {
            id: id.to_owned(),
            names: names.iter().map(ToString::to_string).collect(),
            ..Unit::default()
        }
    }

    #[test]
    fn only_what_nothing_orders_ends_too_early() {
        let farewell = Unit {
            after: vec!["consul.service".into()],
            ..unit(UNIT, &[UNIT])
        };
        let named = BTreeSet::from(["named.service".to_owned()]);
        let judge = |unit: &Unit| early(&farewell, unit, &named);
        assert_eq!(judge(&unit("consul.service", &["consul.service"])), None);
        let alias = unit("real.service", &["real.service", "consul.service"]);
        assert_eq!(judge(&alias), None);
        let owner = Some(Owner::Unit("etcd.service".into()));
        assert_eq!(judge(&unit("etcd.service", &["etcd.service"])), owner);
        // Named, and not loaded yet: that is told of the unit itself.
        let named = unit("x.service", &["x.service", "named.service"]);
        assert_eq!(judge(&named), None);
        // What systemd ends, and what it leaves to others.
        let container = unit("docker-1.scope", &[]);
        assert_eq!(judge(&container), None);
        let session = Unit {
            conflicts: vec![SHUTDOWN.into()],
            ..unit("session-3.scope", &[])
        };
        let owner = Some(Owner::Scope("session-3.scope".into()));
        assert_eq!(judge(&session), owner);
    }

    #[test]
    fn the_line_to_add_is_told() {
        let endpoint = Endpoint::parse("http://127.0.0.1:8500/").expect("a URL");
        let owner = |name: &str| Owner::Unit(name.to_owned());
        assert_eq!(
            message("leave", &[], &endpoint, &[owner("consul.service")]),
            "step leave talks to http://127.0.0.1:8500/, where consul.service listens: systemd ends it at the same moment \
             that farewell starts, since nothing orders farewell.service after it; add `needs = [\"consul.service\"]` to \
             the step, and run `systemctl daemon-reload`"
        );
        let both = [owner("a.service"), owner("a.socket")];
        let told = message("leave", &["b.service".into()], &endpoint, &both);
        assert!(
            told.contains("where a.service and a.socket listen:"),
            "{told}"
        );
        let line = "`needs = [\"b.service\", \"a.service\", \"a.socket\"]`";
        assert!(told.contains(line), "{told}");
        let told = message(
            "leave",
            &[],
            &endpoint,
            &[Owner::Scope("session-3.scope".into())],
        );
        assert!(!told.contains("needs"), "{told}");
        assert!(told.contains("run it as a service"), "{told}");
    }

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
