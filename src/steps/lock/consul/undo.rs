//! Giving up a place in the queue, or the lock itself, that an earlier run has left.

use super::VIA;
use super::kv::{Key, Kv};
use crate::clients::agent::{Agent, CONSUL};
use crate::clients::http::id_form;
use crate::config::section::{Field, Secrecy, Section, plain, read_kept};
use crate::model::error::{Failure, Word};
use crate::model::intent::Chain;
use crate::step::{Action, Effect, Scope};

/// One run after another may have taken the same session over, each under its own name.
pub(super) fn undo(chain: &Chain) -> Result<Box<dyn Action>, String> {
    let mut leaving = read_kept(&chain.last().what, read)?;
    leaving.holders = chain.texts("holder");
    Ok(Box::new(leaving))
}

/// The session that the run made first, and the values by which the lock is known to be the own one still: the session
/// that holds it over a reboot is another one.
struct Leaving {
    agent: Agent,
    lock: Field<String>,
    session: Field<String>,
    holders: Vec<String>,
}

fn read(section: &Section<'_>) -> Option<Leaving> {
    let text = |key, parse| section.required(key, |it, key| it.text(key, parse, Secrecy::Public));
    let agent = Agent::read(section, CONSUL);
    let lock = text("key", plain as fn(&str) -> Result<String, String>);
    let (session, holder) = (text("session", id_form::uuid), text("holder", plain));
    holder?;
    Some(Leaving {
        agent: agent?,
        lock: lock?,
        session: session?,
        holders: Vec::new(),
    })
}

impl Leaving {
    fn is_own(&self, key: &Key) -> bool {
        self.holders.contains(&key.value)
    }

    fn open<'a>(&'a self, scope: &'a Scope<'a>) -> Result<Kv<'a>, Failure> {
        Ok(Kv {
            session: self.agent.open(scope)?,
            scope,
        })
    }
}

impl Action for Leaving {
    fn attempt(&self, scope: &Scope<'_>) -> Result<Effect, Failure> {
        let kv = self.open(scope)?;
        let (lock, session) = (self.lock.get(scope.facts)?, self.session.get(scope.facts)?);
        let contender = format!("{lock}/{session}");
        let holding = kv.find(&lock)?;
        let holding = holding.filter(|it| !it.session.is_empty() && self.is_own(it));
        let waiting = kv.find(&contender)?.filter(|it| it.session == session);
        if holding.is_none() && waiting.is_none() {
            return Ok(Effect::AlreadyDone);
        }
        let held = holding.map(|it| it.session);
        if let Some(held) = &held {
            kv.release(&lock, held)?;
            kv.destroy(held)?;
        }
        kv.destroy(&session)?;
        let is_ours = |it: &str| it == session || held.as_deref() == Some(it);
        let keys = [kv.find(&lock)?, kv.find(&contender)?];
        match keys.into_iter().flatten().find(|it| is_ours(&it.session)) {
            None => Ok(Effect::Done),
            Some(key) => Err(kv.strange(format!("{} is held after it was released", key.name))),
        }
    }

    fn renew(&self, scope: &Scope<'_>) -> Result<Effect, Failure> {
        let kv = self.open(scope)?;
        let lock = self.lock.get(scope.facts)?;
        let holding = kv.find(&lock)?;
        let holding = holding.filter(|it| !it.session.is_empty() && self.is_own(it));
        let lost = || {
            let cause = format!("this machine does not hold {lock} any more");
            kv.failure(Word::Refused, cause)
        };
        match holding {
            Some(key) if kv.renew(&key.session)? => Ok(Effect::Done),
            _ => Err(lost()),
        }
    }

    fn rehearse(&self, scope: &Scope<'_>) -> Result<String, Failure> {
        let kv = self.open(scope)?;
        let lock = self.lock.get(scope.facts)?;
        let found = match kv.find(&lock)? {
            Some(key) if self.is_own(&key) && !key.session.is_empty() => "held by this machine",
            _ => "not held by this machine",
        };
        Ok(format!("{} {lock}: {found}", VIA.name))
    }
}
