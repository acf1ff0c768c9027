//! The kinds of steps.

use crate::step::Kind;

mod command;
mod deregister;
mod http;
mod stop_unit;
mod wait;
mod wait_connections;
mod wait_mounts;

/// All of them.
pub const KINDS: &[Kind] = &[
    command::KIND,
    deregister::KIND,
    http::KIND,
    stop_unit::KIND,
    wait::KIND,
    wait_connections::KIND,
    wait_mounts::KIND,
];
