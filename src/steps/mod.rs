//! The kinds of steps.

use crate::step::Kind;

mod command;
mod copy;
mod deregister;
mod http;
mod lock;
mod stop_unit;
mod wait;
mod wait_connections;
mod wait_mounts;
mod wait_safe;

/// All of them.
pub const KINDS: &[Kind] = &[
    command::KIND,
    copy::KIND,
    deregister::KIND,
    http::KIND,
    lock::KIND,
    stop_unit::KIND,
    wait::KIND,
    wait_connections::KIND,
    wait_mounts::KIND,
    wait_safe::KIND,
];
