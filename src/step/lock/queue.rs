//! A fair queue of members that wait for one lock, in a store whose grants expire: the leases of etcd, the sessions of
//! Consul.

use std::time::{Duration, Instant};

use super::Lock;
use super::state::{
    LockState, Place, Times, give_up, holder, last_call, left_before, not_acquired, remark_kept,
};
use crate::config::facts::Facts;
use crate::config::section::Field;
use crate::model::deadline::{Deadline, Reason};
use crate::model::error::{ErrorKind, Failure};
use crate::model::intent::{Intent, Keys};
use crate::step::{AttemptContext, Outcome, Undo};

/// How long one watch lasts.
const WATCH: Duration = Duration::from_secs(5);

/// The shortest pause between two polls of the queue if it cannot be watched.
const PAUSE: Duration = Duration::from_secs(1);

/// A store that keeps the queue of a lock.
pub trait Store: Send + Sync {
    /// The name of its member.
    fn name(&self) -> &'static str;

    /// The undo of its member.
    fn undo(&self) -> Undo;

    /// Its word for a grant: "lease".
    fn grant_name(&self) -> &'static str;

    /// What a record keeps of its address and credentials.
    fn keep(&self, facts: &Facts) -> Result<Keys, Failure>;

    /// What identifies a place for its undo, its key or its first grant: the name in the record, the name for people,
    /// the value.
    fn identity<'a>(&self, key: &'a str, grant: &'a str) -> (&'static str, &'static str, &'a str);

    /// Opens the store for one attempt.
    ///
    /// # Errors
    /// As [`Field::get`], or if the credentials are rejected.
    fn open<'a>(&'a self, context: &'a AttemptContext<'a>)
    -> Result<Box<dyn Client + 'a>, Failure>;
}

/// A store during one attempt.
#[allow(clippy::missing_errors_doc)]
pub trait Client {
    /// The attempt.
    fn context(&self) -> &AttemptContext<'_>;

    /// The address that answered last.
    fn address(&self) -> String;

    /// A new grant for the lock, which expires unless renewed within `ttl`.
    fn grant(&self, lock: &str, ttl: Duration) -> Result<String, Failure>;

    /// Renews a grant. Returns whether it still existed.
    fn renew(&self, grant: &str) -> Result<bool, Failure>;

    /// Revokes a grant and every key under it; one that is already gone is fine.
    fn revoke(&self, grant: &str) -> Result<(), Failure>;

    /// Takes over a place in the queue that an earlier run of this machine has left: it must not wait for itself.
    fn take_over_place(
        &self,
        _queue: &Queue,
        _left: &[Intent],
        _lock: &str,
        _holder: &str,
    ) -> Result<Option<Place>, Failure> {
        Ok(None)
    }

    /// Joins the end of the queue with the place's key.
    fn join(&self, place: &Place) -> Result<(), Failure>;

    /// Takes over the lock itself for a place in the queue, as far as earlier runs of this machine have left it.
    fn take_over_lock(&self, _place: &Place, _left: &[Intent]) -> Result<(), Failure> {
        Ok(())
    }

    /// Finds the place's position in the queue, and acquires the lock if it is first.
    fn position(&self, place: &Place) -> Result<Position, Failure>;

    /// Waits until the queue may have changed since the last call of [`Client::position`], at most until `until`.
    /// Returns whether that worked; otherwise the queue is polled.
    fn watch(&self, until: Deadline) -> Result<bool, Failure>;

    /// Removes the place with its grants, and verifies that it is gone. Returns whether it existed.
    fn leave(&self, place: &Place) -> Result<bool, Failure>;

    /// Moves what is held to the last one of the place's grants. Returns whether it was held.
    fn move_to_last(&self, place: &Place) -> Result<bool, Failure>;

    /// Whether the last one of the place's grants has the lock.
    fn is_held(&self, place: &Place) -> Result<bool, Failure>;

    /// Asks whether the lock could be taken and who holds it, and changes nothing.
    fn rehearse(&self, lock: &str) -> Result<String, Failure>;

    /// A failure of the store as a whole.
    fn failure(&self, kind: ErrorKind, cause: String) -> Failure {
        Failure::new(kind, self.address(), cause)
    }
}

/// The position of a place in the queue.
pub enum Position {
    /// It is gone.
    Lost,
    /// It has the lock.
    First,
    /// It waits; with the holder of the lock, for people.
    Behind(String),
}

