//! The peers of a plan with their addresses, and the interfaces that lead to them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

use crate::config::facts::Facts;
use crate::model::deadline::Deadline;
use crate::plan::load::Plan;
use crate::plan::steps::Step;
use crate::sys::http::Endpoint;
use crate::sys::{host, routes};

/// How long one name may take to be resolved. Where it does not, the step's own probe tells.
const PATIENCE: Duration = Duration::from_secs(5);

/// A step's peer at one of its addresses.
pub struct Addressed<'a> {
    /// The step that talks to it.
    pub step: &'a Step,
    /// Where, as it is configured.
    pub endpoint: Endpoint,
    /// One of the addresses of its host.
    pub address: SocketAddr,
}

/// The peers of all steps, once for each of their addresses. Names are resolved side by side. What cannot be resolved,
/// or whose URL is not known yet, is left out: the step's own probe tells of it.
pub fn peers<'a>(plan: &'a Plan, facts: &Facts, deadline: Deadline) -> Vec<Addressed<'a>> {
    let mut asked: Vec<(&Step, Endpoint)> = Vec::new();
    for step in &plan.steps {
        let known = step
            .dependencies
            .peers
            .iter()
            .filter_map(|it| it.get(facts).ok());
        let on_a_network = known.filter(|endpoint| endpoint.socket().is_none());
        asked.extend(on_a_network.map(|endpoint| (step, endpoint)));
    }
    let key = |endpoint: &Endpoint| (endpoint.host().to_owned(), endpoint.port());
    let keys: BTreeSet<(String, u16)> = asked.iter().map(|(_, endpoint)| key(endpoint)).collect();
    let resolve = |(host, port): &(String, u16)| {
        let patience = deadline.left().unwrap_or_default().min(PATIENCE);
        host::resolve(host, *port, patience).unwrap_or_default()
    };
    let addresses: BTreeMap<&(String, u16), Vec<SocketAddr>> = thread::scope(|threads| {
        let resolve = &resolve;
        let asking = keys
            .iter()
            .map(|key| (key, threads.spawn(move || resolve(key))));
        let asking: Vec<_> = asking.collect();
        let found = asking
            .into_iter()
            .map(|(key, it)| (key, it.join().unwrap_or_default()));
        found.collect()
    });
    let mut peers = Vec::new();
    for (step, endpoint) in asked {
        let found = addresses.get(&key(&endpoint)).into_iter().flatten();
        peers.extend(found.map(|address| Addressed {
            step,
            endpoint: endpoint.clone(),
            address: *address,
        }));
    }
    peers
}

/// The interface that leads to each peer that speaks plain http: what a run compares, since nothing else proves to it
/// who answers. Peers to which no route leads now are left out.
pub fn ways(peers: &[Addressed<'_>]) -> BTreeMap<IpAddr, String> {
    let plain = peers.iter().filter(|peer| !peer.endpoint.is_https());
    plain
        .filter_map(|peer| {
            let interface = routes::interface_towards(peer.address).ok().flatten()?;
            Some((peer.address.ip().to_canonical(), interface))
        })
        .collect()
}
