//! The queue in Consul at one attempt.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use super::requests::{Key, Requests};
use crate::clients::http::excerpt;
use crate::model::deadline::Deadline;
use crate::model::error::Failure;
use crate::model::intent::Intent;
use crate::step::AttemptContext;
use crate::step::lock::queue::{Client, Position};
use crate::step::lock::state::Place;

/// Consul delays the next acquisition of a key whose session was destroyed.
const DELAYED: &str = "not held, but delayed by Consul (lock-delay) for the session that had it";

/// A blocking query that returns unchanged faster than this did not block.
const SHORT: Duration = Duration::from_millis(100);

pub(super) struct ConsulClient<'a> {
    pub(super) requests: Requests<'a>,
    /// What is watched: the contender before this one, or the lock itself.
    watched: RefCell<Option<(Key, bool)>>,
    /// The lock itself while unchanged, so that it need not be read.
    unchanged: RefCell<Option<Key>>,
}

impl<'a> ConsulClient<'a> {
    pub(super) fn new(requests: Requests<'a>) -> Self {
        ConsulClient {
            requests,
            watched: RefCell::default(),
            unchanged: RefCell::default(),
        }
    }

    /// Tries to acquire the lock as the first one in the queue.
    fn acquire(&self, place: &Place) -> Result<Position, Failure> {
        let holding = match self.unchanged.take() {
            Some(holding) => Some(holding),
            None if (self.requests).acquire(&place.lock, place.grant(), &place.holder)? => {
                return Ok(Position::First);
            }
            None => self.requests.holding(&place.lock)?,
        };
        let held = holding.as_ref().map_or_else(|| DELAYED.to_owned(), held_by);
        *self.watched.borrow_mut() = holding.map(|it| (it, true));
        Ok(Position::Behind(held))
    }
}

/// "held by web-1 (run …)".
fn held_by(key: &Key) -> String {
    match excerpt(key.value.as_bytes()) {
        // As other clients write it.
        holder if holder.is_empty() => format!("held by the session {}", key.session),
        holder => format!("held by {holder}"),
    }
}

impl Client for ConsulClient<'_> {
    fn context(&self) -> &AttemptContext<'_> {
        self.requests.context
    }

    fn address(&self) -> String {
        self.requests.session.address()
    }

    fn grant(&self, lock: &str, ttl: Duration) -> Result<String, Failure> {
        self.requests.create(lock, ttl)
    }

    fn renew(&self, grant: &str) -> Result<bool, Failure> {
        self.requests.renew(grant)
    }

    fn revoke(&self, grant: &str) -> Result<(), Failure> {
        self.requests.destroy(grant)
    }

    fn join(&self, place: &Place) -> Result<(), Failure> {
        (self.requests)
            .acquire(&place.key, place.grant(), &place.holder)
            .map(drop)
    }

    fn take_over_lock(&self, place: &Place, left: &[Intent]) -> Result<(), Failure> {
        self.take_over(place, left)
    }

    fn position(&self, place: &Place) -> Result<Position, Failure> {
        let queue = self.requests.contenders(&place.lock)?;
        match queue.iter().position(|it| it.name == place.key) {
            None => Ok(Position::Lost),
            Some(0) => self.acquire(place),
            Some(at) => {
                let holding = self.requests.holding(&place.lock)?;
                // Even if others are before it: it was taken over.
                if holding
                    .as_ref()
                    .is_some_and(|it| it.session == place.grant())
                {
                    return Ok(Position::First);
                }
                let held = held_by(holding.as_ref().unwrap_or(&queue[0]));
                *self.watched.borrow_mut() = queue.into_iter().nth(at - 1).map(|it| (it, false));
                Ok(Position::Behind(format!("{held}, {at} before this one")))
            }
        }
    }

    fn watch(&self, until: Deadline) -> Result<bool, Failure> {
        let Some((key, is_lock)) = self.watched.take() else {
            return Ok(false);
        };
        let begun = Instant::now();
        let is_changed = self
            .requests
            .watch(&key, until.left().unwrap_or_default())?;
        *self.unchanged.borrow_mut() = Some(key).filter(|_| is_lock && !is_changed);
        // A query that does not block must not become a storm.
        Ok(is_changed || begun.elapsed() >= SHORT)
    }

    fn leave(&self, place: &Place) -> Result<bool, Failure> {
        // Released before the contender key goes with its session, so that the next one finds it free.
        let mut was_held = false;
        for session in &place.grants {
            was_held = self.requests.release(&place.lock, session)?;
            self.requests.destroy(session)?;
        }
        let keys = [
            self.requests.find(&place.lock)?,
            self.requests.find(&place.key)?,
        ];
        let mut keys = keys.into_iter().flatten();
        match keys.find(|it| place.grants.contains(&it.session)) {
            Some(key) => {
                let cause = format!("{} is held after it was released", key.name);
                Err(self.requests.unexpected_answer(cause))
            }
            None => Ok(was_held),
        }
    }

    /// The TTL of a session cannot be changed.
    fn move_to_last(&self, place: &Place) -> Result<bool, Failure> {
        let holding = self.requests.holding(&place.lock)?;
        match holding.filter(|it| place.grants.contains(&it.session)) {
            Some(key) => {
                (self.requests).hand_over(&place.lock, &key.session, place.grant(), &place.holder)
            }
            None => Ok(false),
        }
    }

    fn is_held(&self, place: &Place) -> Result<bool, Failure> {
        let holding = self.requests.holding(&place.lock)?;
        Ok(holding.is_some_and(|it| it.session == place.grant()))
    }

    fn rehearse(&self, lock: &str) -> Result<String, Failure> {
        self.requests.may_write(&format!("{lock}/rehearsal"))?;
        let waiting = self.requests.contenders(lock)?.len();
        let held = match (self.requests.holding(lock)?, waiting) {
            (None, _) => "not held".to_owned(),
            (Some(key), 0 | 1) => held_by(&key),
            (Some(key), waiting) => format!("{}, and {} in the queue", held_by(&key), waiting - 1),
        };
        Ok(format!(
            "lock {lock} at {}: {held}; reading and writing the keys is allowed; creating a session was not tried",
            self.address()
        ))
    }
}
