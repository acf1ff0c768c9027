//! The clusters that a member can leave safely.

use crate::cluster::Cluster;

mod elasticsearch;
mod etcd;
mod hazelcast;
mod opensearch;
mod rabbitmq;

/// All of them.
pub const CLUSTERS: &[Cluster] = &[
    elasticsearch::CLUSTER,
    etcd::CLUSTER,
    hazelcast::CLUSTER,
    opensearch::CLUSTER,
    rabbitmq::CLUSTER,
];
