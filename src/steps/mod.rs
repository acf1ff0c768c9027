//! The kinds of steps.

use crate::step::Kind;

mod deregister;
mod http;

/// All of them.
pub const KINDS: &[Kind] = &[deregister::KIND, http::KIND];
