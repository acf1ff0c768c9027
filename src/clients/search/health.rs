//! Whether a cluster can do without a node for a while: its health, and the copies of the node's shards.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::Value;

use super::{Client, Node};
use crate::model::error::Failure;
use crate::step::Poll;

/// How often the cluster is asked.
const EVERY: Duration = Duration::from_millis(200);

/// How many shards are named.
const SHOWN: usize = 3;

/// The health that is good enough for a node that comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Green, or yellow with nothing moving and a started copy of each shard of this node on another one.
    Green,
    /// Yellow, whatever moves and wherever the copies are.
    Yellow,
}

/// The words of the configuration.
pub(super) const WORDS: [(&str, Wanted); 2] =
    [("green", Wanted::Green), ("yellow", Wanted::Yellow)];

/// The result of one check.
pub(super) enum HealthCheck {
    /// Good enough, perhaps with a remark.
    Sufficient(Option<String>),
    /// What is waited for.
    Insufficient(String),
}

/// A copy of a shard: its index, its number, and the node that it is on.
struct ShardCopy {
    index: String,
    number: u64,
    node: String,
}

impl Client<'_> {
    /// Waits until the cluster's health is good enough for a node that comes back, and remarks on the rest.
    ///
    /// # Errors
    /// As [`Client::get`]; what it still waits for at the deadline.
    pub fn wait_for_health(&self, node: &Node) -> Result<(), Failure> {
        let context = self.context;
        context.poll(&|| self.address(), &mut || {
            Ok(match self.health(node)? {
                HealthCheck::Sufficient(remark) => {
                    remark.into_iter().for_each(|it| context.events.remark(&it));
                    Poll::Ready(())
                }
                HealthCheck::Insufficient(seen) => {
                    Poll::Pending(format!("the cluster's health: {seen}"), EVERY)
                }
            })
        })
    }

    /// The health as it is now.
    pub(super) fn health(&self, node: &Node) -> Result<HealthCheck, Failure> {
        let health = self.get(
            "/_cluster/health?filter_path=status,relocating_shards,initializing_shards,unassigned_shards",
        )?;
        let count = |key: &str| health[key].as_u64();
        let (Some(status), Some(relocating), Some(initializing), Some(unassigned)) = (
            health["status"].as_str().map(str::to_ascii_lowercase),
            count("relocating_shards"),
            count("initializing_shards"),
            count("unassigned_shards"),
        ) else {
            return Err(self.unexpected_answer("the answer holds no health"));
        };
        let mut told = status.clone();
        for (count, state) in [
            (unassigned, "unassigned"),
            (initializing, "initializing"),
            (relocating, "relocating"),
        ] {
            if count > 0 {
                told += &format!(", {count} {state}");
            }
        }
        match (status.as_str(), self.wanted) {
            ("green" | "yellow", Wanted::Yellow) => {
                Ok(HealthCheck::Sufficient((status != "green").then_some(told)))
            }
            ("green" | "yellow", Wanted::Green) if relocating + initializing > 0 => {
                Ok(HealthCheck::Insufficient(told))
            }
            ("green", Wanted::Green) => Ok(HealthCheck::Sufficient(self.alone(node)?.map(|alone| {
                format!(
                    "green, but without a replica, and so not available until this node is back: {alone}"
                )
            }))),
            ("yellow", Wanted::Green) => Ok(match self.alone(node)? {
                None => {
                    let name = &self.node;
                    HealthCheck::Sufficient(Some(format!(
                        "{told}; nothing moves, and each shard of {name} has a copy on another node"
                    )))
                }
                Some(alone) => HealthCheck::Insufficient(format!(
                    "{told}; no started copy on another node has {alone}"
                )),
            }),
            _ => Ok(HealthCheck::Insufficient(told)),
        }
    }

    /// The node's shards without a started copy on another node; `None` if there are none.
    fn alone(&self, node: &Node) -> Result<Option<String>, Failure> {
        // The filtered answer is empty for nodes without shards, so another field is requested, too.
        let path = "/_cluster/state/routing_nodes?filter_path=cluster_name,routing_nodes.nodes.*.index,\
                    routing_nodes.nodes.*.shard,routing_nodes.nodes.*.state";
        let state = self.get(path)?;
        let (own, elsewhere): (Vec<_>, Vec<_>) = shard_copies(&state)
            .ok_or_else(|| self.unexpected_answer("the answer holds no cluster state"))?
            .into_iter()
            .partition(|it| it.node == node.id);
        let elsewhere: HashSet<_> = elsewhere.iter().map(|it| (&it.index, it.number)).collect();
        let alone = own
            .iter()
            .filter(|it| !elsewhere.contains(&(&it.index, it.number)));
        let alone: Vec<String> = alone
            .map(|it| format!("[{}][{}]", it.index, it.number))
            .collect();
        let more = match alone.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let shown = alone.iter().take(SHOWN).cloned().collect::<Vec<_>>();
        Ok((!alone.is_empty()).then(|| format!("{}{more}", shown.join(", "))))
    }
}

/// All started copies; `None` if the answer is not a cluster state.
fn shard_copies(state: &Value) -> Option<Vec<ShardCopy>> {
    state["cluster_name"].as_str()?;
    let mut all = Vec::new();
    for (node, list) in state["routing_nodes"]["nodes"]
        .as_object()
        .into_iter()
        .flatten()
    {
        for shard in list.as_array()? {
            // A relocating one counts until it has moved.
            if matches!(shard["state"].as_str()?, "STARTED" | "RELOCATING") {
                all.push(ShardCopy {
                    index: shard["index"].as_str()?.to_owned(),
                    number: shard["shard"].as_u64()?,
                    node: node.clone(),
                });
            }
        }
    }
    Some(all)
}
