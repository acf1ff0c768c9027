//! The clusters that a member can leave safely.

use crate::cluster::Cluster;

mod hazelcast;

/// All of them.
pub const CLUSTERS: &[Cluster] = &[hazelcast::CLUSTER];
