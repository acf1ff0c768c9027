//! `consul`: a key that sessions acquire, behind a fair queue of contender keys.

mod kv;
mod undo;

use std::time::{Duration, Instant};

use crate::clients::agent::{Agent, CONSUL};
use crate::config::section::{Field, Secrecy, Section};
use crate::custody::{Custody, Times, holder, last_call, not_had, tell_kept};
use crate::deadline::Deadline;
use crate::failure::{Failure, Word};
use crate::intent::{Intent, Mark};
use crate::lock::{Claim, Lock, Via};
use crate::step::{Effect, Scope};
use kv::{Key, Kv};

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
/// contender key `KEY/SESSION` acquired with it (`PUT /v1/kv/…?acquire=`). Each waits by a blocking query for the contender
/// just before it (`GET /v1/kv/…?index=&wait=`), the first one for the session that has KEY, and acquires KEY: `true` is
/// held, `false` is held by another session. Meanwhile the session is renewed (`PUT /v1/session/renew/…`; 404: it has
/// expired). Given up: KEY released (`PUT /v1/kv/…?release=`), then the session destroyed (`PUT /v1/session/destroy/…`,
/// 200 for one that is gone, too), and both keys asked for once more. Held over a reboot: as a session's TTL cannot be
/// changed, KEY goes to a new one in one transaction (`PUT /v1/txn`; 409: it was not held any more). 403 is a refusal of
/// the ACL; 500 may pass.
pub const VIA: Via = Via {
    name: "consul",
    read,
    undo: undo::undo,
};

/// How long one blocking query lasts.
const WATCH: Duration = Duration::from_secs(5);

/// The shortest pause before KEY is asked for again that nobody has and that is not to be had either: Consul keeps one
/// back for a while whose session was destroyed.
const PAUSE: Duration = Duration::from_secs(1);

const KEPT_BACK: &str = "held by nobody, but kept back by Consul for the session that had it";

/// What is too short for a blocking query after which all is as it was.
const SHORT: Duration = Duration::from_millis(100);

struct Consul {
    agent: Agent,
    key: Field<String>,
    times: Times,
    custody: Custody<Option<Place>>,
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
    mark: Mark,
    is_held: bool,
}

impl Place {
    fn session(&self) -> &str {
        self.sessions.last().map_or("", String::as_str)
    }
}

