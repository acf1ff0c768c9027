//! The node shutdown API: prepares a node for its stop, and waits until the cluster allows it.

use serde_json::{Value, json};
use std::time::Duration;

use crate::clients::http::{excerpt, unexpected};
use crate::clients::search::{Client, Node, Target, has_nowhere_to_go, last_data_node};
use crate::model::error::Failure;
use crate::model::intent::{Intent, Keys};
use crate::step::{Action, AttemptContext, Outcome, Poll};
use crate::sys::http::Request;

/// How often the cluster is asked.
const EVERY: Duration = Duration::from_millis(200);

/// Marks a shutdown as made by farewell.
const REASON: &str = "farewell: the machine of this node ends";

/// The key of the node's ID in what is kept.
pub(super) const ID: &str = "id";

/// A registered shutdown of a node.
struct Shutdown {
    kind: String,
    reason: String,
    status: String,
    explanation: String,
}

fn path(id: &str) -> String {
    format!("/_nodes/{id}/shutdown")
}

/// The node's registered shutdown, if there is one. A server without the API interprets the path differently, and
/// answers with a table of nodes instead of a list.
fn find_shutdown(client: &Client<'_>, id: &str) -> Result<Option<Shutdown>, Failure> {
    let answer = client.get(&path(id))?;
    if !answer["nodes"].is_array() && !answer["nodes"].is_object() {
        return Err(client.unexpected_answer("the answer lists no nodes"));
    }
    let nodes = answer["nodes"].as_array().into_iter().flatten();
    let mut own = nodes.filter(|it| it["node_id"].as_str() == Some(id));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(own.next().map(|it| Shutdown {
        kind: text(&it["type"]).to_lowercase(),
        reason: text(&it["reason"]),
        status: text(&it["status"]).to_lowercase(),
        explanation: explanation(it),
    }))
}

/// Which parts are not complete, and why.
fn explanation(node: &Value) -> String {
    let parts = ["shard_migration", "persistent_tasks", "plugins"].into_iter();
    let open = parts.filter_map(|part| {
        let status = node[part]["status"].as_str()?.to_lowercase();
        let left = node[part]["shard_migrations_remaining"].as_u64();
        let left = left.map_or(String::new(), |left| format!(", {left} left"));
        let said = node[part]["explanation"].as_str();
        let said = said.map_or(String::new(), |said| {
            format!(": {}", excerpt(said.as_bytes()))
        });
        (status != "complete").then(|| format!("{} {status}{left}{said}", part.replace('_', " ")))
    });
    open.collect::<Vec<_>>().join("; ")
}

/// A shutdown to register.
pub(super) struct NodeShutdown<'a> {
    client: &'a Client<'a>,
    node: &'a Node,
    others: &'a [Node],
    kind: &'static str,
}

impl<'a> NodeShutdown<'a> {
    pub fn new(client: &'a Client<'a>, node: &'a Node, others: &'a [Node]) -> Self {
        let comes_back = client.context.facts.comes_back().is_possible();
        NodeShutdown {
            client,
            node,
            others,
            kind: if comes_back { "restart" } else { "remove" },
        }
    }

    /// Registers it and waits until it is complete; `None` if the server does not have the API.
    pub fn make(&self, member: &str, kept: &Keys) -> Result<Option<Outcome>, Failure> {
        let client = self.client;
        if self.kind == "remove" && has_nowhere_to_go(self.others) {
            let shards = client.shards(self.node)?;
            if !shards.is_empty() {
                return Err(last_data_node(client, &shards));
            }
        }
        let mut kept = kept.clone();
        kept.insert(ID.to_owned(), self.node.id.as_str().into());
        let intent = Intent {
            member: member.to_owned(),
            subject: format!("the shutdown ({}) of node {}", self.kind, self.node.name),
            thing: format!("shutdown of {}", self.node.id),
            what: kept,
        };
        let name = &self.node.name;
        let mut complete = Outcome::AlreadyDone;
        client.context.poll(&|| client.address(), &mut || {
            let seen = find_shutdown(client, &self.node.id)?.filter(|it| it.kind == self.kind);
            let what = match seen {
                Some(it) if it.status == "complete" => return Ok(Poll::Ready(Some(complete))),
                Some(it) => format!(
                    "node {name} to be ready: {} ({})",
                    it.status, it.explanation
                ),
                // Not registered yet, of another kind, or deleted meanwhile.
                None if self.put(&intent)? => format!("node {name} to be ready"),
                None => return Ok(Poll::Ready(None)),
            };
            complete = Outcome::Done;
            Ok(Poll::Pending(what, EVERY))
        })
    }

    /// Whether the server has the API.
    fn put(&self, intent: &Intent) -> Result<bool, Failure> {
        let context = self.client.context;
        let intent_id = context.intend(intent)?;
        let body = json!({"type": self.kind, "reason": REASON});
        let answer = self
            .client
            .ask(&Request::json("PUT", path(&self.node.id), &body))?;
        if answer.is_success() {
            return Ok(true);
        }
        let said = String::from_utf8_lossy(&answer.body);
        if answer.status == 405 || answer.status == 400 && said.contains("no handler found") {
            context.withdraw(intent_id);
            return Ok(false);
        }
        let failure = unexpected(&answer);
        if !failure.retryable {
            context.withdraw(intent_id);
        }
        Err(failure)
    }
}

/// Deletes a registered shutdown.
pub(super) struct ShutdownUndo {
    target: Target,
    id: String,
}

impl ShutdownUndo {
    pub fn new(target: Target, id: String) -> Self {
        ShutdownUndo { target, id }
    }
}

impl Action for ShutdownUndo {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let client = self.target.open(context)?;
        // A shutdown that others have registered since stays.
        let is_own = |it: &Shutdown| it.reason == REASON;
        if find_shutdown(&client, &self.id)?.filter(is_own).is_none() {
            return Ok(Outcome::AlreadyDone);
        }
        let delete = Request {
            method: "DELETE".to_owned(),
            path: path(&self.id),
            ..Request::default()
        };
        let answer = client.ask(&delete)?;
        if !answer.is_success() && answer.status != 404 {
            return Err(unexpected(&answer));
        }
        match find_shutdown(&client, &self.id)?.filter(is_own) {
            None => Ok(Outcome::Done),
            Some(_) => {
                Err(client
                    .unexpected_answer("the shutdown is still registered after it was deleted"))
            }
        }
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let client = self.target.open(context)?;
        let stands = match find_shutdown(&client, &self.id)? {
            Some(it) => format!("a shutdown of type {} is registered", it.kind),
            None => "no shutdown is registered".to_owned(),
        };
        Ok(format!("node {}: {stands}", client.node))
    }
}
