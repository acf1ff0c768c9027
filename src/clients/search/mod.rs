//! The part of the REST API that Elasticsearch (7.13 and later) and OpenSearch share: nodes, their shards, and the
//! exclusion of a node from shard allocation.
//!
//! Source: Elasticsearch's documentation, "Nodes info", "Cluster state", "Cluster-level shard allocation filtering",
//! "Cluster allocation explain"; OpenSearch's pages of the same names.

mod decommission;
mod exclusion;
mod health;
mod shards;

pub use decommission::{ExclusionUndo, has_nowhere_to_go, last_data_node, leave, rehearse};
pub use shards::Shard;

use serde_json::Value;

use crate::clients::http::{Peer, Session, document, peer_ids, unexpected};
use crate::config::facts::Facts;
use crate::config::section::{Field, Secrecy, Section};
use crate::model::error::{ErrorKind, Failure};
use crate::model::intent::Keys;
use crate::step::{AttemptContext, Dependencies};
use crate::sys::http::{Answer, Request};
use health::Wanted;

/// The configuration of a node in its cluster. Its keys:
///
/// - those of every [`Peer`]
/// - `url` (URLs; required): this node's address, or a list that includes it, tried in turn
/// - `node` (string; required): the node's name in the cluster (`node.name`; if not set, the host's name)
/// - `health` ("green" or "yellow"; default "green"): on `reboot`, `kexec` and `soft-reboot` the cluster's health to
///   wait for. "green" waits while shards initialise or relocate, and accepts yellow if nothing moves and each shard of
///   this node has a started copy elsewhere; "yellow" accepts any yellow, as a cluster of one node needs
pub struct Target {
    peer: Peer,
    node: Field<String>,
    health: Wanted,
}

/// A node of a cluster.
pub struct Node {
    /// Its ID, which changes after a start with empty disks.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether shards can be on it.
    pub holds_data: bool,
}

/// A cluster at one attempt, and the node that leaves.
pub struct Client<'a> {
    session: Session<'a>,
    /// The attempt's.
    pub context: &'a AttemptContext<'a>,
    /// The name of the node.
    pub node: String,
    /// The health that is good enough.
    wanted: Wanted,
}

fn node_name(text: &str) -> Result<String, String> {
    match text {
        "" => Err("must not be empty".to_owned()),
        // It goes into a comma-separated list of patterns.
        text if text.contains([',', '*']) || text.trim() != text => {
            Err(format!("`{text}` is not the name of one node"))
        }
        text => Ok(text.to_owned()),
    }
}

impl Target {
    /// Reads its keys.
    pub fn read(section: &Section<'_>) -> Option<Target> {
        let peer = Peer::read(section);
        let node = section.required("node", |section, key| {
            section.text(key, node_name, Secrecy::Public)
        });
        let health = section.choice("health", "health", &health::WORDS);
        let (peer, node) = (peer?, node?);
        Some(Target {
            peer,
            node,
            health: health.unwrap_or(Wanted::Green),
        })
    }

    /// As [`Peer::warn_of_secrets`].
    pub fn warn_of_secrets(&self, section: &Section<'_>) {
        self.peer.warn_of_secrets(section);
    }

    /// The dependencies of a step that talks to it.
    pub fn dependencies(&self) -> Dependencies {
        self.peer.dependencies()
    }

    /// As [`Peer::keep`].
    pub fn keep(&self, facts: &Facts) -> Result<Keys, Failure> {
        let mut kept = self.peer.keep(facts)?;
        kept.insert("node".to_owned(), self.node.keep(facts)?);
        Ok(kept)
    }

    /// Everything ready to send.
    pub fn open<'a>(&'a self, context: &'a AttemptContext<'a>) -> Result<Client<'a>, Failure> {
        Ok(Client {
            session: self.peer.open(context)?,
            context,
            node: self.node.get(context.facts)?,
            wanted: self.health,
        })
    }
}

