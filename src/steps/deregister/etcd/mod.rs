//! `etcd`: removes a key, a prefix, a lease or a member, through the JSON gateway (etcd 3.4 and later).

mod rehearsal;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::clients::etcd::{self, Client, Reply, integer};
use crate::clients::http::Peer;
use crate::config::section::{Field, Secrecy, Section, non_empty};
use crate::config::text_kind::TextKind;
use crate::model::error::{ErrorKind, Failure};
use crate::step::{Action, AttemptContext, AttemptPolicy, Member, Outcome, StepSpec};
use crate::sys::http::Endpoint;
use crate::sys::sync::Mutex;

/// The registry's entry in the table. Its keys:
///
/// - those of every [`Peer`]
/// - `key` (string; exactly one of `key`, `prefix`, `lease`, `member`): a key
/// - `prefix` (string; exactly one of `key`, `prefix`, `lease`, `member`): all keys that begin so
/// - `lease` (string; exactly one of `key`, `prefix`, `lease`, `member`): a lease and all keys on it: its ID in
///   hexadecimal, as etcdctl prints it
/// - `member` (string; exactly one of `key`, `prefix`, `lease`, `member`): a member of the cluster: its ID in
///   hexadecimal, or its name
/// - `user` (string; default none; only with `password`): the user; exchanged for a token at each attempt
pub const MEMBER: Member = Member {
    name: "etcd",
    read,
    undo: None,
};

/// What to remove.
enum Entry {
    Key(Field<String>),
    Prefix(Field<String>),
    Lease(Field<i64>),
    Member(Field<String>),
}

struct Etcd {
    peer: Peer,
    entry: Entry,
    /// The addresses of the other members, for later attempts after the leaving one has gone.
    others: Mutex<Vec<Endpoint>>,
    /// Whether the member was there and an earlier attempt asked for its removal, whose answer may have been lost.
    removal_sent: AtomicBool,
}

fn some_entry(text: &str) -> Result<String, String> {
    non_empty(text).map_err(|cause| format!("{cause}: that would mean everything"))
}

fn read(section: &Section<'_>) -> Option<StepSpec> {
    const WAYS: [&str; 4] = ["key", "prefix", "lease", "member"];
    let peer = Peer::read(section);
    let key = section.text_at(TextKind::Key, "key", some_entry);
    let prefix = section.text_at(TextKind::Key, "prefix", some_entry);
    let lease = section.text("lease", lease_id, Secrecy::Public);
    let member = section.text("member", some_entry, Secrecy::Public);
    let there: Vec<_> = WAYS.into_iter().filter(|key| section.has(key)).collect();
    match there.as_slice() {
        [_] => {}
        [] => section.problem(
            "key",
            "one of `key`, `prefix`, `lease` and `member` is needed",
        ),
        [_, second, ..] => {
            let all = there.join("`, `");
            let message = format!("only one of `{all}` can be there; make a step of each");
            section.problem(second, message);
        }
    }
    let entry = key
        .map(Entry::Key)
        .or(prefix.map(Entry::Prefix))
        .or(lease.map(Entry::Lease))
        .or(member.map(Entry::Member));
    let (peer, entry) = (peer?, entry?);
    let dependencies = peer.dependencies();
    let is_permanent = matches!(entry, Entry::Member(_));
    let registration = Etcd {
        peer,
        entry,
        others: Mutex::default(),
        removal_sent: AtomicBool::new(false),
    };
    Some(StepSpec {
        dependencies,
        is_permanent,
        ..StepSpec::new(registration, AttemptPolicy::Retried)
    })
}

fn lease_id(text: &str) -> Result<i64, String> {
    match i64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16) {
        Ok(id) if id > 0 => Ok(id),
        _ => Err(format!(
            "`{text}` is not a lease ID in hexadecimal, as etcdctl prints it"
        )),
    }
}

/// `key`, or all keys from it up to `end`, as requests name them.
fn range(key: &str, end: Option<Vec<u8>>) -> Value {
    let mut range = json!({"key": STANDARD.encode(key)});
    if let Some(end) = end {
        range["range_end"] = STANDARD.encode(end).into();
    }
    range
}

fn leave_range(client: &Client<'_>, key: &str, end: Option<Vec<u8>>) -> Result<Outcome, Failure> {
    let mut range = range(key, end);
    let deleted = client.must_with_header("/v3/kv/deleterange", &range)?;
    range["count_only"] = true.into();
    match integer(&client.must_with_header("/v3/kv/range", &range)?["count"]) {
        0 if integer(&deleted["deleted"]) == 0 => Ok(Outcome::AlreadyDone),
        0 => Ok(Outcome::Done),
        left => Err(client.unexpected_answer(format!(
            "{left} keys under {key:?} are there after they were deleted: something writes them again"
        ))),
    }
}

