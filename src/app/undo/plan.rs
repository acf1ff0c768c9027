//! The plan of an undo, made from the records of earlier runs.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::config::facts::Facts;
use crate::history::pending::{self, PendingUndo};
use crate::model::deadline::{Deadline, Reason};
use crate::model::error::{ErrorKind, Failure};
use crate::model::event::Stream;
use crate::model::intent::{Chain, Intent, IntentId};
use crate::plan::load::Plan;
use crate::plan::step::Step;
use crate::run::panics;
use crate::step::{Action, AttemptContext, Kind, Outcome, StepEvents, TIMEOUT, Undo};
use crate::sys::cancel::Cancel;
use crate::sys::http::Http;

/// Undoes everything in `pending`, which is in the order in which it was left, last first,
/// so that a member is back before its lock lets the next one leave. Undos run one after another, each with the same
/// share of `limit`, so that a peer that is gone for good never blocks the others. What several runs have left
/// on the same object is undone once.
pub fn plan(pending: Vec<PendingUndo>, kinds: &[Kind], limit: Duration) -> Plan {
    let undoings = undoings(pending, kinds);
    let share = limit / u32::try_from(undoings.len()).unwrap_or(u32::MAX).max(1);
    let timeout = TIMEOUT.min(share);
    let steps = undoings.into_iter().map(|it| it.into_step(timeout));
    Plan::chain(steps.collect(), limit)
}

/// The undos in that order, one for each object.
fn undoings(pending: Vec<PendingUndo>, kinds: &[Kind]) -> Vec<Undoing> {
    let mut undoings: Vec<Undoing> = Vec::new();
    for pending in pending.into_iter().rev() {
        let is_same = |it: &&mut Undoing| it.is_about(&pending);
        match undoings.iter_mut().find(is_same) {
            Some(undoing) => undoing.others.push(pending),
            None => undoings.push(Undoing::new(pending, kinds)),
        }
    }
    undoings
}

/// Renews the held locks of `pending`, each within `time`. Returns those that were not renewed, and why.
pub fn renew(
    pending: Vec<PendingUndo>,
    kinds: &[Kind],
    facts: &Facts,
    time: Duration,
) -> io::Result<Vec<(String, Failure)>> {
    let (cancel, http) = (Cancel::new()?, Http::default());
    let mut errors = Vec::new();
    for undoing in undoings(pending, kinds) {
        let deadline = Deadline::after(time, Reason::Attempt);
        let context = AttemptContext {
            deadline,
            needed: &Vec::new,
            attempt_timeout: time,
            cancel: &cancel,
            facts,
            http: &http,
            events: &Silent,
        };
        // An undo that cannot be made is reported when it is due.
        let renewed = panics::catch(|| match undoing.action() {
            Ok(action) => action.renew(&context),
            Err(_) => Ok(Outcome::AlreadyDone),
        });
        if let Err(failure) = renewed {
            errors.push((undoing.pending.intent.subject, failure));
        }
    }
    Ok(errors)
}

/// Discards the events of a renewal.
struct Silent;

impl StepEvents for Silent {
    fn waiting(&self, _: &str) {}

    fn output(&self, _: Stream, _: &str) {}

    fn remark(&self, _: &str) {}

    fn intend(&self, _: &Intent) -> IntentId {
        IntentId { step: 0, number: 0 }
    }

    fn withdraw(&self, _: IntentId) {}
}

/// The undo of one object.
struct Undoing {
    pending: PendingUndo,
    /// The same object, left by earlier runs, the last one first.
    others: Vec<PendingUndo>,
    /// The name of its kind in the table.
    kind: &'static str,
    undo: Option<Undo>,
    /// Made at the first attempt, so that a panic fails that attempt, and reused by later ones.
    action: OnceLock<Result<Box<dyn Action>, String>>,
}

impl Undoing {
    fn new(pending: PendingUndo, kinds: &[Kind]) -> Undoing {
        let kind = kinds.iter().find(|kind| kind.name == pending.kind);
        Undoing {
            kind: kind.map_or("unknown", |kind| kind.name),
            undo: kind.and_then(|kind| kind.undo),
            pending,
            others: Vec::new(),
            action: OnceLock::new(),
        }
    }

    fn is_about(&self, other: &PendingUndo) -> bool {
        let own = &self.pending;
        own.kind == other.kind
            && own.intent.member == other.intent.member
            && own.thing() == other.thing()
    }

    /// All of it, oldest first.
    fn chain(&self) -> Chain {
        let later = |it: &PendingUndo| it.intent.clone();
        let mut oldest_first = self.others.iter().rev().chain([&self.pending]).map(later);
        let first = oldest_first.next();
        let mut chain = Chain::new(first.unwrap_or_else(|| self.pending.intent.clone()));
        oldest_first.for_each(|it| chain.push(it));
        chain
    }

    fn make(&self) -> Result<Box<dyn Action>, String> {
        let (kind, chain) = (&self.pending.kind, self.chain());
        match self.undo {
            _ if chain.iter().any(Intent::is_masked) => {
                Err("its undo needs a secret that is not in the record: undo it by hand".to_owned())
            }
            Some(undo) => undo(&chain),
            None => Err(format!(
                "this version of farewell cannot undo a {kind}; the version that left it can"
            )),
        }
    }

    fn action(&self) -> Result<&dyn Action, Failure> {
        match self.action.get_or_init(|| self.make()) {
            Ok(action) => Ok(action.as_ref()),
            Err(cause) => Err(Failure::new(
                ErrorKind::Config,
                &self.pending.intent.subject,
                cause,
            )),
        }
    }

    fn into_step(self, timeout: Duration) -> Step {
        let (name, kind) = (format!("undo {}", self.pending.step), self.kind);
        Step::new(name, kind, Arc::new(self), timeout)
    }
}

impl Action for Undoing {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        context.events.remark(&self.pending.intent.subject);
        let effect = self.action()?.attempt(context)?;
        // It is done once that is recorded; otherwise it is undone again.
        for pending in self.others.iter().chain([&self.pending]) {
            pending.close().map_err(|error| {
                let path = pending::undone(&pending.record).display().to_string();
                Failure::new(ErrorKind::Io, path, error.to_string()).retryable(true)
            })?;
        }
        Ok(effect)
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        self.action()?.rehearse(context)
    }
}
