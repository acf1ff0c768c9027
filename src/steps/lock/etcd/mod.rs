//! `etcd`: a fair queue of keys with leases, as used by `etcdctl lock KEY` and etcd's own `concurrency.Mutex`.

mod client;
mod requests;
mod takeover;
mod undo;

use std::time::Duration;

use crate::clients::etcd;
use crate::clients::http::Peer;
use crate::config::facts::Facts;
use crate::config::section::{Section, non_empty};
use crate::config::text_kind::TextKind;
use crate::model::error::Failure;
use crate::model::intent::Keys;
use crate::step::lock::queue::{Client, Queue, Store};
use crate::step::lock::{self, state::Times};
use crate::step::{AttemptContext, Member, StepSpec, Undo};
use client::EtcdClient;

/// The entry in the table. Its keys:
///
/// - those of every [`Peer`]
/// - those of every [`Times`]
/// - `key` (string; required): the lock's name; the oldest key under `KEY/` holds it
/// - `user` (string; default none; only with `password`): the user; exchanged for a token at each attempt
///
/// Source: etcd's `client/v3/concurrency/mutex.go` for the layout, `api/etcdserverpb/rpc.proto` for the requests.
/// A lease with the TTL (`/v3/lease/grant`), the key `KEY/LEASE` under it in a transaction that wants it not to be there
/// (`/v3/kv/txn`); the oldest key under `KEY/` (`/v3/kv/txn` with two ranges) is the holder's; while it is another one,
/// the deletion of the key just before the own one is watched (`/v3/watch`), and the lease kept alive
/// (`/v3/lease/keepalive`; no TTL in the answer: it has expired). Given up: the key is deleted where it is the own
/// one still (`/v3/kv/txn`), the lease revoked (`/v3/lease/revoke`; 404 code 5: gone already), and the key asked for once more (`/v3/kv/range`). Held
/// over a reboot: the key is put again under a lease with the longer TTL, in a transaction that wants it to be the same
/// key still, which keeps its place; so is the key that an earlier run of this machine has left, when it is taken over.
pub const MEMBER: Member = Member {
    name: "etcd",
    read,
    undo: Some(undo::undo),
};

struct Etcd {
    peer: Peer,
}

fn read(section: &Section<'_>) -> Option<StepSpec> {
    let peer = Peer::read(section);
    let key = section.required("key", |section, key| {
        section.text_at(TextKind::Key, key, non_empty)
    });
    let problem = "a lease has whole seconds, 2s at least";
    let times = Times::read(section, Duration::from_secs(2), problem);
    let (peer, key, times) = (peer?, key?, times?);
    peer.warn_of_secrets(section);
    let (dependencies, renewal) = (peer.dependencies(), Some(times.renewal()));
    let queue = Queue::new(Etcd { peer }, key, times);
    Some(lock::spec(queue, renewal, dependencies))
}

impl Store for Etcd {
    fn name(&self) -> &'static str {
        MEMBER.name
    }

    fn undo(&self) -> Undo {
        undo::undo
    }

    fn grant_name(&self) -> &'static str {
        "lease"
    }

    fn keep(&self, facts: &Facts) -> Result<Keys, Failure> {
        self.peer.keep(facts)
    }

    fn identity<'a>(&self, key: &'a str, _: &'a str) -> (&'static str, &'static str, &'a str) {
        ("own", "key", key)
    }

    fn open<'a>(
        &'a self,
        context: &'a AttemptContext<'a>,
    ) -> Result<Box<dyn Client + 'a>, Failure> {
        let client = etcd::Client::open(&self.peer, context, &[])?;
        Ok(Box::new(EtcdClient::new(client)))
    }
}
