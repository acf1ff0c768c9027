//! The registries that a member can leave.

use crate::registry::Registry;

mod etcd;

/// All of them.
pub const REGISTRIES: &[Registry] = &[etcd::REGISTRY];
