//! Resolves the addresses of a plan's peers, and the interfaces that lead to them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

use crate::config::facts::Facts;
use crate::model::deadline::Deadline;
use crate::plan::load::Plan;
use crate::plan::step::Step;
use crate::sys::http::Endpoint;
use crate::sys::{host, routes};

/// How long the lookup of one name may take. If it fails, the step's own probe reports it.
const PATIENCE: Duration = Duration::from_secs(5);

/// A step's peer at one of its addresses.
pub struct Addressed<'a> {
    /// The step that talks to it.
    pub step: &'a Step,
    /// The configured endpoint.
    pub endpoint: Endpoint,
    /// One of the addresses of its host.
    pub address: SocketAddr,
}

/// The peers of all steps, once for each address. Names are resolved in parallel. Peers that cannot be resolved, or
/// whose URL is not known yet, are left out: the step's own probe reports them.
pub fn peers<'a>(plan: &'a Plan, facts: &Facts, deadline: Deadline) -> Vec<Addressed<'a>> {
    let mut asked: Vec<(&Step, Endpoint)> = Vec::new();
    for step in &plan.steps {
        let known = step
            .dependencies
            .peers
            .iter()
            .filter_map(|it| it.get_ahead(facts).ok());
        let on_a_network = known.filter(|endpoint| endpoint.socket().is_none());
        asked.extend(on_a_network.map(|endpoint| (step, endpoint)));
    }
    let name = |endpoint: &Endpoint| (endpoint.host().to_owned(), endpoint.port());
    let mut names: Vec<(String, u16)> = Vec::new();
    for (_, endpoint) in &asked {
        let name = name(endpoint);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let resolve = |(host, port): &(String, u16)| {
        let patience = deadline.left().unwrap_or_default().min(PATIENCE);
        host::resolve(host, *port, patience).unwrap_or_default()
    };
    let addresses: Vec<Vec<SocketAddr>> = thread::scope(|threads| {
        let resolve = &resolve;
        let look_ups = (names.iter()).map(|name| threads.spawn(move || resolve(name)));
        let look_ups: Vec<_> = look_ups.collect();
        let found = look_ups.into_iter();
        found.map(|it| it.join().unwrap_or_default()).collect()
    });
    let mut peers = Vec::new();
    for (step, endpoint) in asked {
        let name = name(&endpoint);
        let found = names.iter().zip(&addresses).find(|it| *it.0 == name);
        peers.extend(found.into_iter().flat_map(|it| it.1).map(|it| Addressed {
            step,
            endpoint: endpoint.clone(),
            address: *it,
        }));
    }
    peers
}

/// The interface that leads to each peer over plain http. A run compares it, since nothing else proves who answers.
/// Peers without a route are left out.
pub fn ways(peers: &[Addressed<'_>]) -> BTreeMap<IpAddr, String> {
    let mut ways = BTreeMap::new();
    for peer in peers.iter().filter(|peer| !peer.endpoint.is_https()) {
        if let Ok(Some(interface)) = routes::interface_towards(peer.address) {
            ways.insert(peer.address.ip().to_canonical(), interface);
        }
    }
    ways
}
