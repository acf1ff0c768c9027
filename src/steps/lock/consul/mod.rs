//! `consul`: a key that sessions acquire, behind a fair queue of contender keys.

mod client;
mod earlier;
mod queue;
mod undo;

use std::time::Duration;

use crate::clients::agent::{Agent, CONSUL};
use crate::clients::http::excerpt;
use crate::config::section::{Field, Section};
use crate::config::shape::Shape;
use crate::model::error::{ErrorKind, Failure};
use crate::model::intent::{Intent, IntentId};
use crate::step::lock::{Lock, LockMember, LockSpec};
use crate::step::lock_state::{
    LockState, Times, give_up, holder, last_call, left_before, tell_kept,
};
use crate::step::{AttemptContext, Outcome};
use client::{Client, Key};

/// The entry in the table. Its keys:
///
/// - those of every [`Agent`]
/// - those of every [`Times`]
/// - `key` (string; required): the lock's name; the session that has acquired this key holds it
/// - `url` (URLs; default "http://127.0.0.1:8500"): the agent that is asked
/// - `token` (string; default none): the ACL token, sent as `X-Consul-Token`; a secret, best as `${credential:NAME}`
/// - `ttl` (duration; default "30s"): whole seconds, from 10s to 24h: a holder that is dead blocks the others for up to
///   twice as long
/// - `hold` (duration; default "10m"): whole seconds, from 10s to 24h: how long it stays held while this machine
///   reboots; Consul lets it be up to twice as long
///
/// Source: Consul's documentation, "Session HTTP Endpoint", "KV Store Endpoint", "Transactions", "Blocking Queries".
/// A session (`PUT /v1/session/create`) without node checks and without lock delay that takes its keys with it; the
/// contender key `KEY/SESSION` acquired with it (`PUT /v1/client/…?acquire=`). Each waits by a blocking query for the contender
/// just before it (`GET /v1/client/…?index=&wait=`), the first one for the session that has KEY, and acquires KEY: `true` is
/// held, `false` is held by another session. Meanwhile the session is renewed (`PUT /v1/session/renew/…`; 404: it has
/// expired). Given up: KEY released (`PUT /v1/client/…?release=`), then the session destroyed (`PUT /v1/session/destroy/…`,
/// 200 for one that is gone, too), and both keys asked for once more. Held over a reboot: as a session's TTL cannot be
/// changed, KEY goes to a new one in one transaction (`PUT /v1/txn`; 409: it was not held any more); so does a KEY that
/// an earlier run of this machine has left. 403 is a refusal of
/// the ACL; 500 may pass.
pub const MEMBER: LockMember = LockMember {
    name: "consul",
    read,
    undo: undo::undo,
};

struct Consul {
    agent: Agent,
    key: Field<String>,
    times: Times,
    state: LockState<Option<Place>>,
}

/// A place in the queue.
#[derive(Clone)]
struct Place {
    /// The lock's name.
    lock: String,
    /// The contender key, of the first session.
    contender: String,
    /// The value of both keys.
    holder: String,
    /// The sessions that were made for it, the last one last.
    sessions: Vec<String>,
    mark: IntentId,
    is_held: bool,
    /// Whether it has been given up already, and nobody heard of it.
    is_left: bool,
}

impl Place {
    fn session(&self) -> &str {
        self.sessions.last().map_or("", String::as_str)
    }
}

fn read(section: &Section<'_>) -> Option<LockSpec> {
    let agent = Agent::read(section, CONSUL);
    let key = section.required("key", |section, key| {
        section.text_at(Shape::Key, key, lock_name)
    });
    let told = "a session of Consul has whole seconds, from 10s to 24h";
    let times = Times::read(section, Duration::from_secs(10), told);
    let (agent, key, times) = (agent?, key?, times?);
    agent.warn_of_secrets(section);
    Some(LockSpec {
        dependencies: agent.dependencies(),
        renewal: Some(times.renewal()),
        lock: Box::new(Consul {
            agent,
            key,
            times,
            state: LockState::default(),
        }),
    })
}

fn lock_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.starts_with('/') || text.ends_with('/') {
        return Err(
            "a key of Consul is not empty, and neither begins nor ends with a slash here"
                .to_owned(),
        );
    }
    Ok(text.to_owned())
}

