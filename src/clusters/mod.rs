//! The clusters that a member can leave safely.

use crate::cluster::Cluster;

/// All of them.
pub const CLUSTERS: &[Cluster] = &[];
