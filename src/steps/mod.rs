//! The kinds of steps.

mod command;
mod copy;
pub mod deregister;
pub mod drain;
mod http;
pub mod lock;
mod stop_unit;
mod wait;
mod wait_connections;
mod wait_mounts;
pub mod wait_safe;

use crate::step::Kind;

/// All of them.
pub const KINDS: &[Kind] = &[
    command::KIND,
    copy::KIND,
    deregister::KIND,
    drain::KIND,
    http::KIND,
    lock::KIND,
    stop_unit::KIND,
    wait::KIND,
    wait_connections::KIND,
    wait_mounts::KIND,
    wait_safe::KIND,
];
