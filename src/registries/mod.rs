//! The registries that a member can leave.

use crate::registry::Registry;

/// All of them.
pub const REGISTRIES: &[Registry] = &[];
