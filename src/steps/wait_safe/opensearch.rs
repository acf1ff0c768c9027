//! `opensearch`: excludes this node from allocation, and waits until no shard is left on it.

use crate::clients::search::{self, ExclusionUndo, Target};
use crate::config::section::{Section, read_kept};
use crate::model::error::Failure;
use crate::model::intent::Chain;
use crate::step::{Action, AttemptContext, AttemptPolicy, Member, Outcome, StepSpec};

/// The cluster's word.
const NAME: &str = "opensearch";

/// The cluster's entry in the table. Its keys:
///
/// - those of every [`Target`]
///
/// Source: OpenSearch's documentation, "Cluster settings", "Cluster allocation explain"; OpenSearch 2.19. It asks
///
/// - GET `/_nodes/_all/http`: whether the cluster knows the node. One that it does not know has left where one of the
///   addresses does not answer, and is a mistake (`config`) where all do.
/// - GET and PUT `/_cluster/settings`: adds the node's name to `cluster.routing.allocation.exclude._name`, one comma list
///   for the whole cluster, which is read again each second, since others write it too. 200 says nothing of shards.
/// - GET `/_cluster/state/routing_nodes`: what is on the node. Done is it when that is nothing.
/// - POST `/_cluster/allocation/explain`: why a shard stays. One of which every other node has a copy never leaves: refused.
///   So is the last node that can hold data, unless nothing is on it.
///
/// On a machine that comes back nothing is excluded, and nothing is moved:
///
/// - GET `/_cluster/health`: done is it when that is good enough (the key `health`).
/// - GET `/_cluster/state/routing_nodes`: whether other nodes have the shards of this one, where that matters.
///
/// The exclusion sticks: its undo takes the name out of the list, and leaves the other names in it.
pub const MEMBER: Member = Member {
    name: NAME,
    read,
    undo: Some(undo),
};

struct OpenSearch(Target);

fn read(section: &Section<'_>) -> Option<StepSpec> {
    let target = Target::read(section)?;
    target.warn_of_secrets(section);
    let dependencies = target.dependencies();
    Some(StepSpec {
        dependencies,
        ..StepSpec::new(OpenSearch(target), AttemptPolicy::Polled)
    })
}

fn undo(chain: &Chain) -> Result<Box<dyn Action>, String> {
    Ok(Box::new(ExclusionUndo(read_kept(
        &chain.last().what,
        Target::read,
    )?)))
}

impl Action for OpenSearch {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let client = self.0.open(context)?;
        match client.find()? {
            // Nothing is moved for a node that comes back: the cluster must do without it meanwhile.
            Some((node, _)) if context.facts.comes_back().is_possible() => {
                client.wait_for_health(&node)?;
                Ok(Outcome::Done)
            }
            Some((node, others)) => {
                search::leave(&client, NAME, &self.0.keep(context.facts)?, &node, &others)
            }
            None => Ok(Outcome::AlreadyDone),
        }
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        search::rehearse(&self.0.open(context)?)
    }
}
