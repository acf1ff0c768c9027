//! The registries that a member can leave.

use crate::registry::Registry;

mod file;

/// All of them.
pub const REGISTRIES: &[Registry] = &[file::REGISTRY];
