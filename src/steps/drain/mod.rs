//! `drain`: takes a server out of its balancer, then waits until nothing of it is in flight.

mod caddy;
mod config_file;
mod consul;
mod envoy;
mod file;
mod haproxy;
mod haproxy_dataplane;
mod haproxy_server;
mod in_flight;
mod nginx;
mod requests;
mod traefik;

use crate::config::section::Section;
use crate::model::intent::{Chain, Datum, Keys};
use crate::step::{Action, Kind, Member, StepSpec};

use config_file::ConfigFile;
use haproxy_server::{Load, server_name};
use in_flight::{pause, rehearse_all, settle, until_all_quiet, until_quiet};
use requests::{ask, declared, keep_one, must};

/// The kind's entry in the table. Its keys:
///
/// - `balancer` (balancer; required): what the server is taken out of, and so which other keys the step has
pub const KIND: Kind = Kind {
    name: "drain",
    read,
    undo: Some(undo),
};

/// The balancers that a server can be drained from.
pub const BALANCERS: &[Member] = &[
    caddy::MEMBER,
    consul::MEMBER,
    envoy::MEMBER,
    file::MEMBER,
    haproxy::MEMBER,
    haproxy_dataplane::MEMBER,
    nginx::MEMBER,
    traefik::MEMBER,
];

fn read(section: &Section<'_>) -> Option<StepSpec> {
    Member::read(section, "balancer", "balancer", BALANCERS)
}

fn undo(chain: &Chain) -> Result<Box<dyn Action>, String> {
    Member::undo("balancer", BALANCERS, chain)
}

/// The keys of an intent.
fn keys(keys: Vec<(&str, Datum)>) -> Keys {
    let keys = keys.into_iter().map(|(key, it)| (key.to_owned(), it));
    keys.collect()
}
