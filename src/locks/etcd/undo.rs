//! Giving up a place in the queue that an earlier run has left.

use super::{VIA, queue};
use crate::clients::etcd::Gateway;
use crate::config::section::{Field, Secrecy, Section, plain, read_kept};
use crate::failure::Failure;
use crate::intent::Intent;
use crate::peer::Peer;
use crate::step::{Action, Effect, Scope};

pub(super) fn undo(intent: &Intent) -> Result<Box<dyn Action>, String> {
    Ok(Box::new(read_kept(&intent.what, read)?))
}

/// A key of the queue, and the value by which it is known to be the own one still.
struct Leaving {
    peer: Peer,
    key: Field<String>,
    holder: Field<String>,
}

fn read(section: &Section<'_>) -> Option<Leaving> {
    let text = |key| section.required(key, |it, key| it.text(key, plain, Secrecy::Public));
    let (peer, key, holder) = (Peer::read(section), text("own"), text("holder"));
    Some(Leaving {
        peer: peer?,
        key: key?,
        holder: holder?,
    })
}

impl Action for Leaving {
    fn attempt(&self, scope: &Scope<'_>) -> Result<Effect, Failure> {
        let gateway = Gateway::open(&self.peer, scope, &[])?;
        let (key, holder) = (self.key.get(scope.facts)?, self.holder.get(scope.facts)?);
        let is_own = |it: &queue::Found| it.value == holder;
        let Some(found) = queue::find(&gateway, &key)?.filter(is_own) else {
            return Ok(Effect::AlreadyDone);
        };
        queue::delete_own(&gateway, &key, &holder)?;
        if found.lease > 0 {
            queue::revoke(&gateway, found.lease)?;
        }
        match queue::find(&gateway, &key)?.filter(is_own) {
            None => Ok(Effect::Done),
            Some(_) => Err(gateway.strange(format!("{key} is there after it was deleted"))),
        }
    }

    fn rehearse(&self, scope: &Scope<'_>) -> Result<String, Failure> {
        let gateway = Gateway::open(&self.peer, scope, &[])?;
        let key = self.key.get(scope.facts)?;
        let found = match queue::find(&gateway, &key)? {
            Some(_) => "there",
            None => "not there, nothing to give up",
        };
        Ok(format!("{} {key}: {found}", VIA.name))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_others_wrote_is_no_undo() {
        let intent = |what: Value| Intent {
            member: "etcd".to_owned(),
            noun: String::new(),
            what,
        };
        assert!(
            undo(&intent(
                json!({"url": ["http://h:1"], "own": "k/1", "holder": "w"})
            ))
            .is_ok()
        );
        for what in [json!(null), json!({}), json!({"url": ["http://h:1"]})] {
            assert!(undo(&intent(what)).is_err());
        }
    }
}
