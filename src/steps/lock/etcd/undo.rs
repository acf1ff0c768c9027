//! Giving up a place in the queue that an earlier run has left.

use super::{VIA, queue};
use crate::clients::etcd::Gateway;
use crate::clients::http::Peer;
use crate::config::section::{Field, Secrecy, Section, plain, read_kept};
use crate::model::error::{Failure, Word};
use crate::model::intent::Chain;
use crate::step::{Action, Effect, Scope};

/// One run after another may have taken the same key over, each under its own name.
pub(super) fn undo(chain: &Chain) -> Result<Box<dyn Action>, String> {
    let (peer, key) = read_kept(&chain.last().what, read)?;
    Ok(Box::new(Leaving {
        peer,
        key,
        holders: chain.texts("holder"),
    }))
}

/// A key of the queue, and the values by which it is known to be the own one still.
struct Leaving {
    peer: Peer,
    key: Field<String>,
    holders: Vec<String>,
}

fn read(section: &Section<'_>) -> Option<(Peer, Field<String>)> {
    let text = |key| section.required(key, |it, key| it.text(key, plain, Secrecy::Public));
    let (peer, key, holder) = (Peer::read(section), text("own"), text("holder"));
    holder?;
    Some((peer?, key?))
}

impl Action for Leaving {
    fn attempt(&self, scope: &Scope<'_>) -> Result<Effect, Failure> {
        let gateway = Gateway::open(&self.peer, scope, &[])?;
        let key = self.key.get(scope.facts)?;
        let is_own = |it: &queue::Found| self.holders.contains(&it.value);
        let Some(found) = queue::find(&gateway, &key)?.filter(is_own) else {
            return Ok(Effect::AlreadyDone);
        };
        queue::delete_own(&gateway, &key, &found.value)?;
        if found.lease > 0 {
            queue::revoke(&gateway, found.lease)?;
        }
        match queue::find(&gateway, &key)?.filter(is_own) {
            None => Ok(Effect::Done),
            Some(_) => Err(gateway.strange(format!("{key} is there after it was deleted"))),
        }
    }

    fn renew(&self, scope: &Scope<'_>) -> Result<Effect, Failure> {
        let gateway = Gateway::open(&self.peer, scope, &[])?;
        let key = self.key.get(scope.facts)?;
        let is_own = |it: &queue::Found| self.holders.contains(&it.value);
        let Some(found) = queue::find(&gateway, &key)?.filter(is_own) else {
            return Err(gateway.failure(Word::Refused, format!("{key} is not there any more")));
        };
        if found.lease > 0 && !queue::keep_alive(&gateway, found.lease)? {
            return Err(gateway.failure(Word::Refused, format!("the lease of {key} has expired")));
        }
        Ok(Effect::Done)
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
    use super::*;
    use crate::model::intent::{Datum, Intent};

    #[test]
    fn what_others_wrote_is_no_undo() {
        let undo = |keys: &[(&str, &str)]| {
            let key = |(key, text): &(&str, &str)| ((*key).to_owned(), Datum::from(*text));
            super::undo(&Chain::new(Intent {
                member: "etcd".to_owned(),
                noun: String::new(),
                thing: "k/1".to_owned(),
                what: keys.iter().map(key).collect(),
            }))
        };
        let url = ("url", "http://h:1");
        assert!(undo(&[url, ("own", "k/1"), ("holder", "w")]).is_ok());
        assert!(undo(&[]).is_err() && undo(&[url]).is_err());
    }
}
