//! This node's state in Nomad, followed by blocking queries.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::failure;
use crate::clients::agent::Agent;
use crate::clients::http::{Session, document, peer_ids, unexpected};
use crate::model::error::{ErrorKind, Failure};
use crate::step::AttemptContext;
use crate::sys::http::{Answer, Request, encoded};

/// How long a blocking query lasts.
const HOLD: Duration = Duration::from_secs(20);

/// The minimum time between two requests while waiting.
const EVERY: Duration = Duration::from_millis(250);

/// How old the node's state may be while allocations are watched: an operator may end its drain.
const GLANCE: Duration = Duration::from_secs(2);

/// How many allocations are named.
const NAMED: usize = 3;

/// The agent at one attempt.
pub(super) struct Client<'a> {
    pub(super) session: Session<'a>,
    pub(super) context: &'a AttemptContext<'a>,
}

/// What is known of a node.
pub(super) struct Node {
    pub(super) name: String,
    pub(super) drains: bool,
    pub(super) eligible: bool,
    /// The run that began the last drain, if known; empty if it was not one of farewell's.
    pub(super) drained_by: Option<String>,
}

impl Node {
    /// Whether it is ineligible, and no drain is in progress.
    pub(super) fn is_drained(&self) -> bool {
        !self.drains && !self.eligible
    }
}

impl<'a> Client<'a> {
    pub(super) fn open(
        agent: &'a Agent,
        context: &'a AttemptContext<'a>,
    ) -> Result<Client<'a>, Failure> {
        Ok(Client {
            session: agent.open(context)?,
            context,
        })
    }

    fn send(&self, request: &Request) -> Result<Answer, Failure> {
        self.session.ask(request, self.context.request())
    }

    fn get(&self, path: &str) -> Result<Answer, Failure> {
        let answer = self.send(&Request::get(path))?;
        match answer.status {
            200 => Ok(answer),
            _ => Err(unexpected(&answer)),
        }
    }

    /// The ID of the node that the agent is.
    pub(super) fn own_id(&self) -> Result<String, Failure> {
        let answer = self.get("/v1/agent/self")?;
        let own = document(&answer)?;
        match own["stats"]["client"]["node_id"].as_str() {
            Some(id) if peer_ids::uuid(id).is_ok() => Ok(id.to_owned()),
            Some(id) if !id.is_empty() => {
                let cause = "the agent names its node by an ID that is not a UUID";
                Err(Failure::new(ErrorKind::Protocol, answer.url, cause).retryable(true))
            }
            _ if own["stats"].is_object() => {
                let cause = "this agent is not a Nomad client: there is nothing to drain";
                Err(Failure::new(ErrorKind::Config, answer.url, cause))
            }
            _ => {
                let cause = "the answer is not that of a Nomad agent";
                Err(Failure::new(ErrorKind::Protocol, answer.url, cause).retryable(true))
            }
        }
    }

    /// The node as it is now; `None` where Nomad knows no such node.
    pub(super) fn node(&self, id: &str) -> Result<Option<Node>, Failure> {
        let answer = self.send(&Request::get(format!("/v1/node/{}", encoded(id))))?;
        match answer.status {
            200 => node(&answer).map(Some),
            404 if answer.says("node not found") => Ok(None),
            _ => Err(unexpected(&answer)),
        }
    }

    /// Changes whether a node drains.
    pub(super) fn drain(&self, id: &str, body: &Value) -> Result<Answer, Failure> {
        let path = format!("/v1/node/{}/drain", encoded(id));
        self.send(&Request::json("PUT", path, body))
    }
}

fn node(answer: &Answer) -> Result<Node, Failure> {
    let node = document(answer)?;
    let (name, eligibility) = (
        node["Name"].as_str(),
        node["SchedulingEligibility"].as_str(),
    );
    let (Some(name), Some(eligibility), Some(strategy)) =
        (name, eligibility, node.get("DrainStrategy"))
    else {
        let cause = "the answer does not say whether the node drains";
        return Err(Failure::new(ErrorKind::Protocol, answer.url.clone(), cause).retryable(true));
    };
    let last = &node["LastDrain"];
    let by = last.is_object().then(|| {
        let run = last["Meta"]["farewell"].as_str();
        run.unwrap_or_default().to_owned()
    });
    Ok(Node {
        name: name.to_owned(),
        drains: !strategy.is_null(),
        eligible: eligibility == "eligible",
        drained_by: by,
    })
}

/// Blocking queries about one node.
pub(super) struct NodeWatch<'a> {
    client: &'a Client<'a>,
    id: String,
    ignores_system_jobs: bool,
    /// The indices of the last answers: for the node, and for its allocations.
    indices: [Option<String>; 2],
    /// Whether to request short allocations: full ones, which include their jobs, were too long.
    in_short: bool,
}

