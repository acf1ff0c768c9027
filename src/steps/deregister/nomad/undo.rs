//! The undo of a drain.

use serde_json::json;

use super::failure;
use super::node::Client;
use crate::clients::agent::{Agent, NOMAD};
use crate::clients::http::{peer_ids, unexpected};
use crate::config::section::{Field, Secrecy, Section, plain, read_kept};
use crate::model::error::{ErrorKind, Failure};
use crate::model::intent::Chain;
use crate::step::{Action, AttemptContext, Outcome};

/// Makes the undo of what [`super::Nomad`] has declared. Successive runs found the node as the previous one had left
/// it: the first one has the original state.
pub(super) fn undo(chain: &Chain) -> Result<Box<dyn Action>, String> {
    let last = read_kept(&chain.last().what, read)?;
    let first = read_kept(&chain.first().what, read)?;
    Ok(Box::new(DrainUndo {
        kept: RecordedDrain {
            eligible: first.eligible,
            ..last
        },
        runs: chain.texts("run"),
    }))
}

/// Makes a node eligible again.
struct DrainUndo {
    kept: RecordedDrain,
    /// The runs that have begun a drain of it.
    runs: Vec<String>,
}

/// What one run has left in its record.
struct RecordedDrain {
    agent: Agent,
    node: Field<String>,
    /// Whether it was eligible before the drain.
    eligible: bool,
}

fn read(section: &Section<'_>) -> Option<RecordedDrain> {
    let agent = Agent::read(section, NOMAD);
    let text = |parse| move |it: &Section<'_>, key| it.text(key, parse, Secrecy::Public);
    let node = section.required("node", text(peer_ids::uuid));
    let run = section.required("run", text(plain));
    let eligible = section.required("eligible", |section, key| section.boolean(key));
    run?;
    Some(RecordedDrain {
        agent: agent?,
        node: node?,
        eligible: eligible?,
    })
}

impl Action for DrainUndo {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let RecordedDrain { agent, node, .. } = &self.kept;
        let eligible = self.kept.eligible;
        let client = Client::open(agent, context)?;
        let id = node.get(context.facts)?;
        let Some(node) = client.node(&id)? else {
            context.events.remark("Nomad knows no such node any more");
            return Ok(Outcome::AlreadyDone);
        };
        if !node.drains && node.eligible == eligible {
            return Ok(Outcome::AlreadyDone);
        }
        // Nomad before 1.1 does not show who began the last drain.
        let is_others = |by: &String| !self.runs.contains(by);
        if node.drained_by.as_ref().is_some_and(is_others) {
            let remark = "somebody else has drained this node since: it is left as it is";
            context.events.remark(remark);
            return Ok(Outcome::AlreadyDone);
        }
        let body = json!({"DrainSpec": null, "MarkEligible": eligible});
        let answer = client.drain(&id, &body)?;
        if !answer.is_success() {
            return Err(unexpected(&answer));
        }
        match client.node(&id)? {
            Some(node) if node.drains || node.eligible != eligible => {
                let cause = "is not as it was before its drain, which was taken back";
                Err(failure(&node.name, ErrorKind::Protocol, cause).retryable(true))
            }
            _ => Ok(Outcome::Done),
        }
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let client = Client::open(&self.kept.agent, context)?;
        let id = self.kept.node.get(context.facts)?;
        let state = match client.node(&id)? {
            None => "not there any more",
            Some(node) if node.drains => "draining",
            Some(node) if node.eligible => "eligible",
            Some(_) => "ineligible",
        };
        Ok(format!("node {id}: {state}"))
    }
}
