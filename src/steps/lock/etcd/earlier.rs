//! What an earlier run of this machine has left in the queue, taken over by the next one.

use super::{Etcd, MEMBER, Place, queue};
use crate::clients::etcd::Client;
use crate::model::error::Failure;
use crate::model::intent::Datum;
use crate::step::lock_state::left_before;

impl Etcd {
    /// Takes over the place in the queue, or the lock itself, that an earlier run of this machine has left: it must not
    /// wait for itself. Where several have left one each, the others are given up.
    pub(super) fn take_over(
        &self,
        client: &Client<'_>,
        lock: &str,
        holder: &str,
    ) -> Result<Option<Place>, Failure> {
        let context = client.context;
        let mut taken = None;
        for left in left_before(context, MEMBER.name, "key", lock) {
            let text = |key| left.what.get(key).and_then(Datum::text);
            let (Some(own), Some(value)) = (text("own"), text("holder")) else {
                continue;
            };
            let found = queue::find(client, &own)?;
            let Some(found) = found.filter(|it| it.value == value) else {
                continue;
            };
            if taken.is_none() {
                taken = self.take_over_key(client, lock, &found, holder)?;
            } else {
                queue::delete_own(client, &own, &value)?;
            }
            if found.lease > 0 {
                queue::revoke(client, found.lease)?;
            }
        }
        Ok(taken)
    }

    fn take_over_key(
        &self,
        client: &Client<'_>,
        lock: &str,
        found: &queue::Found,
        holder: &str,
    ) -> Result<Option<Place>, Failure> {
        let context = client.context;
        let lease = queue::grant(client, self.times.ttl)?;
        let place = Place {
            lock: lock.to_owned(),
            key: found.key.clone(),
            holder: holder.to_owned(),
            leases: vec![lease],
            mark: context.intend(&self.intent(context, &found.key, holder)?)?,
            is_held: false,
            is_left: false,
        };
        if let Err(failure) = self.state.ask(|it| *it = Some(place.clone())) {
            self.forget(client, &place)?;
            return Err(failure);
        }
        match queue::put_again(client, &place, &found.value) {
            Ok(true) => {
                let remark = format!(
                    "taken over from this machine's earlier run: {}",
                    found.value
                );
                context.events.remark(&remark);
                Ok(Some(place))
            }
            // Without its lease a put that is late changes nothing any more, and the key is what it was, or gone.
            Ok(false) => {
                self.forget(client, &place)?;
                Ok(None)
            }
            Err(failure) => {
                self.forget(client, &place)?;
                Err(failure)
            }
        }
    }
}
