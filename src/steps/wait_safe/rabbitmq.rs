//! `rabbitmq`: waits until no queue would lose its quorum, or its last synchronised mirror, without this node.

use std::time::Duration;

use serde_json::Value;

use crate::clients::http::{Peer, Session, cut, excerpt, unexpected};
use crate::config::section::Section;
use crate::model::error::{ErrorKind, Failure};
use crate::step::{Action, AttemptContext, AttemptPolicy, Member, Outcome, Poll, StepSpec};
use crate::sys::http::{Answer, Request};

/// The cluster's entry in the table. Its keys:
///
/// - those of every [`Peer`]
/// - `url` (URL; required): the management interface of this node, and no list: the node that answers there is asked
///   about itself
///
/// Source: RabbitMQ's "HTTP API Reference", Health Checks, and `rabbit_mgmt_wm_health_check_node_is_quorum_critical.erl`;
/// RabbitMQ 3.8.10 and later. It asks
///
/// - GET `/api/health/checks/node-is-quorum-critical`: 200 `{"status":"ok"}` is what is waited for; 503
///   `{"status":"failed","reason":…,"queues":[…]}` names the queues that would lose their quorum. 404: no such interface.
/// - GET `/api/health/checks/node-is-mirror-sync-critical`: the same of classic queues with mirrors, which RabbitMQ 4 has no
///   more; 404 is nothing to wait for there.
///
/// It is done when both said so one after the other. A cluster of one node is done, with a remark. 401: refused.
///
/// Nothing sticks.
pub const MEMBER: Member = Member {
    name: "rabbitmq",
    read,
    undo: None,
};

const QUORUM: &str = "/api/health/checks/node-is-quorum-critical";
const MIRRORS: &str = "/api/health/checks/node-is-mirror-sync-critical";

/// How often the node is asked.
const EVERY: Duration = Duration::from_millis(200);

/// How many queues are named.
const SHOWN: usize = 3;

struct RabbitMq(Peer);

fn read(section: &Section<'_>) -> Option<StepSpec> {
    let peer = Peer::read(section)?;
    let dependencies = peer.dependencies();
    if dependencies.peers.len() > 1 {
        let message = "is this node's own address, and no list: the node that answers there is asked about itself";
        section.problem("url", message);
    }
    Some(StepSpec {
        dependencies,
        ..StepSpec::new(RabbitMq(peer), AttemptPolicy::Polled)
    })
}

/// The result of a health check.
enum Health {
    /// The node is not needed, perhaps with a reason.
    Good(Option<String>),
    /// The node is needed, with the reason.
    Critical(String),
}

fn check(
    session: &Session<'_>,
    path: &str,
    context: &AttemptContext<'_>,
) -> Result<Health, Failure> {
    let answer = session.send(&Request::get(path), context.request())?;
    if answer.truncated {
        return match (answer.status, critical_cut(&answer.body)) {
            (503, Some(seen)) => Ok(Health::Critical(seen)),
            _ => Err(cut(&answer).unwrap_or_else(|| unexpected(&answer))),
        };
    }
    let document = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
    let reason = document["reason"].as_str();
    match (answer.status, document["status"].as_str()) {
        (200, Some("ok")) => Ok(Health::Good(reason.map(str::to_owned))),
        (503, Some("failed")) => Ok(Health::Critical(critical(&document))),
        (404, _) if path == MIRRORS => Ok(Health::Good(None)),
        (404, _) => Err(no_interface(&answer)),
        (200..=299, _) => {
            let cause = "the answer is not that of a health check";
            Err(Failure::new(ErrorKind::Protocol, answer.url, cause).retryable(true))
        }
        _ => Err(unexpected(&answer)),
    }
}

fn no_interface(answer: &Answer) -> Failure {
    let cause = "status 404: no management interface of RabbitMQ 3.8.10 or later answers here";
    Failure::new(ErrorKind::Status, &answer.url, cause)
}

/// The same for a truncated answer; `None` if it lists no queues.
fn critical_cut(body: &[u8]) -> Option<String> {
    const KEY: &str = "\"readable_name\":";
    let text = String::from_utf8_lossy(body);
    let beginning = text.trim_start();
    if !beginning.starts_with('{') {
        return None;
    }
    let names: Vec<String> = text
        .split(KEY)
        .skip(1)
        .filter_map(|rest| {
            serde_json::Deserializer::from_str(rest)
                .into_iter()
                .next()?
                .ok()
        })
        .collect();
    let shown = names
        .get(..names.len().min(SHOWN))
        .unwrap_or_default()
        .join(", ");
    let more = names.len().checked_sub(SHOWN + 1)? + 1;
    Some(excerpt(
        format!("{shown} and more than {more} more (the answer was too long to be read whole)")
            .as_bytes(),
    ))
}

/// Which queues need the node: "queue 'q1' in vhost '/'".
fn critical(document: &Value) -> String {
    let reason = document["reason"].as_str().unwrap_or("it is critical");
    let empty = Vec::new();
    let queues = document["queues"].as_array().unwrap_or(&empty);
    let name = |queue: &Value| {
        let readable = queue["readable_name"].as_str().or(queue["name"].as_str());
        readable.unwrap_or("a queue without a name").to_owned()
    };
    let names: Vec<String> = queues.iter().take(SHOWN).map(name).collect();
    let more = match queues.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    excerpt(format!("{}{more} ({reason})", names.join(", ")).as_bytes())
}

impl Action for RabbitMq {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let session = self.0.open(context)?;
        let (mut paths, mut waited) = ([QUORUM, MIRRORS].into_iter(), false);
        let mut path = paths.next();
        context.poll(&|| session.address(), &mut || {
            while let Some(asked) = path {
                match check(&session, asked, context)? {
                    Health::Good(reason) => {
                        if let Some(reason) = reason {
                            context.events.remark(&excerpt(reason.as_bytes()));
                        }
                    }
                    Health::Critical(seen) => {
                        waited = true;
                        return Ok(Poll::Pending(seen, EVERY));
                    }
                }
                path = paths.next();
                // Both checks must succeed one after the other, so the first is repeated.
                if path.is_none() && std::mem::take(&mut waited) {
                    paths = [QUORUM, MIRRORS].into_iter();
                    path = paths.next();
                }
            }
            Ok(Poll::Ready(Outcome::Done))
        })
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let session = self.0.open(context)?;
        let mut said = Vec::new();
        for path in [QUORUM, MIRRORS] {
            if let Health::Critical(seen) = check(&session, path, context)? {
                said.push(seen);
            }
        }
        let state = match said.as_slice() {
            [] => "the cluster can do without it".to_owned(),
            said => format!(
                "not safe at the moment: it would wait for {}",
                said.join("; ")
            ),
        };
        let address = session.address();
        Ok(format!("node at {address}: may be asked; {state}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn queues_are_named_and_the_rest_is_counted() {
        let queue = |name: &str| json!({"name": name, "readable_name": format!("queue '{name}' in vhost '/'"), "type": "quorum", "virtual_host": "/"});
        let document =
            json!({"status": "failed", "reason": "why", "queues": [queue("a"), queue("b")]});
        assert_eq!(
            critical(&document),
            "queue 'a' in vhost '/', queue 'b' in vhost '/' (why)"
        );
        let many = json!({"queues": vec![json!({"name": "q"}); 5]});
        assert_eq!(critical(&many), "q, q, q and 2 more (it is critical)");
    }
}
