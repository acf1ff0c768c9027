//! The shards on a node, and why one of them stays.

use std::fmt;

use serde_json::{Value, json};

use super::{Client, Node};
use crate::model::error::Failure;
use crate::sys::http::Request;

/// A copy of a shard that is on the node, or relocating from or to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// The name of its index.
    pub index: String,
    /// Its number.
    pub number: u64,
    /// Whether it is the primary one.
    pub is_primary: bool,
    /// Whether it is relocating.
    pub moves: bool,
}

impl fmt::Display for Shard {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = if self.is_primary {
            "primary"
        } else {
            "replica"
        };
        write!(out, "[{}][{}] ({role})", self.index, self.number)
    }
}

/// Why a shard stays where it is.
pub(super) struct MoveRefusal {
    /// In words.
    pub cause: String,
    /// Whether every other node has a copy of it, so that only a change of the index or the cluster can move it.
    pub is_everywhere: bool,
}

impl Client<'_> {
    /// The node's shards in the cluster state; the health colour may stay green while a shard cannot move.
    pub fn shards(&self, node: &Node) -> Result<Vec<Shard>, Failure> {
        let id = &node.id;
        // The filtered answer is empty without shards, so another field is requested, too.
        let path = format!(
            "/_cluster/state/routing_nodes?filter_path=cluster_name,routing_nodes.nodes.{id}"
        );
        let state = self.get(&path)?;
        if !state["cluster_name"].is_string() {
            return Err(self.unexpected_answer("the answer holds no cluster state"));
        }
        let list = match &state["routing_nodes"]["nodes"][id] {
            Value::Null => return Ok(Vec::new()),
            list => list.as_array(),
        };
        let shards = list.map(|list| list.iter().map(shard).collect::<Option<Vec<_>>>());
        shards
            .flatten()
            .ok_or_else(|| self.unexpected_answer("the answer lists no shards"))
    }

    /// Why it stays; `None` if the cluster does not say, or it no longer stays.
    pub(super) fn move_refusal(
        &self,
        shard: &Shard,
        node: &Node,
    ) -> Result<Option<MoveRefusal>, Failure> {
        let mut body =
            json!({"index": shard.index, "shard": shard.number, "primary": shard.is_primary});
        if !shard.is_primary {
            body["current_node"] = node.id.as_str().into();
        }
        let answer = self.ask(&Request::json(
            "POST",
            "/_cluster/allocation/explain",
            &body,
        ))?;
        // 400 and 404: the shard is gone.
        let document = serde_json::from_slice::<Value>(&answer.body).ok();
        let document = document.filter(|_| answer.is_success());
        Ok(document.as_ref().and_then(move_refusal))
    }

    /// Whether shards are on their way anywhere in the cluster.
    pub(super) fn is_moving(&self) -> Result<bool, Failure> {
        let health = self.get(
            "/_cluster/health?filter_path=cluster_name,relocating_shards,initializing_shards",
        )?;
        let count = |key: &str| health[key].as_u64();
        match (count("relocating_shards"), count("initializing_shards")) {
            (Some(relocating), Some(initializing)) => Ok(relocating + initializing > 0),
            _ => Err(self.unexpected_answer("the answer holds no health")),
        }
    }
}

fn shard(value: &Value) -> Option<Shard> {
    Some(Shard {
        index: value["index"].as_str()?.to_owned(),
        number: value["shard"].as_u64()?,
        is_primary: value["primary"].as_bool()?,
        moves: value["state"].as_str()? != "STARTED",
    })
}

fn move_refusal(explanation: &Value) -> Option<MoveRefusal> {
    let verdict = explanation["can_move_to_other_node"].as_str()?;
    if verdict == "yes" {
        return None;
    }
    let empty = Vec::new();
    let decisions = explanation["node_allocation_decisions"]
        .as_array()
        .unwrap_or(&empty);
    let deciders = |node: &'_ Value| -> Vec<(String, String)> {
        let list = node["deciders"].as_array().into_iter().flatten();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        list.map(|it| (text(&it["decider"]), text(&it["explanation"])))
            .collect()
    };
    let has_copy = |node: &Value| deciders(node).iter().any(|(name, _)| name == "same_shard");
    let is_everywhere = verdict == "no" && !decisions.is_empty() && decisions.iter().all(has_copy);
    let causes: Vec<String> = decisions
        .iter()
        .map(|node| {
            let name = node["node_name"].as_str().unwrap_or("a node");
            let said = deciders(node).into_iter().next();
            let said = said.map_or_else(
                || node["node_decision"].as_str().unwrap_or("no").to_owned(),
                // The text in brackets repeats the shard.
                |(_, said)| said.split(" [[").next().unwrap_or_default().to_owned(),
            );
            format!("{name}: {said}")
        })
        .collect();
    let cause = if causes.is_empty() {
        verdict.to_owned()
    } else {
        causes.join("; ")
    };
    Some(MoveRefusal {
        cause: crate::clients::http::excerpt(cause.as_bytes()),
        is_everywhere,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_is_everywhere_is_told_from_one_that_waits() {
        let node = |name: &str, decider: &str, said: &str| json!({"node_name": name, "node_decision": "no", "deciders": [{"decider": decider, "decision": "NO", "explanation": said}]});
        let copy = |name: &str| {
            node(
                name,
                "same_shard",
                "a copy is already allocated to this node [[full][0], node[x]]",
            )
        };
        let explanation = |verdict: &str, nodes: Vec<Value>| json!({"can_move_to_other_node": verdict, "node_allocation_decisions": nodes});
        let seen =
            move_refusal(&explanation("no", vec![copy("n1"), copy("n2")])).expect("an obstacle");
        assert!(seen.is_everywhere);
        assert_eq!(
            seen.cause,
            "n1: a copy is already allocated to this node; n2: a copy is already allocated to this node"
        );
        let full = node(
            "n2",
            "disk_threshold",
            "the node is above the high watermark",
        );
        let seen = move_refusal(&explanation("no", vec![copy("n1"), full])).expect("an obstacle");
        assert!(!seen.is_everywhere && seen.cause.contains("n2: the node is above"));
        let seen = move_refusal(&explanation("throttled", vec![copy("n1")])).expect("an obstacle");
        assert!(!seen.is_everywhere);
        assert!(move_refusal(&explanation("yes", Vec::new())).is_none());
        assert!(move_refusal(&json!({})).is_none());
    }
}
