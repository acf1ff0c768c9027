//! `nomad`: drains this machine's node, and waits until nothing runs on it.

mod node;
mod undo;

use std::time::Duration;

use serde_json::json;

use crate::clients::agent::{Agent, NOMAD};
use crate::clients::http::unexpected;
use crate::config::section::Section;
use crate::model::error::{ErrorKind, Failure};
use crate::model::intent::Intent;
use crate::model::secrets::mask;
use crate::step::{self, Action, AttemptContext, AttemptPolicy, Member, Outcome, StepSpec};
use crate::sys::sync::Mutex;
use crate::text::duration;
use node::{Client, NodeWatch};

/// The registry's entry in the table. Its keys:
///
/// - those of every [`Agent`]
/// - `url` (URLs; default "http://127.0.0.1:4646"): the agent on this machine, whose node is drained
/// - `token` (string; default none): the ACL token, sent as `X-Nomad-Token`; a secret, best as `${credential:NAME}`
/// - `deadline` (duration; default three quarters of the time that the step has, and at least all but 10s): how long
///   allocations may take to move away before Nomad stops them; shorter than `timeout`; `"0s"`: they are stopped at
///   once
/// - `ignore-system-jobs` (boolean; default true): whether to leave allocations of system jobs running
///
/// Source: Nomad's documentation, "Nodes HTTP API", and `command/agent/node_endpoint.go`; the replies were seen on 2.0.6.
///
/// | request | replies |
/// |---|---|
/// | `GET /v1/agent/self` | 200: `stats.client.node_id` is this node. 403: refused |
/// | `GET /v1/node/ID?index=N&wait=T` | 200: whether it drains and is eligible. 404 `node not found` |
/// | `GET /v1/node/ID/allocations?index=N&wait=T` | 200: what is on it; where that is too long, what `/v1/allocations` has |
/// | `PUT /v1/node/ID/drain` `{"DrainSpec":{"Deadline":ns,"IgnoreSystemJobs":true}}` | 200: it drains. 4xx: refused, nothing is left |
/// | `PUT /v1/node/ID/drain` `{"DrainSpec":null,"MarkEligible":true}` (the undo) | 200 |
///
/// It has left when `DrainStrategy` is null, it is ineligible, and no allocation on it is running or pending: at the drain's
/// deadline the first is so before the last. Who is found so has left already. A drain that somebody else has begun is
/// waited for as it is. The drain is sticky: it outlives a restart of the agent and of the machine.
pub const MEMBER: Member = Member {
    name: "nomad",
    read,
    undo: Some(undo::undo),
};

/// The most of the step's time that is reserved for after the drain's deadline, when tasks end.
const ROOM: Duration = Duration::from_secs(10);

struct Nomad {
    agent: Agent,
    deadline: Option<Duration>,
    ignores_system_jobs: bool,
    /// The node that an earlier attempt has begun to drain.
    begun: Mutex<Option<String>>,
}

fn read(section: &Section<'_>) -> Option<StepSpec> {
    let agent = Agent::read(section, NOMAD);
    let deadline = section.duration("deadline");
    let timeout = section.duration_elsewhere("timeout");
    let timeout = timeout.unwrap_or(step::TIMEOUT);
    if deadline.is_some_and(|deadline| deadline >= timeout) {
        let message = format!(
            "must be shorter than the step's timeout, {}: what Nomad stops at the deadline takes its time to end",
            duration::print(timeout)
        );
        section.problem("deadline", message);
    }
    let ignores_system_jobs = section.boolean("ignore-system-jobs").unwrap_or(true);
    let agent = agent?;
    agent.warn_of_secrets(section);
    let dependencies = agent.dependencies();
    Some(StepSpec {
        dependencies,
        ..StepSpec::new(
            Nomad {
                agent,
                deadline,
                ignores_system_jobs,
                begun: Mutex::default(),
            },
            AttemptPolicy::Polled,
        )
    })
}

