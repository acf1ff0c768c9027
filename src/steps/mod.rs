//! The kinds of steps.

use crate::step::Kind;

mod deregister;

/// All of them.
pub const KINDS: &[Kind] = &[deregister::KIND];
