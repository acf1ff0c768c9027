//! The undo of a drain.

use serde_json::json;

use super::failure;
use super::node::Talk;
use crate::clients::agent::{Agent, NOMAD};
use crate::config::section::{Field, Secrecy, Section, plain, read_kept};
use crate::failure::{Failure, Word};
use crate::intent::Intent;
use crate::peer::unexpected;
use crate::step::{Action, Effect, Scope};

/// Makes the undo of what [`super::Nomad`] has declared.
pub(super) fn undo(intent: &Intent) -> Result<Box<dyn Action>, String> {
    Ok(Box::new(read_kept(&intent.what, read)?))
}

/// Makes a node eligible again.
struct Undrain {
    agent: Agent,
    node: Field<String>,
    /// The run that has begun the drain.
    run: Field<String>,
    /// Whether it was eligible before that.
    eligible: bool,
}

fn read(section: &Section<'_>) -> Option<Undrain> {
    let agent = Agent::read(section, NOMAD);
    let text = |section: &Section<'_>, key| section.text(key, plain, Secrecy::Public);
    let node = section.required("node", text);
    let run = section.required("run", text);
    let eligible = section.required("eligible", |section, key| section.boolean(key));
    Some(Undrain {
        agent: agent?,
        node: node?,
        run: run?,
        eligible: eligible?,
    })
}

impl Action for Undrain {
    fn attempt(&self, scope: &Scope<'_>) -> Result<Effect, Failure> {
        let talk = Talk::open(&self.agent, scope)?;
        let id = self.node.get(scope.facts)?;
        let run = self.run.get(scope.facts)?;
        let Some(node) = talk.node(&id)? else {
            scope.voice.remark("Nomad knows no such node any more");
            return Ok(Effect::AlreadyDone);
        };
        if !node.drains && node.eligible == self.eligible {
            return Ok(Effect::AlreadyDone);
        }
        // Nomad before 1.1 does not tell whose the last drain was.
        if node.drained_by.as_ref().is_some_and(|by| *by != run) {
            let remark = "somebody else has drained this node since: it is left as it is";
            scope.voice.remark(remark);
            return Ok(Effect::AlreadyDone);
        }
        let body = json!({"DrainSpec": null, "MarkEligible": self.eligible});
        let answer = talk.drain(&id, &body)?;
        if !answer.is_success() {
            return Err(unexpected(&answer));
        }
        match talk.node(&id)? {
            Some(node) if node.drains || node.eligible != self.eligible => {
                let cause = "is not as it was before its drain, which was taken back";
                Err(failure(&node.name, Word::Protocol, cause).passing(true))
            }
            _ => Ok(Effect::Done),
        }
    }

    fn rehearse(&self, scope: &Scope<'_>) -> Result<String, Failure> {
        let talk = Talk::open(&self.agent, scope)?;
        let id = self.node.get(scope.facts)?;
        let state = match talk.node(&id)? {
            None => "not there any more",
            Some(node) if node.drains => "draining",
            Some(node) if node.eligible => "eligible",
            Some(_) => "ineligible",
        };
        Ok(format!("node {id}: {state}"))
    }
}