/// A lock that is a queue in a store.
pub struct Queue {
    store: Box<dyn Store>,
    key: Field<String>,
    times: Times,
    state: LockState<Option<Place>>,
}

impl Queue {
    /// The lock that the value of `key` names.
    pub fn new(store: impl Store + 'static, key: Field<String>, times: Times) -> Queue {
        Queue {
            store: Box::new(store),
            key,
            times,
            state: LockState::default(),
        }
    }

    /// Joins the end of the queue, or takes over the place of an earlier run.
    fn join(&self, client: &dyn Client, left: &[Intent]) -> Result<Place, Failure> {
        let context = client.context();
        let (lock, holder) = (self.key.get(context.facts)?, holder(context)?);
        if let Some(place) = client.take_over_place(self, left, &lock, &holder)? {
            return Ok(place);
        }
        let place = self.enter(client, &lock, None, &holder)?;
        match client.join(&place) {
            Ok(()) => Ok(place),
            Err(failure) => {
                if failure.kind == ErrorKind::Refused {
                    self.forget(client, &place)?;
                }
                Err(failure)
            }
        }
    }

    /// Declares and tracks a place with a new grant, before the request that puts it into the queue or takes its `key`
    /// over.
    ///
    /// # Errors
    /// If no grant was given, or the lock is being released.
    pub fn enter(
        &self,
        client: &dyn Client,
        lock: &str,
        key: Option<&str>,
        holder: &str,
    ) -> Result<Place, Failure> {
        let grant = client.grant(lock, self.times.ttl)?;
        let key = key.map_or_else(|| format!("{lock}/{grant}"), str::to_owned);
        let context = client.context();
        let intent = self.intent(context.facts, lock, (&key, &grant), holder)?;
        let place = Place {
            lock: lock.to_owned(),
            key,
            holder: holder.to_owned(),
            grants: vec![grant],
            intent: context.intend(&intent)?,
            is_held: false,
            is_left: false,
        };
        if let Err(failure) = self.state.ask(|it| *it = Some(place.clone())) {
            context.withdraw(place.intent);
            client.revoke(place.grant())?;
            return Err(failure);
        }
        Ok(place)
    }

    fn intent(
        &self,
        facts: &Facts,
        lock: &str,
        (key, grant): (&str, &str),
        holder: &str,
    ) -> Result<Intent, Failure> {
        let (name, word, value) = self.store.identity(key, grant);
        let mut what = self.store.keep(facts)?;
        what.insert("key".to_owned(), self.key.keep(facts)?);
        what.insert(name.to_owned(), value.into());
        what.insert("holder".to_owned(), holder.into());
        Ok(Intent {
            member: self.store.name().to_owned(),
            subject: format!("the lock {lock} ({word} {value})"),
            thing: value.to_owned(),
            what,
        })
    }

    /// Forgets a place that is lost. Without its grants a late request cannot take it any more.
    pub fn forget(&self, client: &dyn Client, place: &Place) -> Result<(), Failure> {
        for grant in &place.grants {
            client.revoke(grant)?;
        }
        self.settle(client.context(), place);
        Ok(())
    }

    fn settle(&self, context: &AttemptContext<'_>, place: &Place) {
        context.withdraw(place.intent);
        self.state.change(|it| *it = None);
    }

    /// Waits until this place has the lock.
    fn wait(&self, client: &dyn Client, end: Deadline) -> Result<Outcome, Failure> {
        let context = client.context();
        let lock = self.key.get(context.facts)?;
        let mut left = left_before(context, self.store.name(), "key", &lock);
        let mut renewed = None;
        let mut held = "its holder is not known".to_owned();
        loop {
            let (place, position) = self.position(client, &mut left, &mut renewed)?;
            let is_lost = match position {
                Position::First if place.is_held => return Ok(Outcome::AlreadyDone),
                Position::First => {
                    self.state
                        .ask(|it| it.iter_mut().for_each(|it| it.is_held = true))?;
                    return Ok(Outcome::Done);
                }
                Position::Behind(seen) => {
                    held = seen;
                    context.events.waiting(&format!("the lock {lock}, {held}"));
                    false
                }
                Position::Lost => true,
            };
            if end.left().is_none() || context.cancel.is_cancelled() {
                let subject = format!("the lock {lock} at {}", client.address());
                self.leave(client)?;
                return Err(not_acquired(context, &subject, &held));
            }
            if is_lost {
                self.forget(client, &place)?;
                let grant = self.store.grant_name();
                let remark = format!("its {grant} had expired, and it had to join the queue again");
                context.events.remark(&remark);
            }
            let piece = (self.times.ttl / 3).min(WATCH);
            let piece = piece.mul_f64(0.75 + fastrand::f64() / 4.0);
            let until = end.earlier(Deadline::after(piece, Reason::Attempt));
            if is_lost || !client.watch(until)? {
                let pause = PAUSE.mul_f64(1.0 + fastrand::f64() / 5.0);
                let pause = Deadline::after(pause, Reason::Attempt);
                let _ = context.cancel.sleep_until(end.earlier(pause));
            }
        }
    }

