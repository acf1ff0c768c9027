//! `consul`: a key that sessions acquire, behind a fair queue of contender keys.

mod client;
mod requests;
mod takeover;
mod undo;

use std::time::Duration;

use crate::clients::agent::{Agent, CONSUL};
use crate::config::facts::Facts;
use crate::config::section::Section;
use crate::config::text_kind::TextKind;
use crate::model::error::Failure;
use crate::model::intent::Keys;
use crate::step::lock::queue::{Client, Queue, Store};
use crate::step::lock::{self, state::Times};
use crate::step::{AttemptContext, Member, StepSpec, Undo};
use client::ConsulClient;
use requests::Requests;

/// The entry in the table. Its keys:
///
/// - those of every [`Agent`]
/// - those of every [`Times`]
/// - `key` (string; required): the lock's name; the session that has acquired this key holds it
/// - `url` (URLs; default "http://127.0.0.1:8500"): the agent that is asked
/// - `token` (string; default none): the ACL token, sent as `X-Consul-Token`; a secret, best as `${credential:NAME}`
/// - `ttl` (duration; default "30s"): whole seconds, from 10s to 24h: a dead holder blocks the others for up to twice
///   as long
/// - `hold` (duration; default "10m"): whole seconds, from 10s to 24h: how long it stays held while this machine
///   reboots; up to twice as long, as Consul allows
///
/// Source: Consul's documentation, "Session HTTP Endpoint", "KV Store Endpoint", "Transactions", "Blocking Queries".
/// A session (`PUT /v1/session/create`) without node checks and without lock delay that takes its keys with it; the
/// contender key `KEY/SESSION` acquired with it (`PUT /v1/kv/…?acquire=`). Each waits by a blocking query for the contender
/// just before it (`GET /v1/kv/…?index=&wait=`), the first one for the session that has KEY, and acquires KEY: `true` is
/// held, `false` is held by another session. Meanwhile the session is renewed (`PUT /v1/session/renew/…`; 404: it has
/// expired). Given up: KEY released (`PUT /v1/kv/…?release=`), then the session destroyed (`PUT /v1/session/destroy/…`,
/// 200 for one that is gone, too), and both keys asked for once more. Held over a reboot: as a session's TTL cannot be
/// changed, KEY goes to a new one in one transaction (`PUT /v1/txn`; 409: it was not held any more); so does a KEY that
/// an earlier run of this machine has left. 403 is a refusal of
/// the ACL; 500 may pass.
pub const MEMBER: Member = Member {
    name: "consul",
    read,
    undo: Some(undo::undo),
};

struct Consul {
    agent: Agent,
}

fn read(section: &Section<'_>) -> Option<StepSpec> {
    let agent = Agent::read(section, CONSUL);
    let key = section.required("key", |section, key| {
        section.text_at(TextKind::Key, key, lock_name)
    });
    let problem = "a session of Consul has whole seconds, from 10s to 24h";
    let times = Times::read(section, Duration::from_secs(10), problem);
    let (agent, key, times) = (agent?, key?, times?);
    agent.warn_of_secrets(section);
    let (dependencies, renewal) = (agent.dependencies(), Some(times.renewal()));
    let queue = Queue::new(Consul { agent }, key, times);
    Some(lock::spec(queue, renewal, dependencies))
}

fn lock_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.starts_with('/') || text.ends_with('/') {
        return Err(
            "a key of Consul is not empty, and neither begins nor ends with a slash here"
                .to_owned(),
        );
    }
    Ok(text.to_owned())
}

impl Store for Consul {
    fn name(&self) -> &'static str {
        MEMBER.name
    }

    fn undo(&self) -> Undo {
        undo::undo
    }

    fn grant_name(&self) -> &'static str {
        "session"
    }

    fn keep(&self, facts: &Facts) -> Result<Keys, Failure> {
        self.agent.keep(facts)
    }

    fn identity<'a>(&self, _: &'a str, grant: &'a str) -> (&'static str, &'static str, &'a str) {
        ("session", "session", grant)
    }

    fn open<'a>(
        &'a self,
        context: &'a AttemptContext<'a>,
    ) -> Result<Box<dyn Client + 'a>, Failure> {
        let requests = Requests::open(&self.agent, context)?;
        Ok(Box::new(ConsulClient::new(requests)))
    }
}
