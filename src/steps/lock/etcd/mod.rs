//! `etcd`: a fair queue of keys with leases, as `etcdctl lock KEY` and etcd's own `concurrency.Mutex` make it.

mod earlier;
mod queue;
mod undo;

use std::time::{Duration, Instant};

use crate::clients::etcd::Gateway;
use crate::clients::http::Peer;
use crate::config::section::{Field, Section};
use crate::config::shape::Shape;
use crate::model::deadline::{Deadline, Reason};
use crate::model::error::{Failure, Word};
use crate::model::intent::{Intent, Mark};
use crate::step::lock::{Claim, Lock, Via};
use crate::step::lock_state::{
    Custody, Times, give_up, holder, last_call, left_before, not_had, tell_kept,
};
use crate::step::{Effect, Scope};
use queue::{Queue, Standing};

/// The entry in the table. Its keys:
///
/// - those of every [`Peer`]
/// - those of every [`Times`]
/// - `key` (string; required): the lock's name; whoever has the oldest key under `KEY/` holds it
/// - `user` (string; default none; only with `password`): who asks; exchanged for a token at each attempt
///
/// Source: etcd's `client/v3/concurrency/mutex.go` for the layout, `api/etcdserverpb/rpc.proto` for the requests.
/// A lease with the TTL (`/v3/lease/grant`), the key `KEY/LEASE` under it in a transaction that wants it not to be there
/// (`/v3/kv/txn`); the oldest key under `KEY/` (`/v3/kv/txn` with two ranges) is the holder's; while it is another one,
/// the deletion of the key just before the own one is watched (`/v3/watch`), and the lease kept alive
/// (`/v3/lease/keepalive`; no TTL in the answer: it has expired). Given up: the key is deleted where it is the own
/// one still (`/v3/kv/txn`), the lease revoked (`/v3/lease/revoke`; 404 code 5: gone already), and the key asked for once more (`/v3/kv/range`). Held
/// over a reboot: the key is put again under a lease with the longer TTL, in a transaction that wants it to be the same
/// key still, which keeps its place; so is the key that an earlier run of this machine has left, when it is taken over.
pub const VIA: Via = Via {
    name: "etcd",
    read,
    undo: undo::undo,
};

/// How long the key before the own one is watched at a time.
const WATCH: Duration = Duration::from_secs(5);

/// The shortest pause between two looks where a watch does not work.
const PAUSE: Duration = Duration::from_secs(1);

struct Etcd {
    peer: Peer,
    key: Field<String>,
    times: Times,
    custody: Custody<Option<Place>>,
}

/// A place in the queue.
#[derive(Clone)]
struct Place {
    /// The lock's name.
    lock: String,
    /// The own key.
    key: String,
    /// Its value.
    holder: String,
    /// What was granted for it, the last one last.
    leases: Vec<i64>,
    mark: Mark,
    is_held: bool,
    /// Whether it has been given up already, and nobody heard of it.
    is_left: bool,
}

impl Place {
    fn lease(&self) -> i64 {
        self.leases.last().copied().unwrap_or_default()
    }
}

fn read(section: &Section<'_>) -> Option<Claim> {
    let peer = Peer::read(section);
    let key = section.required("key", |section, key| {
        section.text_at(Shape::Key, key, lock_name)
    });
    let told = "a lease has whole seconds, 2s at least";
    let times = Times::read(section, Duration::from_secs(2), told);
    let (peer, key, times) = (peer?, key?, times?);
    peer.warn_of_secrets(section);
    Some(Claim {
        ties: peer.ties(),
        renewal: Some(times.renewal()),
        lock: Box::new(Etcd {
            peer,
            key,
            times,
            custody: Custody::default(),
        }),
    })
}

fn lock_name(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("must not be empty".to_owned());
    }
    Ok(text.to_owned())
}

