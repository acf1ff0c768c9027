//! The registries that a member can leave.

use crate::registry::Registry;

mod etcd;
mod file;

/// All of them.
pub const REGISTRIES: &[Registry] = &[etcd::REGISTRY, file::REGISTRY];
