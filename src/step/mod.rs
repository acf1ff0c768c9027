//! The traits and types of a step's kind: how it is read from the configuration, and what one attempt does.

pub mod lock;
mod poll;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::config::facts::Facts;
use crate::config::section::{Field, Section};
use crate::model::deadline::{Deadline, Reason};
use crate::model::error::{ErrorKind, Failure};
use crate::model::event::{Copied, Stream};
use crate::model::intent::{Chain, Intent, IntentId};
use crate::sys::cancel::Cancel;
use crate::sys::http::{Endpoint, Http};

pub use poll::{Poll, late};

/// The default `timeout`.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// The outcome of a successful attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The effect was verified.
    Done,
    /// There was nothing left to do.
    AlreadyDone,
}

impl Outcome {
    /// The outcome of an attempt that has changed something, or found nothing to change.
    pub fn of_change(is_changed: bool) -> Outcome {
        match is_changed {
            true => Outcome::Done,
            false => Outcome::AlreadyDone,
        }
    }
}

/// What steps report while they run.
pub trait StepEvents: Sync {
    /// What the step waits for, as a noun phrase: "3 connections on port 8080". Report it again whenever it changes.
    fn waiting(&self, what: &str);
    /// A line that a child wrote.
    fn output(&self, stream: Stream, line: &str);
    /// Something worth knowing about a step that succeeds.
    fn remark(&self, remark: &str);
    /// Something that deserves attention, although the step can go on. A rehearsal shows it as a warning, which
    /// `--strict` makes a failure; a run reports it as a remark.
    fn warn(&self, warning: &str) {
        self.remark(warning);
    }
    /// A detail of what the step is about to do: it goes to the journal, not into the record.
    fn note(&self, _what: &str) {}
    /// A file that the step has copied, for the record.
    fn copied(&self, _copy: Copied) {}
    /// See [`AttemptContext::intend`].
    fn intend(&self, intent: &Intent) -> IntentId;
    /// See [`AttemptContext::withdraw`].
    fn withdraw(&self, intent_id: IntentId);
    /// See [`AttemptContext::left_before`].
    fn left_before(&self) -> Vec<Intent> {
        Vec::new()
    }
    /// See [`AttemptContext::is_recorded`].
    fn is_recorded(&self, intent_id: IntentId) -> bool {
        let _ = intent_id;
        true
    }
}

/// Everything that one attempt may use.
pub struct AttemptContext<'a> {
    /// When the attempt must have ended, whatever its peer does: the runner does not wait longer.
    pub deadline: Deadline,
    /// The limit of one request, for kinds that make many in one attempt.
    pub attempt_timeout: Duration,
    /// Cancelled when the run is told to stop.
    pub cancel: &'a Cancel,
    /// Values of `${…}`.
    pub facts: &'a Facts,
    /// The HTTP client with its connections.
    pub http: &'a Http,
    /// Receives progress.
    pub events: &'a dyn StepEvents,
    /// Finds the units in the `needs` of this step, or of one that may run beside or after it: only naming them stops them.
    pub needed: &'a (dyn Fn() -> Vec<String> + Sync),
}