impl Etcd {
    /// Joins the end of the queue.
    fn join(&self, gateway: &Gateway<'_>) -> Result<Place, Failure> {
        let scope = gateway.scope;
        let (lock, holder) = (self.key.get(scope.facts)?, holder(scope)?);
        if let Some(place) = self.take_over(gateway, &lock, &holder)? {
            return Ok(place);
        }
        let lease = queue::grant(gateway, self.times.ttl)?;
        let key = format!("{lock}/{lease:x}");
        let mark = scope.intend(&self.intent(scope, &key, &holder)?)?;
        let place = Place {
            lock,
            key,
            holder,
            leases: vec![lease],
            mark,
            is_held: false,
            is_left: false,
        };
        let asked = self.custody.ask(|it| *it = Some(place.clone()));
        if let Err(failure) = asked {
            scope.withdraw(mark);
            queue::revoke(gateway, lease)?;
            return Err(failure);
        }
        let joined = queue::join(gateway, &place);
        if joined.as_ref().is_err_and(|it| it.word == Word::Refused) {
            self.forget(gateway, &place)?;
        }
        joined.map(|()| place)
    }

    fn intent(&self, scope: &Scope<'_>, own: &str, holder: &str) -> Result<Intent, Failure> {
        let mut what = self.peer.keep(scope.facts)?;
        what.insert("key".to_owned(), self.key.keep(scope.facts)?);
        what.insert("own".to_owned(), own.into());
        what.insert("holder".to_owned(), holder.into());
        Ok(Intent {
            member: VIA.name.to_owned(),
            noun: format!("the lock {} (key {own})", self.key.get(scope.facts)?),
            thing: own.to_owned(),
            what,
        })
    }

    /// Forgets a place that is lost. Without its lease a request that is late cannot take it any more.
    fn forget(&self, gateway: &Gateway<'_>, place: &Place) -> Result<(), Failure> {
        for lease in &place.leases {
            queue::revoke(gateway, *lease)?;
        }
        self.settle(gateway.scope, place);
        Ok(())
    }

    fn settle(&self, scope: &Scope<'_>, place: &Place) {
        scope.withdraw(place.mark);
        self.custody.change(|it| *it = None);
    }

    /// Waits until the lock is this one's.
    fn wait(&self, gateway: &Gateway<'_>, end: Deadline) -> Result<Effect, Failure> {
        let scope = gateway.scope;
        let every = self.times.renewal();
        let mut renewed = None::<Instant>;
        let mut held = "nobody knows who holds it".to_owned();
        loop {
            let place = match self.custody.value() {
                Some(place) => place,
                None => {
                    let place = self.join(gateway)?;
                    renewed = Some(Instant::now());
                    place
                }
            };
            let is_due = renewed.is_none_or(|at| at.elapsed() >= every);
            let is_lost = is_due && !queue::keep_alive(gateway, place.lease())?;
            renewed = if is_due {
                Some(Instant::now())
            } else {
                renewed
            };
            let queue = Queue::look(gateway, &place)?;
            let predecessor = match queue.standing {
                _ if is_lost => None,
                Standing::Gone => None,
                Standing::First if place.is_held => return Ok(Effect::AlreadyDone),
                Standing::First => {
                    self.custody.ask(|it| {
                        if let Some(place) = it {
                            place.is_held = true;
                        }
                    })?;
                    return Ok(Effect::Done);
                }
                Standing::Behind { predecessor } => Some(predecessor),
            };
            if predecessor.is_some() {
                held = queue.held;
                scope
                    .voice
                    .waiting(&format!("the lock {}, {held}", place.lock));
            }
            if end.left().is_none() || scope.cancel.is_cancelled() {
                let noun = format!("the lock {} at {}", place.lock, address(gateway));
                self.leave(gateway)?;
                return Err(not_had(scope, &noun, &held));
            }
            let is_news = match &predecessor {
                Some(predecessor) => {
                    let piece = (self.times.ttl / 3).min(WATCH);
                    let piece = piece.mul_f64(0.75 + fastrand::f64() / 4.0);
                    let piece = end.earlier(Deadline::after(piece, Reason::Attempt));
                    queue::watch(gateway, predecessor, queue.revision, piece)
                }
                None => {
                    self.forget(gateway, &place)?;
                    let remark = "its lease had expired, and it had to join the queue again";
                    scope.voice.remark(remark);
                    false
                }
            };
            if !is_news && end.left().is_some() {
                let pause = PAUSE.mul_f64(1.0 + fastrand::f64() / 5.0);
                let pause = Deadline::after(pause, Reason::Attempt);
                let _ = scope.cancel.sleep_until(end.earlier(pause));
            }
        }
    }

