//! What Nomad tells of this node, asked again as it changes.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::failure;
use crate::failure::{Failure, Word};
use crate::peer::{Session, document, excerpt, unexpected};
use crate::step::Scope;
use crate::sys::http::{Answer, Request, encoded};

/// How long an answer is asked to be held back until something changes.
const HOLD: Duration = Duration::from_secs(20);

/// The least time from one request to the next one while something is waited for.
const EVERY: Duration = Duration::from_millis(200);

/// How many allocations are named.
const NAMED: usize = 3;

/// One attempt's talk with the agent.
pub(super) struct Talk<'a> {
    pub(super) session: Session<'a>,
    pub(super) scope: &'a Scope<'a>,
}

/// What is known of a node.
pub(super) struct Node {
    pub(super) name: String,
    pub(super) drains: bool,
    pub(super) eligible: bool,
    /// The run that the last drain was begun by, where Nomad and that drain tell: empty where it was no run of ours.
    pub(super) drained_by: Option<String>,
}

impl Node {
    /// Whether nothing new comes to it, and no drain goes on.
    pub(super) fn is_drained(&self) -> bool {
        !self.drains && !self.eligible
    }
}

impl Talk<'_> {
    fn send(&self, request: &Request) -> Result<Answer, Failure> {
        self.session
            .send_until(request, self.scope.request(), |answer| answer.status < 500)
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
            Some(id) if !id.is_empty() => Ok(id.to_owned()),
            _ if own["stats"].is_object() => {
                let cause = "this agent is no client of Nomad's: there is nothing to drain";
                Err(Failure::new(Word::Config, answer.url, cause))
            }
            _ => {
                let cause = "the answer is not that of a Nomad agent";
                Err(Failure::new(Word::Protocol, answer.url, cause).passing(true))
            }
        }
    }

    /// The node as it is now; `None` where Nomad knows no such node.
    pub(super) fn node(&self, id: &str) -> Result<Option<Node>, Failure> {
        let answer = self.send(&Request::get(format!("/v1/node/{}", encoded(id))))?;
        match answer.status {
            200 => node(&answer).map(Some),
            404 if excerpt(&answer.body).contains("node not found") => Ok(None),
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
        let cause = "the answer does not tell whether the node drains";
        return Err(Failure::new(Word::Protocol, answer.url.clone(), cause).passing(true));
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

/// Looks at one node, each of which is answered when there is something new.
pub(super) struct Watch<'a> {
    talk: &'a Talk<'a>,
    node: String,
    ignores_system_jobs: bool,
    /// Of the answers so far: of the node itself, and of its allocations.
    indices: [Option<String>; 2],
}

impl<'a> Watch<'a> {
    pub(super) fn new(talk: &'a Talk<'a>, id: &str, ignores_system_jobs: bool) -> Self {
        Watch {
            talk,
            node: format!("/v1/node/{}", encoded(id)),
            ignores_system_jobs,
            indices: [None, None],
        }
    }

    fn look(&mut self, which: usize, hold: bool) -> Result<Answer, Failure> {
        let mut path = self.node.clone() + ["", "/allocations"][which];
        if let Some(index) = self.indices[which].as_ref().filter(|_| hold) {
            // Nomad adds up to a sixteenth.
            let left = self.talk.scope.request().left().unwrap_or_default();
            let wait = (left * 3 / 4).min(HOLD).as_millis().max(1);
            path = format!("{path}?index={}&wait={wait}ms", encoded(index));
        }
        let answer = self.talk.get(&path)?;
        self.indices[which] = answer.header("x-nomad-index").map(str::to_owned);
        Ok(answer)
    }

    pub(super) fn look_at_node(&mut self) -> Result<Node, Failure> {
        node(&self.look(0, false)?)
    }

    /// The names of the allocations that are there still.
    pub(super) fn look_at_allocations(&mut self) -> Result<Vec<String>, Failure> {
        let answer = self.look(1, false)?;
        self.live(&answer)
    }

    fn live(&self, answer: &Answer) -> Result<Vec<String>, Failure> {
        let document = document(answer)?;
        let Some(allocations) = document.as_array() else {
            let cause = "the answer is no list of allocations";
            return Err(Failure::new(Word::Protocol, answer.url.clone(), cause).passing(true));
        };
        let is_live = |it: &&Value| {
            let is_ignored = self.ignores_system_jobs && it["Job"]["Type"] == "system";
            !is_ignored && (it["ClientStatus"] == "running" || it["ClientStatus"] == "pending")
        };
        let name = |it: &Value| {
            it["Name"]
                .as_str()
                .unwrap_or("one without a name")
                .to_owned()
        };
        Ok(allocations.iter().filter(is_live).map(name).collect())
    }

    /// Waits until the drain has ended and nothing is left. What is live is watched, and then the drain.
    pub(super) fn until_drained(&mut self) -> Result<(), Failure> {
        let scope = self.talk.scope;
        let mut live = self.look_at_allocations()?;
        loop {
            let node = self.look_at_node()?;
            if node.is_drained() && live.is_empty() {
                return Ok(());
            }
            if !node.drains && node.eligible {
                let cause = "somebody has ended its drain";
                return Err(failure(&node.name, Word::Refused, cause));
            }
            let what = match live.len() {
                0 => "the end of the drain".to_owned(),
                1 => format!("1 allocation: {}", live[0]),
                count => {
                    let more = if count > NAMED { ", …" } else { "" };
                    let names = live[..count.min(NAMED)].join(", ");
                    format!("{count} allocations: {names}{more}")
                }
            };
            scope
                .voice
                .waiting(&format!("{what} on node {}", node.name));
            let begun = Instant::now();
            let looked = if live.is_empty() {
                self.look(0, true).map(drop)
            } else {
                self.look(1, true)
                    .and_then(|answer| self.live(&answer))
                    .map(|it| live = it)
            };
            if live.is_empty() && looked.is_ok() {
                live = self.look_at_allocations()?;
            }
            let paused = scope.cancel.sleep(EVERY.saturating_sub(begun.elapsed()));
            let _ = paused;
            if scope.cancel.is_cancelled() || scope.deadline.left().is_none() {
                let cause = format!("still drains; left is {what}");
                return Err(failure(&node.name, Word::TimedOut, cause));
            }
            looked?;
        }
    }
}