fn leave_lease(client: &Client<'_>, id: i64) -> Result<Outcome, Failure> {
    let lease = json!({"ID": id.to_string()});
    let revoked = client.ask("/v3/lease/revoke", &lease)?;
    match client.ask("/v3/lease/timetolive", &lease)? {
        Reply::Done(answer) if integer(&answer["TTL"]) != -1 => {
            Err(client.unexpected_answer(format!("the lease {id:x} is there after it was revoked")))
        }
        _ if matches!(revoked, Reply::NotFound) => Ok(Outcome::AlreadyDone),
        _ => Ok(Outcome::Done),
    }
}

impl Etcd {
    fn leave_member(&self, client: &Client<'_>, wanted: &str) -> Result<Outcome, Failure> {
        let members = etcd::members(client)?;
        let gone = Outcome::of_change(self.removal_sent.load(Ordering::SeqCst));
        let Some(id) = etcd::find(&members, wanted)
            .map_err(|cause| client.failure(ErrorKind::Config, cause))?
        else {
            if gone == Outcome::Done {
                return Ok(gone);
            }
            let names: Vec<&str> = members.iter().map(|it| it.name.as_str()).collect();
            let remark = format!("no {wanted} among the members {}", names.join(", "));
            client.context.events.remark(&remark);
            return Ok(gone);
        };
        let (own, others): (Vec<_>, Vec<_>) = members.iter().partition(|member| member.id == id);
        if others.iter().all(|member| member.is_learner) {
            return Err(only_voter(client, wanted));
        }
        // A member that removed itself ends 0.2 s later, so the others are asked; each member answers from its own
        // state (3.4 has no other way), so the leaving one comes last.
        let is_own = |it: &&Endpoint| own.iter().any(|member| member.urls.contains(it));
        let mut addresses: Vec<Endpoint> = others.iter().flat_map(|it| it.urls.clone()).collect();
        self.others.lock().clone_from(&addresses);
        self.removal_sent.store(true, Ordering::SeqCst);
        let removed = client.ask("/v3/cluster/member/remove", &json!({"ID": id.to_string()}))?;
        addresses.extend(
            client
                .session
                .endpoints()
                .iter()
                .filter(|it| !is_own(it))
                .cloned(),
        );
        if addresses.is_empty() {
            let cause = format!(
                "{wanted} was removed, but no other member has an address at which that could be verified"
            );
            return Err(client
                .failure(ErrorKind::Unreachable, cause)
                .retryable(false));
        }
        wait_until_unlisted(client, addresses, id)?;
        Ok(match removed {
            Reply::NotFound => gone,
            Reply::Done(_) => Outcome::Done,
        })
    }
}

fn wait_until_unlisted(
    client: &Client<'_>,
    addresses: Vec<Endpoint>,
    id: u64,
) -> Result<(), Failure> {
    let elsewhere = Client {
        session: client.session.elsewhere(addresses),
        context: client.context,
    };
    while etcd::members(&elsewhere)?.iter().any(|it| it.id == id) {
        if !client.context.pause(LAG) {
            let cause = format!("the member {id:x} is still listed after it was removed");
            return Err(elsewhere.unexpected_answer(cause));
        }
    }
    Ok(())
}

fn only_voter(client: &Client<'_>, wanted: &str) -> Failure {
    let cause = format!(
        "{wanted} is the cluster's only voting member: it can be stopped, but it cannot leave"
    );
    client.failure(ErrorKind::Refused, cause)
}

/// How long a lagging member gets before it is asked again.
const LAG: Duration = Duration::from_millis(100);

/// The end of the range of all keys that begin with `prefix`: its next neighbour of the same length or less. A zero byte
/// stands for "no end", where there is no neighbour.
fn after_prefix(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

impl Action for Etcd {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let client = Client::open(&self.peer, context, &self.others.lock())?;
        match &self.entry {
            Entry::Key(key) => leave_range(&client, &key.get(context.facts)?, None),
            Entry::Prefix(prefix) => {
                let prefix = prefix.get(context.facts)?;
                leave_range(&client, &prefix, Some(after_prefix(&prefix)))
            }
            Entry::Lease(id) => leave_lease(&client, id.get(context.facts)?),
            Entry::Member(member) => self.leave_member(&client, &member.get(context.facts)?),
        }
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let client = Client::open(&self.peer, context, &self.others.lock())?;
        match &self.entry {
            Entry::Key(key) => rehearsal::of_range(&client, &key.get(context.facts)?, None),
            Entry::Prefix(prefix) => {
                let prefix = prefix.get(context.facts)?;
                rehearsal::of_range(&client, &prefix, Some(after_prefix(&prefix)))
            }
            Entry::Lease(id) => rehearsal::of_lease(&client, id.get(context.facts)?),
            Entry::Member(member) => rehearsal::of_member(&client, &member.get(context.facts)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_ends_behind_its_prefix() {
        assert_eq!(after_prefix("/a/"), b"/a0");
        assert_eq!(after_prefix("ÿ"), [0xc3, 0xc0]);
    }

    #[test]
    fn ids_are_hexadecimal() {
        assert_eq!(lease_id("694d7f8b1a2c3d04"), Ok(0x694d_7f8b_1a2c_3d04));
        for text in ["", "0", "xyz", "-1", "ffffffffffffffff"] {
            assert!(lease_id(text).is_err(), "{text}");
        }
    }
}
