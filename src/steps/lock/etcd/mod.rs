//! `etcd`: a fair queue of keys with leases, as `etcdctl lock KEY` and etcd's own `concurrency.Mutex` make it.

mod earlier;
mod queue;
mod undo;

use std::time::{Duration, Instant};

use crate::clients::etcd::Client;
use crate::clients::http::Peer;
use crate::config::section::{Field, Section, non_empty};
use crate::config::shape::Shape;
use crate::model::deadline::{Deadline, Reason};
use crate::model::error::{ErrorKind, Failure};
use crate::model::intent::{Intent, IntentId};
use crate::step::lock::{Lock, LockMember, LockSpec};
use crate::step::lock_state::{
    LockState, Times, give_up, holder, last_call, left_before, not_had, tell_kept,
};
use crate::step::{AttemptContext, Outcome};
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
pub const MEMBER: LockMember = LockMember {
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
    state: LockState<Option<Place>>,
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
    mark: IntentId,
    is_held: bool,
    /// Whether it has been given up already, and nobody heard of it.
    is_left: bool,
}

impl Place {
    fn lease(&self) -> i64 {
        self.leases.last().copied().unwrap_or_default()
    }
}

fn read(section: &Section<'_>) -> Option<LockSpec> {
    let peer = Peer::read(section);
    let key = section.required("key", |section, key| {
        section.text_at(Shape::Key, key, non_empty)
    });
    let told = "a lease has whole seconds, 2s at least";
    let times = Times::read(section, Duration::from_secs(2), told);
    let (peer, key, times) = (peer?, key?, times?);
    peer.warn_of_secrets(section);
    Some(LockSpec {
        dependencies: peer.dependencies(),
        renewal: Some(times.renewal()),
        lock: Box::new(Etcd {
            peer,
            key,
            times,
            state: LockState::default(),
        }),
    })
}

impl Etcd {
    /// Joins the end of the queue.
    fn join(&self, client: &Client<'_>) -> Result<Place, Failure> {
        let context = client.context;
        let (lock, holder) = (self.key.get(context.facts)?, holder(context)?);
        if let Some(place) = self.take_over(client, &lock, &holder)? {
            return Ok(place);
        }
        let lease = queue::grant(client, self.times.ttl)?;
        let key = format!("{lock}/{lease:x}");
        let mark = context.intend(&self.intent(context, &key, &holder)?)?;
        let place = Place {
            lock,
            key,
            holder,
            leases: vec![lease],
            mark,
            is_held: false,
            is_left: false,
        };
        let asked = self.state.ask(|it| *it = Some(place.clone()));
        if let Err(failure) = asked {
            context.withdraw(mark);
            queue::revoke(client, lease)?;
            return Err(failure);
        }
        let joined = queue::join(client, &place);
        if joined
            .as_ref()
            .is_err_and(|it| it.kind == ErrorKind::Refused)
        {
            self.forget(client, &place)?;
        }
        joined.map(|()| place)
    }

    fn intent(
        &self,
        context: &AttemptContext<'_>,
        own: &str,
        holder: &str,
    ) -> Result<Intent, Failure> {
        let mut what = self.peer.keep(context.facts)?;
        what.insert("key".to_owned(), self.key.keep(context.facts)?);
        what.insert("own".to_owned(), own.into());
        what.insert("holder".to_owned(), holder.into());
        Ok(Intent {
            member: MEMBER.name.to_owned(),
            subject: format!("the lock {} (key {own})", self.key.get(context.facts)?),
            thing: own.to_owned(),
            what,
        })
    }

    /// Forgets a place that is lost. Without its lease a request that is late cannot take it any more.
    fn forget(&self, client: &Client<'_>, place: &Place) -> Result<(), Failure> {
        for lease in &place.leases {
            queue::revoke(client, *lease)?;
        }
        self.settle(client.context, place);
        Ok(())
    }

    fn settle(&self, context: &AttemptContext<'_>, place: &Place) {
        context.withdraw(place.mark);
        self.state.change(|it| *it = None);
    }