impl AttemptContext<'_> {
    /// The deadline of one request that begins now.
    pub fn request(&self) -> Deadline {
        self.deadline
            .earlier(Deadline::after(self.attempt_timeout, Reason::Attempt))
    }

    /// Warns, in a rehearsal, that `what` does not exist, so that a run would leave nothing: otherwise a changed host
    /// name would go unnoticed. `keys` are those that identify it.
    pub fn warn_of_absence(&self, what: &str, keys: &str) {
        self.events.warn(&format!(
            "{what} does not exist, so that a run would have nothing to leave: if its application is running, check {keys}"
        ));
    }

    /// Declares a lasting change before the request that makes it, and returns when the record has it on disk, or after
    /// 50 ms. From here on it is pending, whatever becomes of the attempt. Declaring it again, in this attempt or a
    /// later one, returns the same intent.
    ///
    /// # Errors
    /// If the attempt's time is over, or the run was told to stop: then nothing that needs an undo may begin, since
    /// nothing would report its end.
    pub fn intend(&self, intent: &Intent) -> Result<IntentId, Failure> {
        if self.cancel.is_cancelled() || self.deadline.left().is_none() {
            let cause = "not begun: no time is left";
            return Err(Failure::new(ErrorKind::TimedOut, &intent.subject, cause));
        }
        Ok(self.events.intend(intent))
    }

    /// Withdraws an intent: the peer has refused the change, or the run itself has undone it, as when a lock is
    /// released. Not for a request whose reply is missing: its effect is unknown.
    pub fn withdraw(&self, intent_id: IntentId) {
        self.events.withdraw(intent_id);
    }

    /// Pending intents of steps of this kind in earlier runs of this machine, oldest first; none if the state directory
    /// does not answer within a second.
    pub fn left_before(&self) -> Vec<Intent> {
        self.events.left_before()
    }

    /// Whether the record has an intent. If not, as on a full disk, `farewell start` will not undo it.
    pub fn is_recorded(&self, intent_id: IntentId) -> bool {
        self.events.is_recorded(intent_id)
    }
}

/// A configured step, which can be attempted any number of times.
pub trait Action: Send + Sync {
    /// Makes one attempt, and returns when its effect was verified or it failed, at the latest at `context.deadline`.
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure>;

    /// Checks everything that an attempt would need, and changes nothing. Returns one sentence, what was checked and
    /// the result, at the latest at `context.deadline`.
    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure>;

    /// Renews what an undo will release while it must wait, until `context.deadline` at the latest. Does nothing unless
    /// it expires by itself.
    fn renew(&self, _context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        Ok(Outcome::AlreadyDone)
    }
}

/// What a step uses on this machine, so that farewell.service is ordered after it: systemd stops everything else at the
/// same moment that farewell starts.
#[derive(Default)]
pub struct Dependencies {
    /// Units that it stops: names, or patterns of them.
    pub units: Vec<Field<String>>,
    /// The key `leave-behind`: whether processes may outlive their unit's stop.
    pub leave_behind: Option<bool>,
    /// Paths that it uses, which may be on mounts.
    pub paths: Vec<Field<PathBuf>>,
    /// Peers that it talks to. If one is on this machine, its unit must outlive the run.
    pub peers: Vec<Field<Endpoint>>,
    /// Whether the peers get credentials.
    pub credentials: bool,
}

/// How a kind uses its time, which decides the defaults of `attempts` and `attempt-timeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptPolicy {
    /// One attempt that may take the whole timeout, unless the configuration asks for more (a command).
    Once,
    /// Attempts of a part of the timeout each, until one succeeds (a request).
    Retried,
    /// Attempts that may each take all the time left; `attempt-timeout` limits what precedes the peer's work (the
    /// connection of a request that must not be repeated meanwhile).
    Patient,
    /// One attempt that lasts until its condition holds; `attempt-timeout` limits each check (a wait).
    Polled,
}

/// What a kind makes of a step's configuration.
pub struct StepSpec {
    /// What an attempt does.
    pub action: Box<dyn Action>,
    /// How it uses its time.
    pub policy: AttemptPolicy,
    /// The time it needs to end after cancellation, for example for its child processes. Zero: it can be abandoned at
    /// once.
    pub grace: Duration,
    /// What it uses on this machine.
    pub dependencies: Dependencies,
    /// Whether it may stop the application, which should be stopped before a lock is released.
    pub may_stop: bool,
    /// What it holds until the end of the run.
    pub held: Option<Held>,
    /// What it captures for later steps: `${step:STEP.NAME}`.
    pub captures: Vec<CapturedName>,
    /// Whether it removes something that neither `farewell start` nor the member itself restores if the machine comes
    /// back after all.
    pub is_permanent: bool,
}

impl StepSpec {
    /// A step that needs no time to end, uses nothing on this machine, and holds nothing.
    pub fn new(action: impl Action + 'static, policy: AttemptPolicy) -> StepSpec {
        StepSpec {
            action: Box::new(action),
            policy,
            grace: Duration::ZERO,
            dependencies: Dependencies::default(),
            may_stop: false,
            held: None,
            captures: Vec::new(),
            is_permanent: false,
        }
    }
}

