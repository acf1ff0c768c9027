//! The queue in etcd at one attempt.

use std::cell::RefCell;
use std::time::Duration;

use super::requests::{self, lease};
use crate::clients::etcd;
use crate::model::deadline::Deadline;
use crate::model::error::Failure;
use crate::model::intent::Intent;
use crate::step::AttemptContext;
use crate::step::lock::queue::{Client, Position, Queue};
use crate::step::lock::state::Place;

pub(super) struct EtcdClient<'a> {
    pub(super) client: etcd::Client<'a>,
    /// The key just before the own one, and the revision at which it was there.
    watched: RefCell<Option<(String, i64)>>,
}

impl<'a> EtcdClient<'a> {
    pub(super) fn new(client: etcd::Client<'a>) -> Self {
        EtcdClient {
            client,
            watched: RefCell::default(),
        }
    }
}

impl Client for EtcdClient<'_> {
    fn context(&self) -> &AttemptContext<'_> {
        self.client.context
    }

    fn address(&self) -> String {
        self.client.session.address()
    }

    fn grant(&self, _: &str, ttl: Duration) -> Result<String, Failure> {
        let lease = requests::grant(&self.client, ttl)?;
        Ok(format!("{lease:x}"))
    }

    fn renew(&self, grant: &str) -> Result<bool, Failure> {
        requests::keep_alive(&self.client, lease(grant))
    }

    fn revoke(&self, grant: &str) -> Result<(), Failure> {
        requests::revoke(&self.client, lease(grant))
    }

    fn take_over_place(
        &self,
        queue: &Queue,
        left: &[Intent],
        lock: &str,
        holder: &str,
    ) -> Result<Option<Place>, Failure> {
        self.take_over(queue, left, lock, holder)
    }

    fn join(&self, place: &Place) -> Result<(), Failure> {
        requests::join(&self.client, place)
    }

    fn position(&self, place: &Place) -> Result<Position, Failure> {
        let (queue, revision) = requests::queue(&self.client, &place.lock)?;
        Ok(match queue.iter().position(|it| it.key == place.key) {
            None => Position::Lost,
            Some(0) => Position::First,
            Some(at) => {
                let watched = (queue[at - 1].key.clone(), revision);
                *self.watched.borrow_mut() = Some(watched);
                let held = requests::held(&queue);
                Position::Behind(format!("{held}, {at} before this one"))
            }
        })
    }

    fn watch(&self, until: Deadline) -> Result<bool, Failure> {
        let watched = self.watched.take();
        Ok(watched
            .is_some_and(|(key, revision)| requests::watch(&self.client, &key, revision, until)))
    }

    fn leave(&self, place: &Place) -> Result<bool, Failure> {
        // The key first, so that the next contender continues at once. Without the lease it cannot come back.
        let was_there = requests::delete_own(&self.client, &place.key, &place.holder)?;
        for grant in &place.grants {
            self.revoke(grant)?;
        }
        match requests::find(&self.client, &place.key)? {
            Some(entry) if entry.value == place.holder => {
                let cause = format!("{} is there after it was deleted", entry.key);
                Err(self.client.unexpected_answer(cause))
            }
            _ => Ok(was_there),
        }
    }

    fn move_to_last(&self, place: &Place) -> Result<bool, Failure> {
        requests::put_again(&self.client, place, &place.holder)
    }

    fn is_held(&self, place: &Place) -> Result<bool, Failure> {
        let entry = requests::find(&self.client, &place.key)?;
        Ok(entry.is_some_and(|it| it.lease == lease(place.grant())))
    }

    fn rehearse(&self, lock: &str) -> Result<String, Failure> {
        let held = requests::rehearse(&self.client, lock)?;
        Ok(format!(
            "lock {lock} at {}: {held}; reading and writing under {lock}/ is allowed",
            self.address()
        ))
    }
}