impl<'a> NodeWatch<'a> {
    pub(super) fn new(client: &'a Client<'a>, id: &str, ignores_system_jobs: bool) -> Self {
        NodeWatch {
            client,
            id: id.to_owned(),
            ignores_system_jobs,
            indices: [None, None],
            in_short: false,
        }
    }

    fn path(&self, which: usize) -> String {
        let id = &self.id;
        match (which, self.in_short) {
            (0, _) => format!("/v1/node/{}", encoded(id)),
            (_, false) => format!("/v1/node/{}/allocations", encoded(id)),
            (_, true) => {
                let status = r#"(ClientStatus == "running" or ClientStatus == "pending")"#;
                let filter = encoded(&format!("NodeID == {id:?} and {status}"));
                format!("/v1/allocations?namespace=%2A&task_states=false&filter={filter}")
            }
        }
    }

    fn look(&mut self, which: usize, hold: bool) -> Result<Answer, Failure> {
        let mut path = self.path(which);
        if let Some(index) = self.indices[which].as_ref().filter(|_| hold) {
            // Nomad adds up to a sixteenth.
            let left = self.client.context.request().left().unwrap_or_default();
            let wait = (left * 3 / 4).min(HOLD).as_millis().max(1);
            let sign = if path.contains('?') { '&' } else { '?' };
            path = format!("{path}{sign}index={}&wait={wait}ms", encoded(index));
        }
        let answer = self.client.get(&path)?;
        self.indices[which] = answer.header("x-nomad-index").map(str::to_owned);
        Ok(answer)
    }

    pub(super) fn look_at_node(&mut self) -> Result<Node, Failure> {
        node(&self.look(0, false)?)
    }

    /// The names of the remaining allocations.
    pub(super) fn look_at_allocations(&mut self) -> Result<Vec<String>, Failure> {
        self.live(false)
    }

    /// The same, with a blocking query if `hold`.
    fn live(&mut self, hold: bool) -> Result<Vec<String>, Failure> {
        let mut answer = self.look(1, hold)?;
        if answer.truncated && !self.in_short {
            self.in_short = true;
            answer = self.look(1, false)?;
        }
        let document = document(&answer)?;
        let Some(allocations) = document.as_array() else {
            let cause = "the answer is not a list of allocations";
            return Err(Failure::new(ErrorKind::Protocol, answer.url, cause).retryable(true));
        };
        let is_live = |it: &&Value| {
            // Before 1.3, without filters, the short list has those of all nodes.
            let is_elsewhere = it["NodeID"].as_str().is_some_and(|node| node != self.id);
            let is_system = it["Job"]["Type"] == "system" || it["JobType"] == "system";
            let is_ignored = is_elsewhere || self.ignores_system_jobs && is_system;
            !is_ignored && (it["ClientStatus"] == "running" || it["ClientStatus"] == "pending")
        };
        let name = |it: &Value| {
            let name = it["Name"].as_str();
            name.unwrap_or("one without a name").to_owned()
        };
        Ok(allocations.iter().filter(is_live).map(name).collect())
    }

    /// Waits until the drain has ended and nothing is left on the node: watches allocations first, then the drain.
    pub(super) fn until_drained(&mut self, name: &str) -> Result<(), Failure> {
        let context = self.client.context;
        let mut live = self.look_at_allocations()?;
        let mut seen = Instant::now();
        loop {
            let begun = Instant::now();
            if live.is_empty() || seen.elapsed() > GLANCE {
                let node = node(&self.look(0, live.is_empty())?)?;
                seen = Instant::now();
                if !node.drains && node.eligible {
                    return Err(failure(
                        name,
                        ErrorKind::Refused,
                        "somebody has ended its drain",
                    ));
                }
                // Checked once more: the drain may have ended meanwhile.
                if node.is_drained() && live.is_empty() {
                    live = self.look_at_allocations()?;
                    if live.is_empty() {
                        return Ok(());
                    }
                }
            }
            let what = left(&live);
            context.events.waiting(&format!("{what} on node {name}"));
            if !live.is_empty() {
                live = self.live(true)?;
            }
            if !context.pause(EVERY.saturating_sub(begun.elapsed())) {
                let cause = format!("it is not drained; left is {what}");
                return Err(failure(name, ErrorKind::TimedOut, cause));
            }
        }
    }
}

/// What is left, as a noun.
fn left(live: &[String]) -> String {
    match live {
        [] => "the end of the drain".to_owned(),
        [one] => format!("1 allocation: {one}"),
        some => {
            let more = if some.len() > NAMED { ", …" } else { "" };
            let names = some[..some.len().min(NAMED)].join(", ");
            format!("{} allocations: {names}{more}", some.len())
        }
    }
}
