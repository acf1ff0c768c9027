//! `hazelcast`: waits until the cluster has the member's data elsewhere, and optionally shuts the member down
//! gracefully.

mod client;
mod health;
mod member_list;
mod shutdown;

use std::time::Instant;

use crate::clients::http::{Peer, excerpt};
use crate::config::facts::Facts;
use crate::config::section::{Field, Secrecy, Section, non_empty, plain};
use crate::model::error::{ErrorKind, Failure};
use crate::step::{Action, AttemptContext, AttemptPolicy, Member, Outcome, StepSpec};
use crate::sys::sync::Mutex;

use client::{Account, Client, EVERY};
use health::Health;
use shutdown::LeavingMember;

/// The cluster's entry in the table. Its keys:
///
/// - those of every [`Peer`], without `user`
/// - `url` (URLs; required): the member's REST API; without `shutdown` it may be a list of members, of which one must
///   answer
/// - `shutdown` (boolean; default false): whether to shut the member down gracefully once the cluster is safe, and
///   verify that on another member
/// - `cluster-name` (string; default "dev"): the cluster's name; if Hazelcast's security is on, the user's name
/// - `password` (string; default none; only with `shutdown`): checked only if Hazelcast's security is on; a secret,
///   best as `${credential:NAME}`
///
/// Source: `HttpGetCommandProcessor` and `HttpPostCommandProcessor` of Hazelcast, and what 3.12.13 and 5.5.0 answer;
/// before 4.1 in text, since then in JSON.
///
/// It asks `GET /hazelcast/health` and waits until the cluster is safe with nothing left to migrate: the same word as
/// that of `/hazelcast/health/cluster-safe`, in one answer with what else is waited for. To shut down it asks who else
/// is there (`GET /hazelcast/client/cluster`), then `POST …/memberShutdown` with name and password, which answers success
/// before anything has begun. Left: the member refuses connections, and another member does not list it any more and is
/// safe, twice in a row. Already gone: the same without a request, which only a run can say that has seen the member;
/// one that refuses connections from the beginning may as well have crashed, and is unreachable. Refused: 403, on 3.x a
/// 200 with `forbidden`, and a connection that is closed without an answer, which is how a part of the API is off.
pub const MEMBER: Member = Member {
    name: "hazelcast",
    read,
    undo: None,
};

const DEFAULT_NAME: &str = "dev";

struct Hazelcast {
    peer: Peer,
    name: Option<Field<String>>,
    password: Option<Field<String>>,
    shutdown: bool,
    /// The leaving member and the others, kept for later attempts after the member is gone.
    leaving: Mutex<Option<LeavingMember>>,
}

fn read(section: &Section<'_>) -> Option<StepSpec> {
    let peer = Peer::read_without_account(section);
    let shutdown = section.boolean("shutdown").unwrap_or(false);
    let name = section.text("cluster-name", non_empty, Secrecy::Public);
    let password = section.text("password", plain, Secrecy::Secret);
    if section.has("password") && !shutdown {
        let message = "means something only beside `shutdown = true`";
        section.problem("password", message);
    }
    let peer = peer?;
    let dependencies = peer.dependencies();
    if shutdown && dependencies.peers.len() > 1 {
        let message = "with `shutdown = true` it is the one member that is shut down; the others are learnt from it";
        section.problem("url", message);
    }
    let membership = Hazelcast {
        peer,
        name,
        password,
        shutdown,
        leaving: Mutex::default(),
    };
    Some(StepSpec {
        dependencies,
        may_stop: shutdown,
        ..StepSpec::new(membership, AttemptPolicy::Polled)
    })
}

/// A peer's text, sanitized.
fn word(text: &str) -> String {
    excerpt(text.as_bytes())
}

/// Whether nobody listens at a member's address any more.
fn is_gone(failure: &Failure) -> bool {
    failure.kind == ErrorKind::Unreachable && failure.closings == 0
}

/// A member that is down does not prove that the cluster has its data.
fn unknown(failure: Failure) -> Failure {
    if !is_gone(&failure) {
        return failure;
    }
    let cause = format!(
        "{}; whether a member that is down has left its data to others, only the others could tell",
        failure.cause
    );
    Failure { cause, ..failure }
}

impl Hazelcast {
    fn name(&self, facts: &Facts) -> Result<String, Failure> {
        match &self.name {
            Some(name) => name.get(facts),
            None => Ok(DEFAULT_NAME.to_owned()),
        }
    }

    fn account(&self, facts: &Facts) -> Result<Account, Failure> {
        let name = self.name(facts)?;
        let password = match &self.password {
            Some(password) => password.get(facts)?,
            None => String::new(),
        };
        Ok(Account::new(name, &password))
    }

    /// Waits until the member reports that the cluster is safe; with `leaving`, also until it is already shutting down
    /// on another request.
    fn wait(&self, client: &Client<'_, '_>, leaving: bool) -> Result<Health, Failure> {
        let name = self.name(client.context.facts)?;
        loop {
            let begun = Instant::now();
            let (health, _) = client.health().map_err(unknown)?;
            let ready = if leaving {
                health.may_leave()
            } else {
                health.is_safe()
            };
            if ready || leaving && health.is_leaving() {
                return Ok(health);
            }
            let what = format!("cluster {name}: {}", health.describe());
            client.pause(begun, EVERY, &what)?;
        }
    }

    fn rehearse_shutdown(&self, client: &Client<'_, '_>) -> Result<String, Failure> {
        let account = self.account(client.context.facts)?;
        client.check(&account)?;
        client.check_writing()?;
        let member_list = client.member_list()?;
        let own = client.session.endpoint().cloned();
        let others = own.map_or_else(Vec::new, |own| member_list.others(&own));
        let named = format!("`{}` may shut it down", account.name);
        let named = match member_list.count_of_others() {
            (0, _) => return Ok(format!("{named}; it is the last member")),
            (_, 0) => format!("{named}; it is the last member that holds data"),
            _ => named,
        };
        let elsewhere = Client {
            session: client.session.elsewhere(others),
            context: client.context,
        };
        let asked = elsewhere.health().and_then(|(_, answer)| {
            elsewhere.member_list()?;
            Ok(answer)
        });
        match asked {
            Ok(answer) => Ok(format!("{named}; {} would be asked after it", answer.url)),
            Err(failure) => {
                let cause = format!("no other member could be asked after a shutdown: {failure}");
                Err(Failure::new(failure.kind, client.session.address(), cause)
                    .retryable(failure.retryable))
            }
        }
    }
}

impl Action for Hazelcast {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let session = self.peer.open(context)?;
        let client = Client { session, context };
        if self.shutdown {
            return self.leave(&client);
        }
        self.wait(&client, false).map(|_| Outcome::Done)
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let session = self.peer.open(context)?;
        let client = Client { session, context };
        let (health, answer) = client.health()?;
        let told = health.describe();
        let waited_for = if health.is_safe() {
            ""
        } else {
            ": would be waited for"
        };
        let seen = format!("GET {}: {told}{waited_for}", answer.url);
        if !self.shutdown {
            return Ok(seen);
        }
        Ok(format!("{seen}; {}", self.rehearse_shutdown(&client)?))
    }
}