impl Client<'_> {
    /// Asks, and returns the answer, whatever its status.
    pub fn ask(&self, request: &Request) -> Result<Answer, Failure> {
        self.session.ask(request, self.context.request())
    }

    /// Asks for JSON.
    pub fn must(&self, request: &Request) -> Result<Value, Failure> {
        object(&self.ask(request)?)
    }

    /// As [`Client::must`], of a path.
    pub fn get(&self, path: &str) -> Result<Value, Failure> {
        self.must(&Request::get(path))
    }

    /// A failure of the cluster as a whole.
    pub fn failure(&self, kind: ErrorKind, cause: impl Into<String>) -> Failure {
        Failure::new(kind, self.address(), cause)
    }

    /// The failure of an answer that is not the cluster's, or only temporarily.
    pub fn unexpected_answer(&self, cause: impl Into<String>) -> Failure {
        self.failure(ErrorKind::Protocol, cause).retryable(true)
    }

    /// Where the last answer came from.
    pub fn address(&self) -> String {
        self.session.address()
    }

    /// All nodes of the cluster.
    fn nodes(&self) -> Result<Vec<Node>, Failure> {
        let list = self.get("/_nodes/_all/http?filter_path=nodes.*.name,nodes.*.roles")?;
        let nodes = list["nodes"].as_object().map(|nodes| {
            let node = |(id, it): (&String, &Value)| {
                let roles = it["roles"].as_array().map_or(&[][..], Vec::as_slice);
                Some(Node {
                    id: peer_ids::node_id(id).ok()?,
                    name: it["name"].as_str()?.to_owned(),
                    // data, data_hot, data_content …
                    holds_data: (roles.iter().filter_map(Value::as_str))
                        .any(|role| role.starts_with("data")),
                })
            };
            nodes.iter().map(node).collect::<Option<Vec<_>>>()
        });
        match nodes.flatten() {
            Some(nodes) if !nodes.is_empty() => Ok(nodes),
            _ => Err(self.unexpected_answer("the answer lists no nodes")),
        }
    }

    /// The node and all others; `None`, with a remark, if it has left the cluster.
    ///
    /// An unknown name is that of a node that is gone if one of the configured addresses, which may be its own, does
    /// not answer, and a mistake if all of them do.
    ///
    /// # Errors
    /// Also if no node, or several nodes, have the name.
    pub fn find(&self) -> Result<Option<(Node, Vec<Node>)>, Failure> {
        let (mut own, others): (Vec<_>, Vec<_>) =
            (self.nodes()?.into_iter()).partition(|it| it.name == self.node);
        let name = &self.node;
        if own.len() > 1 {
            let cause = format!("{} nodes are called {name}", own.len());
            return Err(self.failure(ErrorKind::Config, cause));
        }
        if let Some(own) = own.pop() {
            return Ok(Some((own, others)));
        }
        let names: Vec<&str> = others.iter().map(|it| it.name.as_str()).collect();
        let names = names.join(", ");
        for endpoint in self.session.endpoints() {
            let session = self.session.elsewhere(vec![endpoint.clone()]);
            let answer = match session.send(&Request::get("/"), self.context.request()) {
                Ok(answer) => answer,
                Err(failure) => {
                    let remark = format!(
                        "no {name} among the nodes {names}, and {endpoint} does not answer ({}): it has left",
                        failure.kind
                    );
                    self.context.events.remark(&remark);
                    return Ok(None);
                }
            };
            let document = object(&answer)?;
            if document["name"].as_str() == Some(name) {
                let cause = format!("{name} answers, and is not in the cluster of {names}");
                return Err(self.unexpected_answer(cause));
            }
        }
        let cause = format!(
            "no node is called {name}: the nodes are {names} (had it left, one of the addresses in `url` would not answer: \
             its own must be among them)"
        );
        Err(self.failure(ErrorKind::Config, cause))
    }
}

/// The JSON object in an answer.
fn object(answer: &Answer) -> Result<Value, Failure> {
    if !answer.is_success() {
        return Err(unexpected(answer));
    }
    match document(answer) {
        Ok(document) if document.is_object() => Ok(document),
        Err(failure) if answer.truncated => Err(failure),
        _ => {
            let cause = "the answer is not the JSON that was asked for";
            Err(Failure::new(ErrorKind::Protocol, &answer.url, cause).retryable(true))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_one_name() {
        assert!(node_name("n 3").is_ok());
        for text in ["", "n1,n2", "n*", " n1"] {
            assert!(node_name(text).is_err(), "{text:?}");
        }
    }
}