    /// Waits until the lock is this one's.
    fn wait(&self, client: &Client<'_>, end: Deadline) -> Result<Outcome, Failure> {
        let context = client.context;
        let every = self.times.renewal();
        let mut renewed = None::<Instant>;
        let mut held = "nobody knows who holds it".to_owned();
        loop {
            let place = match self.state.value() {
                Some(place) => place,
                None => {
                    let place = self.join(client)?;
                    renewed = Some(Instant::now());
                    place
                }
            };
            let is_due = renewed.is_none_or(|at| at.elapsed() >= every);
            let is_lost = is_due && !queue::keep_alive(client, place.lease())?;
            renewed = if is_due {
                Some(Instant::now())
            } else {
                renewed
            };
            let queue = Queue::look(client, &place)?;
            let predecessor = match queue.standing {
                _ if is_lost => None,
                Standing::Gone => None,
                Standing::First if place.is_held => return Ok(Outcome::AlreadyDone),
                Standing::First => {
                    self.state.ask(|it| {
                        if let Some(place) = it {
                            place.is_held = true;
                        }
                    })?;
                    return Ok(Outcome::Done);
                }
                Standing::Behind { predecessor } => Some(predecessor),
            };
            if predecessor.is_some() {
                held = queue.held;
                context
                    .events
                    .waiting(&format!("the lock {}, {held}", place.lock));
            }
            if end.left().is_none() || context.cancel.is_cancelled() {
                let subject = format!("the lock {} at {}", place.lock, client.session.address());
                self.leave(client)?;
                return Err(not_had(context, &subject, &held));
            }
            let is_news = match &predecessor {
                Some(predecessor) => {
                    let piece = (self.times.ttl / 3).min(WATCH);
                    let piece = piece.mul_f64(0.75 + fastrand::f64() / 4.0);
                    let piece = end.earlier(Deadline::after(piece, Reason::Attempt));
                    queue::watch(client, predecessor, queue.revision, piece)
                }
                None => {
                    self.forget(client, &place)?;
                    let remark = "its lease had expired, and it had to join the queue again";
                    context.events.remark(remark);
                    false
                }
            };
            if !is_news && end.left().is_some() {
                let pause = PAUSE.mul_f64(1.0 + fastrand::f64() / 5.0);
                let pause = Deadline::after(pause, Reason::Attempt);
                let _ = context.cancel.sleep_until(end.earlier(pause));
            }
        }
    }

    /// Leaves the queue from whatever place there is.
    fn leave(&self, client: &Client<'_>) -> Result<Outcome, Failure> {
        let Some(place) = self.state.value() else {
            return Ok(Outcome::AlreadyDone);
        };
        self.state
            .change(|it| it.iter_mut().for_each(|it| it.is_left = true));
        // The key first: whoever waits for it goes on at once. Without the lease it cannot come back.
        let was_there = queue::delete_own(client, &place.key, &place.holder)?;
        for lease in &place.leases {
            queue::revoke(client, *lease)?;
        }
        let is_own = |it: &queue::Found| it.value == place.holder;
        if let Some(found) = queue::find(client, &place.key)?.filter(is_own) {
            let cause = format!("{} is there after it was deleted", found.key);
            return Err(client.unexpected_answer(cause));
        }
        self.settle(client.context, &place);
        match place.is_held && !was_there && !place.is_left {
            true => Err(lost(client, &place)),
            false => Ok(Outcome::Done),
        }
    }
}

fn lost(client: &Client<'_>, place: &Place) -> Failure {
    let cause = format!(
        "the lock {} is lost: its lease has expired, and another one may hold it",
        place.lock
    );
    client.failure(ErrorKind::Refused, cause)
}

impl Lock for Etcd {
    fn take(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let end = last_call(context);
        let client = Client::open(&self.peer, context, &[])?;
        self.wait(&client, end)
    }

    fn renew(&self, context: &AttemptContext<'_>) -> Result<(), Failure> {
        let Some(place) = self.state.value() else {
            return Ok(());
        };
        let client = Client::open(&self.peer, context, &[])?;
        if queue::keep_alive(&client, place.lease())? {
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
        let client = Client::open(&self.peer, context, &[])?;
        self.leave(&client)
    }

    fn hold(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        self.state.close(Duration::ZERO);
        let Some(mut place) = self.state.value() else {
            return Ok(Outcome::AlreadyDone);
        };
        if !place.is_held {
            return self.release(context);
        }
        let client = Client::open(&self.peer, context, &[])?;
        place.leases.push(queue::grant(&client, self.times.hold)?);
        self.state.change(|it| *it = Some(place.clone()));
        if !queue::put_again(&client, &place, &place.holder)? {
            self.forget(&client, &place)?;
            return Err(lost(&client, &place));
        }
        for lease in place.leases.iter().rev().skip(1) {
            queue::revoke(&client, *lease)?;
        }
        match queue::find(&client, &place.key)? {
            Some(found) if found.lease == place.lease() => {}
            _ => return Err(lost(&client, &place)),
        }
        place.leases = vec![place.lease()];
        self.state.change(|it| *it = Some(place));
        tell_kept(context, Some(self.times.hold));
        Ok(Outcome::Done)
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let client = Client::open(&self.peer, context, &[])?;
        let lock = self.key.get(context.facts)?;
        let held = queue::rehearse(&client, &lock)?;
        Ok(format!(
            "lock {lock} at {}: {held}; reading and writing under {lock}/ is allowed",
            client.session.address()
        ))
    }
}
