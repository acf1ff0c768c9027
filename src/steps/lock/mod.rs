//! `lock`: one member at a time across the fleet. The lock is given back as the run's last act.

mod consul;
mod etcd;
mod fleetlock;
mod ready;

use std::sync::Arc;
use std::time::Duration;

use crate::config::section::{Section, read_kept};
use crate::model::error::Failure;
use crate::model::intent::{Chain, Datum, READY};
use crate::model::trigger::ComesBack;
use crate::step::lock::{Lock, LockMember, LockSpec};
use crate::step::{self, Action, AttemptContext, AttemptPolicy, Held, Kind, Outcome, StepSpec};
use ready::{Ready, WhenReady};

/// The ways to lock a fleet.
pub const LOCKS: &[LockMember] = &[consul::MEMBER, etcd::MEMBER, fleetlock::MEMBER];

/// The kind's entry in the table. Its keys:
///
/// - `via` (way; required): what keeps the lock, and so which other keys the step has
/// - `ready` (table; default none): what `farewell start` asks, by GET, before it gives the lock back on a machine that
///   has come back: for an application that is active long before it serves; until the answer is as it should be the
///   lock is kept
/// - `ready.url` (URLs; required): what is asked, or a list of addresses, tried in turn
/// - `ready.headers` (table of strings; default none): headers of the request
/// - `ready.user` (string; default none; only with `ready.password`): who asks, sent as Basic
/// - `ready.password` (string; default none; only with `ready.user`): the password of `user`; a secret, best as
///   `${credential:NAME}`
/// - `ready.ca-file` (path; default the system's authorities): the authorities that are trusted, in PEM
/// - `ready.cert-file` (path; default none; only with `ready.key-file`): the client's certificate, in PEM
/// - `ready.key-file` (path; default none; only with `ready.cert-file`): the key of the client's certificate, in PEM
/// - `ready.server-name` (string; default the URL's host): the name that the server's certificate must be for
/// - `ready.expect` (integers from 100 to 599; default any 2xx; not with `ready.until`): the status that is waited for,
///   or a list of them
/// - `ready.until` (table; default none; not with `ready.expect`): what the answer must be like
/// - `ready.until.status` (integers from 100 to 599; default any 2xx): the status, or a list of them
/// - `ready.until.pointer` (JSON pointer; default none): the JSON pointer (RFC 6901) of a value in the answer
/// - `ready.until.equals` (value; default anything but null; only with `ready.until.pointer`): that value
pub const KIND: Kind = Kind {
    name: "lock",
    read,
    undo: Some(undo),
};

fn read(section: &Section<'_>) -> Option<StepSpec> {
    let choices: Vec<_> = LOCKS.iter().map(|it| (it.name, it.read)).collect();
    let read = section.required("via", |section, key| section.choice(key, "way", &choices))?;
    let claim = read(section);
    let ready = section.table("ready");
    let ready = ready.map(|table| Ready::read(&table));
    section.finish();
    let ready = match ready {
        Some(read) => Some(read?),
        None => None,
    };
    let LockSpec {
        lock,
        renewal,
        dependencies,
    } = claim?;
    let lock: Arc<dyn Lock> = lock.into();
    let upkeep = |every: Duration| (every, Arc::new(Renewal(lock.clone())) as Arc<dyn Action>);
    Some(StepSpec {
        dependencies,
        held: Some(Held {
            upkeep: renewal.map(upkeep),
            closing: Arc::new(Parting(lock.clone())),
        }),
        ..StepSpec::new(Taking { lock, ready }, AttemptPolicy::Polled)
    })
}

fn undo(chain: &Chain) -> Result<Box<dyn Action>, String> {
    let members = LOCKS.iter().map(|it| (it.name, Some(it.undo)));
    let undo = step::undo_of_member("way to lock", members, chain)?;
    let ready = match chain.last().what.get(READY) {
        None => return Ok(undo),
        Some(Datum::Table(keys)) => read_kept(keys, Ready::read)?,
        Some(_) => return Err("what the record keeps as `ready` is no table of keys".to_owned()),
    };
    Ok(Box::new(WhenReady { ready, undo }))
}

/// The step itself.
struct Taking {
    lock: Arc<dyn Lock>,
    ready: Option<Ready>,
}

impl Action for Taking {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        match &self.ready {
            Some(ready) => ready.condition(context, |context| self.lock.take(context)),
            None => self.lock.take(context),
        }
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let said = self.lock.rehearse(context)?;
        Ok(match &self.ready {
            Some(ready) => format!("{said}; {}", ready.rehearse(context)),
            None => said,
        })
    }
}

/// What keeps it.
struct Renewal(Arc<dyn Lock>);

impl Action for Renewal {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        self.0.renew(context).map(|()| Outcome::Done)
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        self.0.rehearse(context)
    }
}

/// The run's last act. A machine that comes back keeps the lock until it is up again, so that its fleet does not lose
/// the next member meanwhile.
struct Parting(Arc<dyn Lock>);

impl Action for Parting {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        match context.facts.comes_back() {
            ComesBack::Yes => self.0.hold(context),
            // A lock that a machine keeps which never comes back blocks its fleet.
            ComesBack::No | ComesBack::Unknown => self.0.release(context),
        }
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        self.0.rehearse(context)
    }
}