fn read(section: &Section<'_>) -> Option<Claim> {
    let agent = Agent::read(section, CONSUL);
    let key = section.required("key", |section, key| {
        section.text(key, lock_name, Secrecy::Public)
    });
    let told = "a session of Consul has whole seconds, from 10s to 24h";
    let times = Times::read(section, Duration::from_secs(10), told);
    let (agent, key, times) = (agent?, key?, times?);
    agent.warn_of_secrets(section);
    Some(Claim {
        ties: agent.ties(),
        renewal: Some(times.renewal()),
        lock: Box::new(Consul {
            agent,
            key,
            times,
            custody: Custody::default(),
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
    fn open<'a>(&'a self, scope: &'a Scope<'a>) -> Result<Kv<'a>, Failure> {
        Ok(Kv {
            session: self.agent.open(scope)?,
            scope,
        })
    }

    /// Joins the end of the queue.
    fn join(&self, kv: &Kv<'_>) -> Result<Place, Failure> {
        let scope = kv.scope;
        let (lock, holder) = (self.key.get(scope.facts)?, holder(scope)?);
        let session = kv.create(&lock, self.times.ttl)?;
        let contender = format!("{lock}/{session}");
        let mark = scope.intend(&self.intent(scope, &session, &holder)?)?;
        let place = Place {
            lock,
            contender,
            holder,
            sessions: vec![session],
            mark,
            is_held: false,
        };
        if let Err(failure) = self.custody.ask(|it| *it = Some(place.clone())) {
            scope.withdraw(mark);
            kv.destroy(place.session())?;
            return Err(failure);
        }
        let joined = kv.acquire(&place.contender, place.session(), &place.holder);
        if joined.as_ref().is_err_and(|it| it.word == Word::Refused) {
            self.forget(kv, &place)?;
        }
        joined.map(|_| place)
    }

    fn intent(&self, scope: &Scope<'_>, session: &str, holder: &str) -> Result<Intent, Failure> {
        let mut what = self.agent.keep(scope.facts)?;
        what.insert("key".to_owned(), self.key.keep(scope.facts)?);
        what.insert("session".to_owned(), session.into());
        what.insert("holder".to_owned(), holder.into());
        let lock = self.key.get(scope.facts)?;
        Ok(Intent {
            member: VIA.name.to_owned(),
            noun: format!("the lock {lock} (session {session})"),
            thing: session.to_owned(),
            what,
        })
    }

    /// Forgets a place that is lost. A request that is late cannot take it any more without its session.
    fn forget(&self, kv: &Kv<'_>, place: &Place) -> Result<(), Failure> {
        for session in &place.sessions {
            kv.destroy(session)?;
        }
        self.settle(kv.scope, place);
        Ok(())
    }

    fn settle(&self, scope: &Scope<'_>, place: &Place) {
        scope.withdraw(place.mark);
        self.custody.change(|it| *it = None);
    }

    /// Waits until the lock is this one's.
    fn wait(&self, kv: &Kv<'_>, end: Deadline) -> Result<Effect, Failure> {
        let scope = kv.scope;
        let every = self.times.renewal();
        let mut renewed = None::<Instant>;
        let mut held = "nobody knows who holds it".to_owned();
        // The lock itself, as long as nobody has changed it: it need not be asked for.
        let mut quiet = None::<Key>;
        loop {
            let place = match self.custody.value() {
                Some(place) => place,
                None => {
                    let place = self.join(kv)?;
                    renewed = Some(Instant::now());
                    place
                }
            };
            let is_due = renewed.is_none_or(|at| at.elapsed() >= every);
            let is_lost = is_due && !kv.renew(place.session())?;
            renewed = if is_due {
                Some(Instant::now())
            } else {
                renewed
            };
            let queue = kv.contenders(&place.lock)?;
            let at = queue.iter().position(|it| it.name == place.contender);
            // What is waited for: the contender before this one, or whoever has the key.
            let ahead = match at.filter(|_| !is_lost) {
                None => {
                    self.forget(kv, &place)?;
                    let remark = "its session had expired, and it had to join the queue again";
                    scope.voice.remark(remark);
                    None
                }
                Some(0) => match quiet.take() {
                    Some(other) => Some(other),
                    None => match self.come_first(kv, &place)? {
                        Come::Held(effect) => return Ok(effect),
                        Come::Behind(other) => {
                            held = held_by(&other);
                            Some(other)
                        }
                        Come::KeptBack => {
                            held = KEPT_BACK.to_owned();
                            None
                        }
                    },
                },
                Some(at) => {
                    let holder = kv.find(&place.lock)?;
                    let holder = holder.filter(|it| !it.session.is_empty());
                    let shown = held_by(holder.as_ref().unwrap_or(&queue[0]));
                    held = format!("{shown}, {at} before this one");
                    queue.into_iter().nth(at - 1)
                }
            };
            scope
                .voice
                .waiting(&format!("the lock {}, {held}", place.lock));
            let Some(left) = end.left().filter(|_| !scope.cancel.is_cancelled()) else {
                let noun = format!("the lock {} at {}", place.lock, kv.address());
                self.leave(kv)?;
                return Err(not_had(scope, &noun, &held));
            };
            let piece = (self.times.ttl / 3).min(WATCH).min(left);
            let begun = Instant::now();
            let is_changed = match ahead {
                Some(other) => {
                    let is_changed =
                        kv.watch(&other, piece.mul_f64(0.75 + fastrand::f64() / 4.0))?;
                    quiet = Some(other).filter(|it| it.name == place.lock && !is_changed);
                    is_changed
                }
                None => false,
            };
            // A query that does not block must not become a storm.
            if !is_changed && begun.elapsed() < SHORT {
                let pause = PAUSE.mul_f64(1.0 + fastrand::f64() / 5.0);
                let _ = scope.cancel.sleep(pause.min(left));
            }
        }
    }

    /// Asks for the lock as the first one in the queue.
    fn come_first(&self, kv: &Kv<'_>, place: &Place) -> Result<Come, Failure> {
        if kv.acquire(&place.lock, place.session(), &place.holder)? {
            let effect = if place.is_held {
                Effect::AlreadyDone
            } else {
                Effect::Done
            };
            self.custody.ask(|it| {
                if let Some(place) = it {
                    place.is_held = true;
                }
            })?;
            return Ok(Come::Held(effect));
        }
        Ok(match kv.find(&place.lock)? {
            Some(other) if !other.session.is_empty() => Come::Behind(other),
            _ => Come::KeptBack,
        })
    }

    /// Leaves the queue from whatever place there is.
    fn leave(&self, kv: &Kv<'_>) -> Result<Effect, Failure> {
        let Some(place) = self.custody.value() else {
            return Ok(Effect::AlreadyDone);
        };
        // Released before the contender key goes with its session, so that the next one finds it free.
        for session in &place.sessions {
            let was_held = kv.release(&place.lock, session)?;
            kv.destroy(session)?;
            if place.is_held && !was_held && session == place.session() {
                let remark = "it was lost before: its session had expired";
                kv.scope.voice.remark(remark);
            }
        }
        let mut left = [kv.find(&place.lock)?, kv.find(&place.contender)?]
            .into_iter()
            .flatten();
        if let Some(key) = left.find(|it| place.sessions.contains(&it.session)) {
            let cause = format!("{} is held after it was released", key.name);
            return Err(kv.strange(cause));
        }
        self.settle(kv.scope, &place);
        Ok(Effect::Done)
    }
}

/// What came of asking for the lock itself.
enum Come {
    Held(Effect),
    /// Another session has it.
    Behind(Key),
    /// Nobody has it, and it is not to be had.
    KeptBack,
}

/// "held by web-1 (run …)".
fn held_by(key: &Key) -> String {
    if key.value.is_empty() {
        // As others leave it.
        format!("held by the session {}", key.session)
    } else {
        format!("held by {}", key.value)
    }
}

fn lost(kv: &Kv<'_>, place: &Place) -> Failure {
    let cause = format!(
        "the lock {} is lost: its session has expired, and another one may hold it",
        place.lock
    );
    kv.failure(Word::Refused, cause)
}

impl Lock for Consul {
    fn take(&self, scope: &Scope<'_>) -> Result<Effect, Failure> {
        let end = last_call(scope);
        self.wait(&self.open(scope)?, end)
    }

    fn renew(&self, scope: &Scope<'_>) -> Result<(), Failure> {
        let Some(place) = self.custody.value() else {
            return Ok(());
        };
        let kv = self.open(scope)?;
        if kv.renew(place.session())? {
            Ok(())
        } else {
            Err(lost(&kv, &place))
        }
    }

    fn release(&self, scope: &Scope<'_>) -> Result<Effect, Failure> {
        self.custody.close(Duration::ZERO);
        if self.custody.value().is_none() {
            return Ok(Effect::AlreadyDone);
        }
        self.leave(&self.open(scope)?)
    }

    fn hold(&self, scope: &Scope<'_>) -> Result<Effect, Failure> {
        self.custody.close(Duration::ZERO);
        let Some(mut place) = self.custody.value() else {
            return Ok(Effect::AlreadyDone);
        };
        if !place.is_held {
            return self.release(scope);
        }
        let kv = self.open(scope)?;
        let holding = kv.find(&place.lock)?.map(|it| it.session);
        let Some(old) = holding.filter(|it| place.sessions.contains(it)) else {
            self.forget(&kv, &place)?;
            return Err(lost(&kv, &place));
        };
        place
            .sessions
            .push(kv.create(&place.lock, self.times.hold)?);
        self.custody.change(|it| *it = Some(place.clone()));
        if !kv.hand_over(&place.lock, &old, place.session(), &place.holder)? {
            self.forget(&kv, &place)?;
            return Err(lost(&kv, &place));
        }
        for session in place.sessions.iter().rev().skip(1) {
            kv.destroy(session)?;
        }
        let holding = kv.find(&place.lock)?.map(|it| it.session);
        if holding.as_deref() != Some(place.session()) {
            return Err(lost(&kv, &place));
        }
        place.sessions = vec![place.session().to_owned()];
        self.custody.change(|it| *it = Some(place));
        tell_kept(scope, Some(self.times.hold));
        Ok(Effect::Done)
    }

    fn rehearse(&self, scope: &Scope<'_>) -> Result<String, Failure> {
        let kv = self.open(scope)?;
        let lock = self.key.get(scope.facts)?;
        kv.may_write(&format!("{lock}/rehearsal"))?;
        let waiting = kv.contenders(&lock)?.len();
        let holding = kv.find(&lock)?.filter(|it| !it.session.is_empty());
        let held = match (holding, waiting) {
            (None, _) => "held by nobody".to_owned(),
            (Some(key), 0 | 1) => held_by(&key),
            (Some(key), waiting) => format!("{}, and {} in the queue", held_by(&key), waiting - 1),
        };
        Ok(format!(
            "lock {lock} at {}: {held}; reading and writing the keys is allowed; whether making a session is, is not shown",
            kv.address()
        ))
    }
}