    /// The position in the queue, which it joins if it has no place, with its grant renewed when due.
    fn position(
        &self,
        client: &dyn Client,
        left: &mut Vec<Intent>,
        renewed: &mut Option<Instant>,
    ) -> Result<(Place, Position), Failure> {
        let place = match self.state.value() {
            Some(place) => place,
            None => {
                let place = self.join(client, left)?;
                *renewed = Some(Instant::now());
                place
            }
        };
        if !left.is_empty() {
            client.take_over_lock(&place, left)?;
            left.clear();
        }
        if renewed.is_none_or(|at| at.elapsed() >= self.times.renewal()) {
            *renewed = Some(Instant::now());
            if !client.renew(place.grant())? {
                return Ok((place, Position::Lost));
            }
        }
        let position = client.position(&place)?;
        Ok((place, position))
    }

    /// Leaves the queue from whatever place there is.
    fn leave(&self, client: &dyn Client) -> Result<Outcome, Failure> {
        let Some(place) = self.state.value() else {
            return Ok(Outcome::AlreadyDone);
        };
        self.state
            .change(|it| it.iter_mut().for_each(|it| it.is_left = true));
        let was_there = client.leave(&place)?;
        self.settle(client.context(), &place);
        match place.is_held && !was_there && !place.is_left {
            true => Err(self.lost(client, &place)),
            false => Ok(Outcome::Done),
        }
    }

    fn lost(&self, client: &dyn Client, place: &Place) -> Failure {
        let cause = format!(
            "the lock {} is lost: its {} has expired, and another one may hold it",
            place.lock,
            self.store.grant_name()
        );
        client.failure(ErrorKind::Refused, cause)
    }
}

impl Lock for Queue {
    fn take(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let end = last_call(context);
        self.wait(&*self.store.open(context)?, end)
    }

    fn renew(&self, context: &AttemptContext<'_>) -> Result<(), Failure> {
        let Some(place) = self.state.value() else {
            return Ok(());
        };
        let client = self.store.open(context)?;
        match client.renew(place.grant())? {
            true => Ok(()),
            false => Err(self.lost(&*client, &place)),
        }
    }

    fn release(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        self.state.close(Duration::ZERO);
        if self.state.value().is_none() {
            let lock = self.key.get(context.facts)?;
            let left = left_before(context, self.store.name(), "key", &lock);
            return give_up(context, left, self.store.undo());
        }
        self.leave(&*self.store.open(context)?)
    }

    fn hold(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        self.state.close(Duration::ZERO);
        let Some(mut place) = self.state.value() else {
            return Ok(Outcome::AlreadyDone);
        };
        if !place.is_held {
            return self.release(context);
        }
        let client = &*self.store.open(context)?;
        place
            .grants
            .push(client.grant(&place.lock, self.times.hold)?);
        self.state.change(|it| *it = Some(place.clone()));
        if !client.move_to_last(&place)? {
            self.forget(client, &place)?;
            return Err(self.lost(client, &place));
        }
        for grant in place.grants.iter().rev().skip(1) {
            client.revoke(grant)?;
        }
        if !client.is_held(&place)? {
            return Err(self.lost(client, &place));
        }
        place.grants = vec![place.grant().to_owned()];
        self.state.change(|it| *it = Some(place));
        remark_kept(context, Some(self.times.hold));
        Ok(Outcome::Done)
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let lock = self.key.get(context.facts)?;
        self.store.open(context)?.rehearse(&lock)
    }
}
