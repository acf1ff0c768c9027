//! The clusters that a member can leave safely.

use crate::cluster::Cluster;

mod etcd;

/// All of them.
pub const CLUSTERS: &[Cluster] = &[etcd::CLUSTER];
