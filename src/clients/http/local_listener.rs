//! Finds which user would get credentials that are sent to an address of this machine.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt as _;

use crate::config::facts::Facts;
use crate::step::Dependencies;
use crate::sys::http::Endpoint;
use crate::sys::{host, listeners, signals};

/// The uids of ordinary users in systemd and login.defs(5); the last range is that of systemd-homed.
const USERS: [RangeInclusive<u32>; 2] = [1000..=60000, 60001..=60513];

/// Whether what is sent there stays on this machine: a unix socket, the loopback, or an address of its own.
pub(super) fn is_of_this_machine(endpoint: &Endpoint) -> bool {
    endpoint.socket().is_some() || !local(endpoint).is_empty()
}

/// The addresses of an endpoint's host that are this machine's; only loopback names are looked up.
fn local(endpoint: &Endpoint) -> Vec<SocketAddr> {
    let name = endpoint.host().trim_end_matches('.');
    let addresses: Vec<IpAddr> = match name.parse::<IpAddr>() {
        Ok(address) if is_own(address.to_canonical()) => vec![address],
        Ok(_) => Vec::new(),
        Err(_) if name == "localhost" || name.ends_with(".localhost") => {
            vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
        }
        Err(_) => Vec::new(),
    };
    let at_port = |it| SocketAddr::new(it, endpoint.port());
    addresses.into_iter().map(at_port).collect()
}

fn is_own(address: IpAddr) -> bool {
    let is_listed = || host::addresses().is_ok_and(|own| own.contains(&address));
    address.is_loopback() || address.is_unspecified() || is_listed()
}

/// Warns of peers on this machine that get credentials, if an ordinary user listens there. Over TLS a certificate
/// proves the peer.
pub fn warnings(dependencies: &Dependencies, facts: &Facts) -> Vec<String> {
    let peers = dependencies
        .peers
        .iter()
        .filter(|_| dependencies.credentials);
    let peers = peers.filter_map(|it| it.get(facts).ok());
    let mut warnings: Vec<String> = peers
        .filter(|it| !it.is_https())
        .filter_map(|endpoint| {
            let user = owner(&endpoint)?;
            Some(format!(
                "the user with the id {user} listens at {endpoint}, and would get the credentials of this step: anybody can \
                 listen there while the service is down; have it listen on a unix socket in a directory of its own, or speak \
                 TLS"
            ))
        })
        .collect();
    warnings.dedup();
    warnings
}

/// The ordinary user who listens there; `None` for system users, this process' user, or nobody.
fn owner(endpoint: &Endpoint) -> Option<u32> {
    let users: Vec<u32> = match endpoint.socket() {
        Some(path) => fs::metadata(path).map(|it| it.uid()).into_iter().collect(),
        None => listeners::users(&local(endpoint)).unwrap_or_default(),
    };
    let is_ordinary = |it: &u32| USERS.iter().any(|range| range.contains(it));
    let own = signals::user();
    users.into_iter().find(|it| is_ordinary(it) && *it != own)
}
