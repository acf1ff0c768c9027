//! The interfaces that lead to the peers of steps, and this machine's own addresses: a unit that set them up removes
//! them when it is stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::process_owner::{self, ProcessOwner};
use super::requirement::{Requirement, line, listed, outlives};
use super::resolved_peers::Addressed;
use super::{Finding, Inspection, Units, distinct};
use crate::config::facts::Facts;
use crate::config::template::Fact;
use crate::plan::step::Step;
use crate::sys::dbus::BusError;
use crate::sys::systemd::Unit;
use crate::sys::{device_owners, host, routes};

/// Managers of floating addresses, and where they are configured.
const MOVERS: [(&str, &str); 5] = [
    ("keepalived.service", "/etc/keepalived"),
    ("vip-manager.service", "/etc/default"),
    ("pacemaker.service", "/var/lib/pacemaker/cib"),
    ("bird.service", "/etc/bird"),
    ("frr.service", "/etc/frr"),
];

/// The most bytes that are read of a file.
const LIMIT: u64 = 1 << 20;

/// Results for interfaces and addresses, each examined once.
pub(super) struct Interfaces {
    own: Vec<IpAddr>,
    owners: BTreeMap<String, Vec<Unit>>,
    movers: BTreeMap<IpAddr, Vec<Unit>>,
    /// The steps that use an interface whose unit is unknown.
    unknown: BTreeMap<String, BTreeSet<String>>,
}

impl Interfaces {
    pub(super) fn new() -> std::io::Result<Interfaces> {
        Ok(Interfaces {
            own: host::addresses()?,
            owners: BTreeMap::new(),
            movers: BTreeMap::new(),
            unknown: BTreeMap::new(),
        })
    }

    /// What a step depends on to reach a peer.
    pub(super) fn behind<'a>(
        &mut self,
        peer: &Addressed<'a>,
        units: &mut Units<'_>,
    ) -> Result<Vec<Requirement<'a>>, BusError> {
        let what = format!("talks to {}", peer.endpoint);
        self.towards(peer.step, &what, peer.address, units)
    }

    /// What `step`, which does `what`, depends on to reach `address`.
    pub(super) fn towards<'a>(
        &mut self,
        step: &'a Step,
        what: &str,
        address: SocketAddr,
        units: &mut Units<'_>,
    ) -> Result<Vec<Requirement<'a>>, BusError> {
        let ip = address.ip().to_canonical();
        if ip.is_loopback() || ip.is_unspecified() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        if self.own.contains(&ip) {
            let movers = self.movers(ip, units)?;
            let names = listed(movers.iter().map(|it| it.id.as_str()));
            found.extend((!movers.is_empty()).then(|| Requirement {
                step,
                what: format!(
                    "{what}, and {ip} is an address that {names} assigns to this machine"
                ),
                units: movers,
                sessions: Vec::new(),
            }));
        }
        let Ok(Some(interface)) = routes::interface_towards(address) else {
            return Ok(found);
        };
        if interface == "lo" {
            return Ok(found);
        }
        let owners = match self.owners.get(&interface) {
            Some(known) => known.clone(),
            None => owners(&interface, units)?,
        };
        self.owners.insert(interface.clone(), owners.clone());
        if owners.is_empty() {
            let steps = self.unknown.entry(interface).or_default();
            steps.insert(step.name.clone());
            return Ok(found);
        }
        let names = listed(owners.iter().map(|it| it.id.as_str()));
        found.push(Requirement {
            step,
            what: format!("{what} through the interface {interface}, which {names} sets up"),
            units: owners,
            sessions: Vec::new(),
        });
        Ok(found)
    }

    /// What is wrong with `${ip}` if a unit assigns its address to this machine and may remove it.
    pub(super) fn of_this_machine(
        &mut self,
        facts: &Facts,
        farewell: &Unit,
        named: &BTreeSet<String>,
        units: &mut Units<'_>,
    ) -> Result<Option<Finding>, BusError> {
        let value = facts.value(&Fact::Ip(None));
        let Some(ip) = value.ok().and_then(|it| it.parse::<IpAddr>().ok()) else {
            return Ok(None);
        };
        let mut early = Vec::new();
        for unit in self.movers(ip, units)? {
            if !named.contains(&unit.id) && !outlives(&unit, farewell, units)? {
                early.push(unit.id);
            }
        }
        if early.is_empty() {
            return Ok(None);
        }
        let names: Vec<&str> = early.iter().map(String::as_str).collect();
        let message = format!(
            "`${{ip}}` is {ip}, an address that {} assigns to this machine, so that another machine may have it when a run \
             uses it: use `${{ip:INTERFACE}}` instead, or add {} to the steps that use it, and run `systemctl \
             daemon-reload`",
            listed(names.iter().copied()),
            line(&[], &names)
        );
        let is_stale = false;
        Ok(Some(Finding { message, is_stale }))
    }

    fn movers(&mut self, address: IpAddr, units: &mut Units<'_>) -> Result<Vec<Unit>, BusError> {
        if let Some(known) = self.movers.get(&address) {
            return Ok(known.clone());
        }
        let found = movers(address, units)?;
        self.movers.insert(address, found.clone());
        Ok(found)
    }

    /// Reports interfaces whose unit is unknown.
    pub(super) fn remark(self, inspection: &mut Inspection) {
        for (interface, steps) in self.unknown {
            let plural = if steps.len() == 1 { "" } else { "s" };
            let steps = listed(steps.iter().map(String::as_str));
            inspection.remarks.push(format!(
                "step{plural} {steps}: packets leave through {interface}, and the unit that sets it up is not known: if one \
                 takes it down at a shutdown, name that unit in `needs`"
            ));
        }
    }
}

