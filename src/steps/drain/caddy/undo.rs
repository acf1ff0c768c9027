//! The undo of a drain: the upstream is put back into its list, with its `@id` and at its place.

use serde_json::Value;

use super::admin::Admin;
use super::read_id;
use crate::clients::http::Peer;
use crate::config::section::{Field, Secrecy, Section, plain, read_kept};
use crate::model::error::{ErrorKind, Failure};
use crate::model::intent::Chain;
use crate::step::{Action, AttemptContext, Outcome};

/// Makes the undo of what was taken out last: where it stood then is its place.
pub(super) fn undo(chain: &Chain) -> Result<Box<dyn Action>, String> {
    Ok(Box::new(read_kept(&chain.last().what, read)?))
}

struct PutBack {
    peer: Peer,
    id: Field<String>,
    list: Field<String>,
    index: usize,
    upstream: Field<Value>,
    beside: Vec<Field<String>>,
}

fn read(section: &Section<'_>) -> Option<PutBack> {
    section.know("dial");
    let text = |key| {
        section.required(key, |section, key| {
            section.text(key, plain, Secrecy::Public)
        })
    };
    let list = text("list");
    let upstream = text("upstream").map(|it| it.taken_as(json));
    let index = section.required("index", |section, key| section.integer(key, 0..=i64::MAX));
    let beside = section.texts("beside", plain, Secrecy::Public);
    Some(PutBack {
        id: read_id(section)?,
        peer: Peer::read(section)?,
        list: list?,
        index: usize::try_from(index?).unwrap_or(usize::MAX),
        upstream: upstream?,
        beside: beside.unwrap_or_default(),
    })
}

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

impl PutBack {
    fn admin<'a>(&'a self, context: &'a AttemptContext<'a>) -> Result<Admin<'a>, Failure> {
        let session = self.peer.open(context)?;
        let id = self.id.get(context.facts)?;
        Ok(Admin::new(session, context, &id))
    }

    fn put_back(&self, admin: &Admin<'_>, context: &AttemptContext<'_>) -> Result<(), Failure> {
        let facts = context.facts;
        let (path, object) = (self.list.get(facts)?, self.upstream.get(facts)?);
        let by_hand = |failure: Failure| Failure {
            cause: format!(
                "{}; put it where it belongs by hand: {object}",
                failure.cause
            ),
            ..failure
        };
        let list = admin.list(&path).map_err(|failure| match failure.kind {
            ErrorKind::Refused => by_hand(failure),
            _ => failure,
        })?;
        let mut is_its_own = self.beside.is_empty() || list.dials.is_empty();
        for dial in &self.beside {
            is_its_own |= list.dials.contains(&dial.get(facts)?);
        }
        if !is_its_own {
            let cause =
                format!("the list at {path} has none of the upstreams any more that it had");
            return Err(by_hand(admin.refused(cause)));
        }
        admin.insert(&list, self.index, &object)
    }
}

impl Action for PutBack {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let admin = self.admin(context)?;
        if admin.is_known()? {
            return Ok(Outcome::AlreadyDone);
        }
        self.put_back(&admin, context)?;
        match admin.is_known()? {
            true => Ok(Outcome::Done),
            false => {
                let cause = "is not in its list after it was put there";
                Err(Failure::new(ErrorKind::Protocol, admin.subject(), cause).retryable(true))
            }
        }
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let admin = self.admin(context)?;
        let is = match admin.is_known()? {
            true => "is in its list",
            false => "is out of its list",
        };
        Ok(format!("{} {is}", admin.subject()))
    }
}