    /// Leaves the queue from whatever place there is.
    fn leave(&self, gateway: &Gateway<'_>) -> Result<Effect, Failure> {
        let Some(place) = self.custody.value() else {
            return Ok(Effect::AlreadyDone);
        };
        self.custody
            .change(|it| it.iter_mut().for_each(|it| it.is_left = true));
        // The key first: whoever waits for it goes on at once. Without the lease it cannot come back.
        let was_there = queue::delete_own(gateway, &place.key, &place.holder)?;
        for lease in &place.leases {
            queue::revoke(gateway, *lease)?;
        }
        let is_own = |it: &queue::Found| it.value == place.holder;
        if let Some(found) = queue::find(gateway, &place.key)?.filter(is_own) {
            let cause = format!("{} is there after it was deleted", found.key);
            return Err(gateway.strange(cause));
        }
        self.settle(gateway.scope, &place);
        match place.is_held && !was_there && !place.is_left {
            true => Err(lost(gateway, &place)),
            false => Ok(Effect::Done),
        }
    }
}

/// Where the answers come from.
fn address(gateway: &Gateway<'_>) -> String {
    let endpoint = gateway.session.endpoint();
    endpoint.map_or_else(String::new, ToString::to_string)
}

fn lost(gateway: &Gateway<'_>, place: &Place) -> Failure {
    let cause = format!(
        "the lock {} is lost: its lease has expired, and another one may hold it",
        place.lock
    );
    gateway.failure(Word::Refused, cause)
}

impl Lock for Etcd {
    fn take(&self, scope: &Scope<'_>) -> Result<Effect, Failure> {
        let end = last_call(scope);
        let gateway = Gateway::open(&self.peer, scope, &[])?;
        self.wait(&gateway, end)
    }

    fn renew(&self, scope: &Scope<'_>) -> Result<(), Failure> {
        let Some(place) = self.custody.value() else {
            return Ok(());
        };
        let gateway = Gateway::open(&self.peer, scope, &[])?;
        if queue::keep_alive(&gateway, place.lease())? {
            Ok(())
        } else {
            Err(lost(&gateway, &place))
        }
    }

    fn release(&self, scope: &Scope<'_>) -> Result<Effect, Failure> {
        self.custody.close(Duration::ZERO);
        if self.custody.value().is_none() {
            let lock = self.key.get(scope.facts)?;
            let left = left_before(scope, VIA.name, "key", &lock);
            return give_up(scope, left, VIA.undo);
        }
        let gateway = Gateway::open(&self.peer, scope, &[])?;
        self.leave(&gateway)
    }

    fn hold(&self, scope: &Scope<'_>) -> Result<Effect, Failure> {
        self.custody.close(Duration::ZERO);
        let Some(mut place) = self.custody.value() else {
            return Ok(Effect::AlreadyDone);
        };
        if !place.is_held {
            return self.release(scope);
        }
        let gateway = Gateway::open(&self.peer, scope, &[])?;
        place.leases.push(queue::grant(&gateway, self.times.hold)?);
        self.custody.change(|it| *it = Some(place.clone()));
        if !queue::put_again(&gateway, &place, &place.holder)? {
            self.forget(&gateway, &place)?;
            return Err(lost(&gateway, &place));
        }
        for lease in place.leases.iter().rev().skip(1) {
            queue::revoke(&gateway, *lease)?;
        }
        match queue::find(&gateway, &place.key)? {
            Some(found) if found.lease == place.lease() => {}
            _ => return Err(lost(&gateway, &place)),
        }
        place.leases = vec![place.lease()];
        self.custody.change(|it| *it = Some(place));
        tell_kept(scope, Some(self.times.hold));
        Ok(Effect::Done)
    }

    fn rehearse(&self, scope: &Scope<'_>) -> Result<String, Failure> {
        let gateway = Gateway::open(&self.peer, scope, &[])?;
        let lock = self.key.get(scope.facts)?;
        let held = queue::rehearse(&gateway, &lock)?;
        Ok(format!(
            "lock {lock} at {}: {held}; reading and writing under {lock}/ is allowed",
            address(&gateway)
        ))
    }
}