impl Nomad {
    /// The drain's deadline in nanoseconds for Nomad, which leaves some of the step's time for what comes after it. To
    /// Nomad 0 means "no deadline", and a negative number "at once".
    fn nanoseconds(&self, context: &AttemptContext<'_>) -> i64 {
        let left = context.deadline.left().unwrap_or_default();
        let fitting = left - (left / 4).min(ROOM);
        let deadline = match self.deadline {
            Some(deadline) if deadline < left => deadline,
            Some(_) => {
                let time = duration::print(fitting);
                let remark =
                    format!("the drain's deadline was shortened to {time} to fit the step's time");
                context.events.remark(&remark);
                fitting
            }
            None => fitting,
        };
        match i64::try_from(deadline.as_nanos()) {
            Ok(0) => -1,
            Ok(nanoseconds) => nanoseconds,
            Err(_) => i64::MAX,
        }
    }

    /// Begins the drain of a node that is `eligible` or is not.
    fn drain(
        &self,
        client: &Client<'_>,
        id: &str,
        name: &str,
        eligible: bool,
    ) -> Result<(), Failure> {
        let context = client.context;
        let run = context.facts.run();
        let mut what = self.agent.keep(context.facts)?;
        what.insert("node".to_owned(), id.into());
        what.insert("run".to_owned(), run.into());
        what.insert("eligible".to_owned(), eligible.into());
        let intent_id = context.intend(&Intent {
            member: MEMBER.name.to_owned(),
            // A peer's text may contain anything.
            subject: format!("the drain of node {}", mask(name)),
            thing: format!("node {id}"),
            what,
        })?;
        self.begin(Some(id.to_owned()));
        let spec = json!({
            "Deadline": self.nanoseconds(context),
            "IgnoreSystemJobs": self.ignores_system_jobs,
        });
        let meta = json!({"message": "farewell: the machine leaves", "farewell": run});
        let body = json!({"DrainSpec": spec, "MarkEligible": false, "Meta": meta});
        let answer = client.drain(id, &body)?;
        if matches!(answer.status, 400..=499) {
            context.withdraw(intent_id);
            self.begin(None);
        }
        match answer.is_success() {
            true => Ok(()),
            false => Err(unexpected(&answer)),
        }
    }

    fn begin(&self, node: Option<String>) {
        *self.begun.lock() = node;
    }

    fn has_begun(&self, node: &str) -> bool {
        let begun = self.begun.lock();
        begun.as_deref() == Some(node)
    }
}

impl Action for Nomad {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let client = Client::open(&self.agent, context)?;
        let id = client.own_id()?;
        let mut watch = NodeWatch::new(&client, &id, self.ignores_system_jobs);
        let node = watch.look_at_node()?;
        let begun = self.has_begun(&id);
        if !begun && node.is_drained() && watch.look_at_allocations()?.is_empty() {
            return Ok(Outcome::AlreadyDone);
        }
        if node.drains && !begun {
            let remark = "somebody else has begun to drain this node, with a deadline of their own";
            context.events.remark(remark);
        } else if !node.drains && (node.eligible || !begun) {
            self.drain(&client, &id, &node.name, node.eligible)?;
        }
        watch.until_drained(&node.name)?;
        Ok(Outcome::Done)
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let client = Client::open(&self.agent, context)?;
        let id = client.own_id()?;
        let mut watch = NodeWatch::new(&client, &id, self.ignores_system_jobs);
        let node = watch.look_at_node()?;
        let live = watch.look_at_allocations()?;
        let address = client.session.address();
        let state = match (node.drains, node.eligible) {
            (true, _) => "draining",
            (false, true) => "eligible",
            (false, false) => "ineligible",
        };
        let found = match live.len() {
            0 => "nothing on it to move away".to_owned(),
            1 => "1 allocation to move away".to_owned(),
            count => format!("{count} allocations to move away"),
        };
        Ok(format!(
            "node {} at {address}: {state}, {found}; whether this token may drain it is not known",
            node.name
        ))
    }
}

/// The failure that a node is not in the expected state.
fn failure(name: &str, kind: ErrorKind, cause: impl Into<String>) -> Failure {
    Failure::new(kind, format!("node {name}"), cause)
}
