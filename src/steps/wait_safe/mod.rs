//! `wait-safe`: waits until the cluster can do without this member.

mod elasticsearch;
mod etcd;
mod hazelcast;
mod opensearch;
mod rabbitmq;

use crate::config::section::Section;
use crate::model::intent::Chain;
use crate::step::{Action, Kind, Member, StepSpec};

/// The clusters that a member can leave safely. An attempt waits until the cluster is safe without this member, and
/// does what the protocol offers for that, such as moving data or leadership away. A rehearsal does not fail if the
/// cluster is not safe at the moment.
pub const CLUSTERS: &[Member] = &[
    elasticsearch::MEMBER,
    etcd::MEMBER,
    hazelcast::MEMBER,
    opensearch::MEMBER,
    rabbitmq::MEMBER,
];

/// The kind's entry in the table. Its keys:
///
/// - `cluster` (cluster; required): the cluster; determines the step's other keys
pub const KIND: Kind = Kind {
    name: "wait-safe",
    read,
    undo: Some(undo),
};

fn read(section: &Section<'_>) -> Option<StepSpec> {
    Member::read(section, "cluster", "cluster", CLUSTERS)
}

fn undo(chain: &Chain) -> Result<Box<dyn Action>, String> {
    Member::undo("cluster", CLUSTERS, chain)
}
