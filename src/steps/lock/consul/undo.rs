//! Releases a place in the queue, or the lock itself, that an earlier run has left.

use super::MEMBER;
use super::requests::{Key, Requests};
use crate::clients::agent::{Agent, CONSUL};
use crate::clients::http::peer_ids;
use crate::config::section::{Field, Secrecy, Section, plain, read_kept};
use crate::model::error::{ErrorKind, Failure};
use crate::model::intent::Chain;
use crate::step::{Action, AttemptContext, Outcome};

/// Successive runs may have taken over the same session, each under its own name.
pub(super) fn undo(chain: &Chain) -> Result<Box<dyn Action>, String> {
    let mut leaving = read_kept(&chain.last().what, read)?;
    leaving.holders = chain.texts("holder");
    Ok(Box::new(leaving))
}

/// The session that the run made first, and the values by which the lock is known to be the own one still: the session
/// that holds it over a reboot is another one.
struct LockUndo {
    agent: Agent,
    lock: Field<String>,
    session: Field<String>,
    holders: Vec<String>,
}

fn read(section: &Section<'_>) -> Option<LockUndo> {
    let text = |key, parse| section.required(key, |it, key| it.text(key, parse, Secrecy::Public));
    let agent = Agent::read(section, CONSUL);
    let lock = text("key", plain as fn(&str) -> Result<String, String>);
    let (session, holder) = (text("session", peer_ids::uuid), text("holder", plain));
    holder?;
    Some(LockUndo {
        agent: agent?,
        lock: lock?,
        session: session?,
        holders: Vec::new(),
    })
}

impl LockUndo {
    fn is_own(&self, key: &Key) -> bool {
        self.holders.contains(&key.value)
    }
}

impl Action for LockUndo {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let requests = Requests::open(&self.agent, context)?;
        let (lock, session) = (
            self.lock.get(context.facts)?,
            self.session.get(context.facts)?,
        );
        let contender = format!("{lock}/{session}");
        let holding = requests.holding(&lock)?.filter(|it| self.is_own(it));
        let waiting = requests
            .find(&contender)?
            .filter(|it| it.session == session);
        if holding.is_none() && waiting.is_none() {
            return Ok(Outcome::AlreadyDone);
        }
        let held = holding.map(|it| it.session);
        if let Some(held) = &held {
            requests.release(&lock, held)?;
            requests.destroy(held)?;
        }
        requests.destroy(&session)?;
        let is_ours = |it: &str| it == session || held.as_deref() == Some(it);
        let keys = [requests.find(&lock)?, requests.find(&contender)?];
        match keys.into_iter().flatten().find(|it| is_ours(&it.session)) {
            None => Ok(Outcome::Done),
            Some(key) => {
                Err(requests
                    .unexpected_answer(format!("{} is held after it was released", key.name)))
            }
        }
    }

    fn renew(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let requests = Requests::open(&self.agent, context)?;
        let lock = self.lock.get(context.facts)?;
        let holding = requests.holding(&lock)?.filter(|it| self.is_own(it));
        let lost = || {
            let cause = format!("this machine does not hold {lock} any more");
            requests.failure(ErrorKind::Refused, cause)
        };
        match holding {
            Some(key) if requests.renew(&key.session)? => Ok(Outcome::Done),
            _ => Err(lost()),
        }
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let requests = Requests::open(&self.agent, context)?;
        let lock = self.lock.get(context.facts)?;
        let is = match requests.holding(&lock)?.is_some_and(|it| self.is_own(&it)) {
            true => "held",
            false => "not held",
        };
        Ok(format!("{} {lock}: {is} by this machine", MEMBER.name))
    }
}
