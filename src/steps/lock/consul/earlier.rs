//! What an earlier run of this machine has left of the lock, taken over by the next one.

use super::client::{Client, Key};
use super::{Consul, Place};
use crate::clients::http::{excerpt, peer_ids};
use crate::model::error::Failure;
use crate::model::intent::Intent;

impl Consul {
    /// Takes over the lock that an earlier run of this machine has left, and gives up its places in the queue: it must
    /// not wait for itself. Whether it has the lock then is to be asked.
    pub(super) fn take_over(
        &self,
        client: &Client<'_>,
        place: &Place,
        left: &[Intent],
    ) -> Result<(), Failure> {
        let texts = |key: &'static str| {
            left.iter()
                .filter_map(move |it| Some(it.what.get(key)?.text()?.into_owned()))
        };
        let is_left =
            |it: &Key| !it.session.is_empty() && texts("holder").any(|own| own == it.value);
        let held = client.find(&place.lock)?.filter(is_left);
        if let Some(held) = &held
            && client.hand_over(&place.lock, &held.session, place.session(), &place.holder)?
        {
            let holder = excerpt(held.value.as_bytes());
            let remark = format!("taken over from this machine's earlier run: {holder}");
            client.context.events.remark(&remark);
        }
        let held = held.map(|it| it.session);
        for session in texts("session")
            .filter(|it| peer_ids::uuid(it).is_ok())
            .chain(held)
        {
            client.destroy(&session)?;
        }
        Ok(())
    }
}