/// The name of something that a step captures.
#[derive(Clone, Debug)]
pub struct CapturedName {
    /// The name behind the step's.
    pub name: String,
    /// Whether its value is a secret.
    pub is_secret: bool,
}

/// What a step holds after it has ended: it is renewed, and released at the end of the run.
#[derive(Clone)]
pub struct Held {
    /// Attempted at this interval from the step's success to the beginning of `release`.
    pub renewal: Option<(Duration, Arc<dyn Action>)>,
    /// Attempted when every other step has ended, whatever became of the step itself, which may even still be running
    /// on an abandoned thread. A run that is told to end at once attempts it once, for a second.
    pub release: Arc<dyn Action>,
}

/// Makes the undo of an intent from the record alone: the configuration of that run may be gone. A credential is read
/// again, by its name in the intent.
///
/// Intents of successive runs on the same object are one undo: it restores what the first one found, with the addresses
/// of the last one.
///
/// The undo is attempted like a step, with the same retries, until it succeeds, over several boots if need be. It is
/// done when its effect was verified, and must be harmless if there is nothing to undo: the run may have been killed
/// before its request, between request and reply, or after an operator undid it. If the peer knows who made a change,
/// later changes of others stay. An undo makes no lasting change itself.
///
/// # Errors
/// One sentence, if the intent is not of this kind: a newer farewell may have written it.
pub type Undo = fn(&Chain) -> Result<Box<dyn Action>, String>;

/// A member of a kind: a registry, a cluster, a balancer or a lock.
///
/// The doc comment of each member lists its keys, as that of a [`Kind`] does.
pub struct Member {
    /// The word that selects it: `etcd` in `registry = "etcd"`.
    pub name: &'static str,
    /// Reads the member's own keys, as [`Kind::read`] does; the kind finishes the section.
    pub read: fn(&Section<'_>) -> Option<StepSpec>,
    /// Its undo; the intent's member is its name. `None` if it makes no lasting change.
    pub undo: Option<Undo>,
}

impl Member {
    /// Reads the step of the member that the key selects, and finishes the section. `subject` names the key's value in
    /// messages.
    pub fn read(
        section: &Section<'_>,
        key: &'static str,
        subject: &str,
        members: &'static [Member],
    ) -> Option<StepSpec> {
        let member = Member::select(section, key, subject, members)?;
        let spec = (member.read)(section);
        section.finish();
        spec
    }

    /// The member that the key selects. If it is unknown, the section's other keys are not checked.
    pub fn select(
        section: &Section<'_>,
        key: &'static str,
        subject: &str,
        members: &'static [Member],
    ) -> Option<&'static Member> {
        let choices: Vec<_> = members.iter().map(|it| (it.name, it)).collect();
        section.required(key, |section, key| section.choice(key, subject, &choices))
    }

    /// The undo of a member's intents.
    ///
    /// # Errors
    /// As [`Undo`]; also if no member of that name leaves anything to undo.
    pub fn undo(
        subject: &str,
        members: &'static [Member],
        chain: &Chain,
    ) -> Result<Box<dyn Action>, String> {
        let member = &chain.last().member;
        let undo = members.iter().find(|it| it.name == member);
        match undo.and_then(|it| it.undo) {
            Some(undo) => undo(chain),
            None => Err(format!(
                "this version of farewell cannot undo what the {subject} `{member}` leaves; the version that left it can"
            )),
        }
    }
}

/// A kind of step: its name, its configuration, and its undo.
///
/// The doc comment of each entry in the tables lists its keys, in the format of tests/integration/reference/keys.rs:
/// the manual and the schema are generated from it.
pub struct Kind {
    /// The word after `kind =`.
    pub name: &'static str,
    /// Reads the kind's own keys and finishes the section (the common keys were read before). Problems are reported to
    /// the section; then it returns `None`.
    pub read: fn(&Section<'_>) -> Option<StepSpec>,
    /// The undo of its intents (see [`AttemptContext::intend`]); `None` for a kind that makes no lasting change.
    pub undo: Option<Undo>,
}
