//! Taking over the lock that an earlier run of this machine has left.

use super::client::ConsulClient;
use super::requests::Key;
use crate::clients::http::{excerpt, peer_ids};
use crate::model::error::Failure;
use crate::model::intent::Intent;
use crate::step::lock::state::Place;

impl ConsulClient<'_> {
    /// Takes over the lock that an earlier run has left, and gives up its places in the queue. The caller must check
    /// whether it has the lock then.
    pub(super) fn take_over(&self, place: &Place, left: &[Intent]) -> Result<(), Failure> {
        let requests = &self.requests;
        let texts = |key: &'static str| {
            left.iter()
                .filter_map(move |it| Some(it.what.get(key)?.text()?.into_owned()))
        };
        let is_left = |it: &Key| texts("holder").any(|own| own == it.value);
        let held = requests.holding(&place.lock)?.filter(is_left);
        if let Some(held) = &held
            && requests.hand_over(&place.lock, &held.session, place.grant(), &place.holder)?
        {
            let holder = excerpt(held.value.as_bytes());
            let remark = format!("taken over from this machine's earlier run: {holder}");
            requests.context.events.remark(&remark);
        }
        let sessions = texts("session").filter(|it| peer_ids::uuid(it).is_ok());
        for session in sessions.chain(held.map(|it| it.session)) {
            requests.destroy(&session)?;
        }
        Ok(())
    }
}
