//! Releases a place in the queue that an earlier run has left.

use super::{MEMBER, requests};
use crate::clients::etcd::Client;
use crate::clients::http::Peer;
use crate::config::section::{Field, Secrecy, Section, plain, read_kept};
use crate::model::error::{ErrorKind, Failure};
use crate::model::intent::Chain;
use crate::step::{Action, AttemptContext, Outcome};

/// Successive runs may have taken over the same key, each under its own name.
pub(super) fn undo(chain: &Chain) -> Result<Box<dyn Action>, String> {
    let (peer, key) = read_kept(&chain.last().what, read)?;
    Ok(Box::new(LockUndo {
        peer,
        key,
        holders: chain.texts("holder"),
    }))
}

/// A key of the queue, and the values by which it is known to be the own one still.
struct LockUndo {
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

impl Action for LockUndo {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let client = Client::open(&self.peer, context, &[])?;
        let key = self.key.get(context.facts)?;
        let is_own = |it: &requests::Entry| self.holders.contains(&it.value);
        let Some(entry) = requests::find(&client, &key)?.filter(is_own) else {
            return Ok(Outcome::AlreadyDone);
        };
        requests::delete_own(&client, &key, &entry.value)?;
        if entry.lease > 0 {
            requests::revoke(&client, entry.lease)?;
        }
        match requests::find(&client, &key)?.filter(is_own) {
            None => Ok(Outcome::Done),
            Some(_) => {
                Err(client.unexpected_answer(format!("{key} is there after it was deleted")))
            }
        }
    }

    fn renew(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let client = Client::open(&self.peer, context, &[])?;
        let key = self.key.get(context.facts)?;
        let is_own = |it: &requests::Entry| self.holders.contains(&it.value);
        let Some(entry) = requests::find(&client, &key)?.filter(is_own) else {
            return Err(client.failure(ErrorKind::Refused, format!("{key} is not there any more")));
        };
        if entry.lease > 0 && !requests::keep_alive(&client, entry.lease)? {
            return Err(client.failure(
                ErrorKind::Refused,
                format!("the lease of {key} has expired"),
            ));
        }
        Ok(Outcome::Done)
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let client = Client::open(&self.peer, context, &[])?;
        let key = self.key.get(context.facts)?;
        let state = match requests::find(&client, &key)? {
            Some(_) => "there",
            None => "not there, nothing to give up",
        };
        Ok(format!("{} {key}: {state}", MEMBER.name))
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
                subject: String::new(),
                thing: "k/1".to_owned(),
                what: keys.iter().map(key).collect(),
            }))
        };
        let url = ("url", "http://h:1");
        assert!(undo(&[url, ("own", "k/1"), ("holder", "w")]).is_ok());
        assert!(undo(&[]).is_err() && undo(&[url]).is_err());
    }
}
