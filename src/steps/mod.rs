//! The kinds of steps.

use crate::step::Kind;

mod command;
mod deregister;
mod http;
mod wait;
mod wait_connections;
mod wait_mounts;

/// All of them.
pub const KINDS: &[Kind] = &[
    command::KIND,
    deregister::KIND,
    http::KIND,
    wait::KIND,
    wait_connections::KIND,
    wait_mounts::KIND,
];
