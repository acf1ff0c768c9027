//! Taking over what an earlier run of this machine has left in the queue.

use super::client::EtcdClient;
use super::requests::{self, Entry};
use crate::model::error::Failure;
use crate::model::intent::{Datum, Intent};
use crate::step::lock::queue::Queue;
use crate::step::lock::state::Place;

impl EtcdClient<'_> {
    /// Takes over the place in the queue, or the lock itself, that an earlier run of this machine has left. If there
    /// are several, the others are released.
    pub(super) fn take_over(
        &self,
        queue: &Queue,
        left: &[Intent],
        lock: &str,
        holder: &str,
    ) -> Result<Option<Place>, Failure> {
        let client = &self.client;
        let mut taken = None;
        for left in left {
            let text = |key| left.what.get(key).and_then(Datum::text);
            let (Some(own), Some(value)) = (text("own"), text("holder")) else {
                continue;
            };
            let entry = requests::find(client, &own)?;
            let Some(entry) = entry.filter(|it| it.value == value) else {
                continue;
            };
            if taken.is_none() {
                taken = self.take_over_key(queue, lock, &entry, holder)?;
            } else {
                requests::delete_own(client, &own, &value)?;
            }
            if entry.lease > 0 {
                requests::revoke(client, entry.lease)?;
            }
        }
        Ok(taken)
    }

    fn take_over_key(
        &self,
        queue: &Queue,
        lock: &str,
        entry: &Entry,
        holder: &str,
    ) -> Result<Option<Place>, Failure> {
        let place = queue.enter(self, lock, Some(&entry.key), holder)?;
        let taken = requests::put_again(&self.client, &place, &entry.value);
        if matches!(taken, Ok(true)) {
            let remark = format!(
                "taken over from this machine's earlier run: {}",
                entry.value
            );
            self.client.context.events.remark(&remark);
            return Ok(Some(place));
        }
        // Without its lease a late put has no effect, and the key is unchanged or gone.
        queue.forget(self, &place)?;
        taken.map(|_| None)
    }
}