/// The units that remove `interface` when they are stopped; empty if unknown.
fn owners(interface: &str, units: &mut Units<'_>) -> Result<Vec<Unit>, BusError> {
    let mut found = Vec::new();
    // Without /proc no holder is known.
    for pid in device_owners::tunnel_holders(interface).unwrap_or_default() {
        match process_owner::owner(pid, units)? {
            Some(ProcessOwner::Unit(unit)) => found.push(unit),
            Some(ProcessOwner::Container { engines, .. }) => found.extend(engines),
            Some(ProcessOwner::Session(_) | ProcessOwner::Nobody(_)) | None => {}
        }
    }
    // wg-quick@wg0.service, ifup@eth0.service: a template for interfaces.
    let templated = units.matching(&format!("*@{interface}.service"))?;
    found.extend(templated.into_iter().filter(|unit| !unit.is_down()));
    if found.is_empty() {
        found = process_owner::running(managers(interface), units)?;
    }
    if found.is_empty() {
        found = process_owner::running(bridges(interface), units)?;
    }
    if found.is_empty() {
        found = units.made_by_commands(interface)?;
    }
    Ok(distinct(found))
}

/// The daemon that manages an interface, according to its files in /run.
fn managers(interface: &str) -> &'static [&'static str] {
    let Ok(index) = routes::interface_index(interface) else {
        return &[];
    };
    let line = |path: String, key: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let mut values = text.lines().filter_map(|line| line.strip_prefix(key));
        values.next().map(str::to_owned)
    };
    let link = line(format!("/run/systemd/netif/links/{index}"), "ADMIN_STATE=");
    if link.is_some_and(|state| state != "unmanaged") {
        return &["systemd-networkd.service"];
    }
    let device = line(format!("/run/NetworkManager/devices/{index}"), "managed=");
    if device.is_some_and(|managed| managed == "true" || managed == "1") {
        return &["NetworkManager.service"];
    }
    let state = format!("{interface}=");
    if line("/run/network/ifstate".to_owned(), &state).is_some() {
        return &["networking.service"];
    }
    &[]
}

/// The engines that create bridges with such a name for their containers and virtual machines.
fn bridges(interface: &str) -> &'static [&'static str] {
    const KNOWN: [(&str, &[&str]); 9] = [
        ("docker", process_owner::DOCKER),
        ("br-", process_owner::DOCKER),
        ("cni", process_owner::KUBERNETES),
        ("flannel", process_owner::KUBERNETES),
        ("cali", process_owner::KUBERNETES),
        ("lxcbr", &["lxc-net.service", "lxc.service"]),
        ("lxdbr", &["lxd.service", "snap.lxd.daemon.service"]),
        ("incusbr", &["incus.service"]),
        (
            "virbr",
            &[
                "libvirt-guests.service",
                "libvirtd.service",
                "virtqemud.service",
            ],
        ),
    ];
    let known = KNOWN
        .iter()
        .find(|(prefix, _)| interface.starts_with(prefix));
    known.map_or(&[], |(_, units)| units)
}

/// The units that assign `address` to this machine: a manager whose configuration names it, or a command.
fn movers(address: IpAddr, units: &mut Units<'_>) -> Result<Vec<Unit>, BusError> {
    let text = address.to_string();
    let is_named = |(_, place): &&(&str, &str)| is_in_files(&text, Path::new(place), 2);
    let names: Vec<&str> = MOVERS
        .iter()
        .filter(is_named)
        .map(|(unit, _)| *unit)
        .collect();
    let mut found = process_owner::running(&names, units)?;
    if found.is_empty() {
        found = units.made_by_commands(&text)?;
    }
    Ok(found)
}

/// Whether a file in or below `directory` contains `word`.
fn is_in_files(word: &str, directory: &Path, depth: usize) -> bool {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => depth > 0 && is_in_files(word, &path, depth - 1),
            Ok(_) => {
                let is_small = fs::metadata(&path).is_ok_and(|it| it.is_file() && it.len() < LIMIT);
                is_small && fs::read_to_string(&path).is_ok_and(|text| has_word(&text, word))
            }
            Err(_) => false,
        }
    })
}

/// Whether `text` contains `word`, not as a part of a longer name or address.
pub(super) fn has_word(text: &str, word: &str) -> bool {
    let belongs = |character: char| character.is_alphanumeric() || ".:_-".contains(character);
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(belongs) && !after.is_some_and(belongs)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_whole() {
        for (text, has) in [
            ("10.0.0.1/24 dev eth0", true),
            ("vip=10.0.0.1", true),
            ("10.0.0.1", true),
            ("10.0.0.10", false),
            ("110.0.0.1", false),
            ("10.0.0.1.5 and\t10.0.0.1;", true),
        ] {
            assert_eq!(has_word(text, "10.0.0.1"), has, "{text}");
        }
        assert!(has_word("/sbin/ip link del wg0", "wg0"));
        assert!(!has_word("/sbin/ip link del wg0-old", "wg0"));
    }

    #[test]
    fn bridges_are_known_by_their_names() {
        assert_eq!(bridges("docker0"), process_owner::DOCKER);
        assert_eq!(bridges("br-0123456789ab"), process_owner::DOCKER);
        assert!(bridges("eth0").is_empty());
    }
}
