//! The clusters that a member can leave safely.

use crate::cluster::Cluster;

mod elasticsearch;
mod etcd;
mod opensearch;
mod rabbitmq;

/// All of them.
pub const CLUSTERS: &[Cluster] = &[
    elasticsearch::CLUSTER,
    etcd::CLUSTER,
    opensearch::CLUSTER,
    rabbitmq::CLUSTER,
];
