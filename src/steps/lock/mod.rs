//! `lock`: one member at a time across the fleet. The lock is released at the end of the run.

mod consul;
mod etcd;
mod fleetlock;
mod ready;

use crate::config::section::{Section, read_kept};
use crate::model::error::Failure;
use crate::model::intent::{Chain, Datum, READY};
use crate::step::{Action, AttemptContext, Kind, Member, Outcome, StepSpec};
use ready::{Ready, WhenReady};

/// The lock types.
pub const LOCKS: &[Member] = &[consul::MEMBER, etcd::MEMBER, fleetlock::MEMBER];

/// The kind's entry in the table. Its keys:
///
/// - `via` (lock type; required): what holds the lock; determines the step's other keys
/// - `ready` (table; default none): what `farewell start` requests, by GET, before it releases the lock on a machine
///   that has come back, for an application that is active long before it is ready; the lock is kept until the answer
///   matches
/// - `ready.url` (URLs; required): the URL, or a list of addresses, tried in turn
/// - `ready.headers` (table of strings; default none): headers of the request
/// - `ready.user` (string; default none; only with `ready.password`): the user, sent as HTTP Basic authentication
/// - `ready.password` (string; default none; only with `ready.user`): the password of `user`; a secret, best as
///   `${credential:NAME}`
/// - `ready.ca-file` (path; default the system's authorities): the trusted authorities, in PEM
/// - `ready.cert-file` (path; default none; only with `ready.key-file`): the client's certificate, in PEM
/// - `ready.key-file` (path; default none; only with `ready.cert-file`): the key of the client's certificate, in PEM
/// - `ready.server-name` (string; default the URL's host): the name that the server's certificate must have
/// - `ready.expect` (integers from 100 to 599; default any 2xx; not with `ready.until`): the status to wait for, or a
///   list of them
/// - `ready.until` (table; default none; not with `ready.expect`): what the answer must match
/// - `ready.until.status` (integers from 100 to 599; default any 2xx): the status, or a list of them
/// - `ready.until.pointer` (JSON pointer; default none): the JSON pointer (RFC 6901) of a value in the answer
/// - `ready.until.equals` (value; default anything but null; only with `ready.until.pointer`): that value
pub const KIND: Kind = Kind {
    name: "lock",
    read,
    undo: Some(undo),
};

fn read(section: &Section<'_>) -> Option<StepSpec> {
    let member = Member::select(section, "via", "lock type", LOCKS)?;
    let spec = (member.read)(section);
    let ready = section.table("ready").map(|table| Ready::read(&table));
    section.finish();
    let spec = spec?;
    let Some(ready) = ready else {
        return Some(spec);
    };
    let action = Conditional {
        action: spec.action,
        ready: ready?,
    };
    Some(StepSpec {
        action: Box::new(action),
        ..spec
    })
}

fn undo(chain: &Chain) -> Result<Box<dyn Action>, String> {
    let undo = Member::undo("lock type", LOCKS, chain)?;
    let ready = match chain.last().what.get(READY) {
        None => return Ok(undo),
        Some(Datum::Table(keys)) => read_kept(keys, Ready::read)?,
        Some(_) => return Err("what the record keeps as `ready` is not a table of keys".to_owned()),
    };
    Ok(Box::new(WhenReady { ready, undo }))
}

/// A lock that is released after a boot only when the condition holds.
struct Conditional {
    action: Box<dyn Action>,
    ready: Ready,
}

impl Action for Conditional {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        (self.ready).condition(context, |context| self.action.attempt(context))
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let said = self.action.rehearse(context)?;
        Ok(format!("{said}; {}", self.ready.rehearse(context)))
    }
}