impl Consul {
    fn open<'a>(&'a self, context: &'a AttemptContext<'a>) -> Result<Client<'a>, Failure> {
        Ok(Client {
            session: self.agent.open(context)?,
            context,
        })
    }

    /// Joins the end of the queue.
    fn join(&self, client: &Client<'_>) -> Result<Place, Failure> {
        let context = client.context;
        let (lock, holder) = (self.key.get(context.facts)?, holder(context)?);
        let session = client.create(&lock, self.times.ttl)?;
        let contender = format!("{lock}/{session}");
        let mark = context.intend(&self.intent(context, &session, &holder)?)?;
        let place = Place {
            lock,
            contender,
            holder,
            sessions: vec![session],
            mark,
            is_held: false,
            is_left: false,
        };
        if let Err(failure) = self.state.ask(|it| *it = Some(place.clone())) {
            context.withdraw(mark);
            client.destroy(place.session())?;
            return Err(failure);
        }
        let joined = client.acquire(&place.contender, place.session(), &place.holder);
        if joined
            .as_ref()
            .is_err_and(|it| it.kind == ErrorKind::Refused)
        {
            self.forget(client, &place)?;
        }
        joined.map(|_| place)
    }

    fn intent(
        &self,
        context: &AttemptContext<'_>,
        session: &str,
        holder: &str,
    ) -> Result<Intent, Failure> {
        let mut what = self.agent.keep(context.facts)?;
        what.insert("key".to_owned(), self.key.keep(context.facts)?);
        what.insert("session".to_owned(), session.into());
        what.insert("holder".to_owned(), holder.into());
        let lock = self.key.get(context.facts)?;
        Ok(Intent {
            member: MEMBER.name.to_owned(),
            subject: format!("the lock {lock} (session {session})"),
            thing: session.to_owned(),
            what,
        })
    }

    /// Forgets a place that is lost. A request that is late cannot take it any more without its session.
    fn forget(&self, client: &Client<'_>, place: &Place) -> Result<(), Failure> {
        for session in &place.sessions {
            client.destroy(session)?;
        }
        self.settle(client.context, place);
        Ok(())
    }

    fn settle(&self, context: &AttemptContext<'_>, place: &Place) {
        context.withdraw(place.mark);
        self.state.change(|it| *it = None);
    }

    /// Leaves the queue from whatever place there is.
    fn leave(&self, client: &Client<'_>) -> Result<Outcome, Failure> {
        let Some(place) = self.state.value() else {
            return Ok(Outcome::AlreadyDone);
        };
        self.state
            .change(|it| it.iter_mut().for_each(|it| it.is_left = true));
        // Released before the contender key goes with its session, so that the next one finds it free.
        let mut is_lost = false;
        for session in &place.sessions {
            let was_held = client.release(&place.lock, session)?;
            client.destroy(session)?;
            is_lost |= place.is_held && !place.is_left && !was_held && session == place.session();
        }
        let mut left = [client.find(&place.lock)?, client.find(&place.contender)?]
            .into_iter()
            .flatten();
        if let Some(key) = left.find(|it| place.sessions.contains(&it.session)) {
            let cause = format!("{} is held after it was released", key.name);
            return Err(client.unexpected_answer(cause));
        }
        self.settle(client.context, &place);
        match is_lost {
            true => Err(lost(client, &place)),
            false => Ok(Outcome::Done),
        }
    }
}

/// "held by web-1 (run …)".
fn held_by(key: &Key) -> String {
    match excerpt(key.value.as_bytes()) {
        // As others leave it.
        holder if holder.is_empty() => format!("held by the session {}", key.session),
        holder => format!("held by {holder}"),
    }
}

fn lost(client: &Client<'_>, place: &Place) -> Failure {
    let cause = format!(
        "the lock {} is lost: its session has expired, and another one may hold it",
        place.lock
    );
    client.failure(ErrorKind::Refused, cause)
}

impl Lock for Consul {
    fn take(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let end = last_call(context);
        self.wait(&self.open(context)?, end)
    }

    fn renew(&self, context: &AttemptContext<'_>) -> Result<(), Failure> {
        let Some(place) = self.state.value() else {
            return Ok(());
        };
        let client = self.open(context)?;
        if client.renew(place.session())? {
            Ok(())
        } else {
            Err(lost(&client, &place))
        }
    }

    fn release(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        self.state.close(Duration::ZERO);
        if self.state.value().is_none() {
            let lock = self.key.get(context.facts)?;
            let left = left_before(context, MEMBER.name, "key", &lock);
            return give_up(context, left, MEMBER.undo);
        }
        self.leave(&self.open(context)?)
    }

    fn hold(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        self.state.close(Duration::ZERO);
        let Some(mut place) = self.state.value() else {
            return Ok(Outcome::AlreadyDone);
        };
        if !place.is_held {
            return self.release(context);
        }
        let client = self.open(context)?;
        let holding = client.find(&place.lock)?.map(|it| it.session);
        let Some(old) = holding.filter(|it| place.sessions.contains(it)) else {
            self.forget(&client, &place)?;
            return Err(lost(&client, &place));
        };
        place
            .sessions
            .push(client.create(&place.lock, self.times.hold)?);
        self.state.change(|it| *it = Some(place.clone()));
        if !client.hand_over(&place.lock, &old, place.session(), &place.holder)? {
            self.forget(&client, &place)?;
            return Err(lost(&client, &place));
        }
        for session in place.sessions.iter().rev().skip(1) {
            client.destroy(session)?;
        }
        let holding = client.find(&place.lock)?.map(|it| it.session);
        if holding.as_deref() != Some(place.session()) {
            return Err(lost(&client, &place));
        }
        place.sessions = vec![place.session().to_owned()];
        self.state.change(|it| *it = Some(place));
        tell_kept(context, Some(self.times.hold));
        Ok(Outcome::Done)
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let client = self.open(context)?;
        let lock = self.key.get(context.facts)?;
        client.may_write(&format!("{lock}/rehearsal"))?;
        let waiting = client.contenders(&lock)?.len();
        let holding = client.find(&lock)?.filter(|it| !it.session.is_empty());
        let held = match (holding, waiting) {
            (None, _) => "held by nobody".to_owned(),
            (Some(key), 0 | 1) => held_by(&key),
            (Some(key), waiting) => format!("{}, and {} in the queue", held_by(&key), waiting - 1),
        };
        Ok(format!(
            "lock {lock} at {}: {held}; reading and writing the keys is allowed; whether making a session is, is not shown",
            client.address()
        ))
    }
}
