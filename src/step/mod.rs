//! The contract of a step's kind: how it is read from the configuration, and what one attempt of it does.

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

/// A step's time where the configuration gives none.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// What a successful attempt saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The effect that was asked for.
    Done,
    /// That there was nothing left to do.
    AlreadyDone,
}

/// What steps report while they run.
pub trait StepEvents: Sync {
    /// What the step waits for, as a noun: "3 connections on port 8080". Reported again whenever it changes.
    fn waiting(&self, what: &str);
    /// A line that a child wrote.
    fn output(&self, stream: Stream, line: &str);
    /// Something worth knowing of a step that ends well.
    fn remark(&self, remark: &str);
    /// Something that somebody should look into, although the step can go on. A rehearsal shows it as a warning, which
    /// `--strict` makes a failure; a run reports it as a remark.
    fn warn(&self, warning: &str) {
        self.remark(warning);
    }
    /// Something that goes to the journal at once, and not into the record: what the step is about to do, in detail.
    fn note(&self, _what: &str) {}
    /// A file that the step has copied, for the record.
    fn copied(&self, _copy: Copied) {}
    /// What [`AttemptContext::intend`] was told.
    fn intend(&self, intent: &Intent) -> IntentId;
    /// What [`AttemptContext::withdraw`] was told.
    fn withdraw(&self, intent_id: IntentId);
    /// What [`AttemptContext::left_before`] returns.
    fn left_before(&self) -> Vec<Intent> {
        Vec::new()
    }
    /// What [`AttemptContext::is_recorded`] returns.
    fn is_recorded(&self, intent_id: IntentId) -> bool {
        let _ = intent_id;
        true
    }
}

/// Everything that one attempt may use.
pub struct AttemptContext<'a> {
    /// When the attempt must have ended, whatever its peer does. The runner does not wait for it any longer.
    pub deadline: Deadline,
    /// The limit of one request, for kinds that make many in one attempt.
    pub attempt_timeout: Duration,
    /// Turned when the run is told to stop.
    pub cancel: &'a Cancel,
    /// What `${…}` stands for.
    pub facts: &'a Facts,
    /// The door to HTTP, with its connections.
    pub http: &'a Http,
    /// Where progress goes.
    pub events: &'a dyn StepEvents,
    /// Units that this step, or one that may still run after it or beside it, has among its `needs`: nothing but their own
    /// name stops them.
    pub needed: &'a [String],
}

impl AttemptContext<'_> {
    /// The deadline of one request that begins now.
    pub fn request(&self) -> Deadline {
        self.deadline
            .earlier(Deadline::after(self.attempt_timeout, Reason::Attempt))
    }

    /// Warns, in a rehearsal, that `what` is not there although it is to leave: a host name that has changed is seen on
    /// no other day. `keys` are those that say what is meant.
    pub fn warn_of_absence(&self, what: &str, keys: &str) {
        self.events.warn(&format!(
            "{what} is not there, so that a run would leave nothing: if its application is running, check {keys}"
        ));
    }

    /// Declares what the attempt is about to leave behind, before the request that leaves it, and returns when the
    /// record has it on the disk; a disk that takes longer than 50 ms is not waited for. From here on it is to be
    /// undone, whatever becomes of the attempt. What the step has declared before, in this attempt or an earlier one,
    /// is the same intent.
    ///
    /// # Errors
    /// If the attempt's time is over, or the run was told to stop: then nothing that needs an undo may begin, since
    /// nothing would report its end.
    pub fn intend(&self, intent: &Intent) -> Result<IntentId, Failure> {
        if self.cancel.is_cancelled() || self.deadline.left().is_none() {
            let cause = "not begun: no time is left for it";
            return Err(Failure::new(ErrorKind::TimedOut, &intent.subject, cause));
        }
        Ok(self.events.intend(intent))
    }

    /// Takes an intent back: the peer has refused, so that nothing sticks, or the run itself has undone it, as a lock
    /// is released. Not for a request whose reply is missing: nobody knows what it did.
    pub fn withdraw(&self, intent_id: IntentId) {
        self.events.withdraw(intent_id);
    }

    /// What earlier runs of this machine have left with steps of this kind, and is still to be undone; oldest first. A
    /// state directory that does not answer within a second has nothing to tell.
    pub fn left_before(&self) -> Vec<Intent> {
        self.events.left_before()
    }

    /// Whether what was declared stands in the record. Where it does not, the disk being full say, `farewell start` will
    /// not undo it.
    pub fn is_recorded(&self, intent_id: IntentId) -> bool {
        self.events.is_recorded(intent_id)
    }
}

/// A configured step, ready to be attempted any number of times.
pub trait Action: Send + Sync {
    /// Makes one attempt, and returns when its effect was seen or it failed, at the latest at `context.deadline`.
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure>;

    /// Asks everything that an attempt would need, and changes nothing. Returns one sentence, what was asked and what the
    /// answer was, at the latest at `context.deadline`.
    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure>;

    /// Keeps what an undo is to give back for the time that it must wait, at the latest at `context.deadline`. Nothing, unless
    /// that expires by itself.
    fn renew(&self, _context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        Ok(Outcome::AlreadyDone)
    }
}

/// What a step has to do with the rest of this machine, so that farewell.service is ordered after it: systemd stops
/// everything else at the same moment that farewell starts.
#[derive(Default)]
pub struct Dependencies {
    /// Units that it stops: names, or patterns of them.
    pub units: Vec<Field<String>>,
    /// Whether processes that a unit's own settings let run on after its stop are left, where the configuration says so.
    pub leave_behind: Option<bool>,
    /// Paths that it uses, which may be on mounts.
    pub paths: Vec<Field<PathBuf>>,
    /// Peers that it talks to. Where one is on this machine, its unit must outlive the run.
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
    /// Attempts of which each may take all that is left; `attempt-timeout` is for what comes before its peer is at work (the
    /// connection of a request that must not be repeated meanwhile).
    Patient,
    /// One attempt that lasts until its condition holds; `attempt-timeout` is for each look at it (a wait).
    Polled,
}

/// What the configuration of a step's kind comes to.
pub struct StepSpec {
    /// What an attempt does.
    pub action: Box<dyn Action>,
    /// How it uses its time.
    pub policy: AttemptPolicy,
    /// What it may still need to end once it is cancelled, for its children say. Zero: it can be abandoned at once.
    pub grace: Duration,
    /// What it has to do with the rest of this machine.
    pub dependencies: Dependencies,
    /// Whether it may stop the application: what nobody stops before a lock is released runs on behind it.
    pub may_stop: bool,
    /// What is due after it, to the end of the run.
    pub held: Option<Held>,
    /// Whether it takes out what neither `farewell start` nor the member itself brings back, should this machine restart
    /// after all.
    pub is_permanent: bool,
}

impl StepSpec {
    /// The step of a kind that needs no time to end, has nothing to do with the rest of this machine, and owes nothing
    /// when it has ended.
    pub fn new(action: impl Action + 'static, policy: AttemptPolicy) -> StepSpec {
        StepSpec {
            action: Box::new(action),
            policy,
            grace: Duration::ZERO,
            dependencies: Dependencies::default(),
            may_stop: false,
            held: None,
            is_permanent: false,
        }
    }
}

/// What a step owes when it has ended: something that it holds is renewed, and given back as the run's last act.
#[derive(Clone)]
pub struct Held {
    /// Attempted again and again from the good end of the step to the beginning of `release`, each time after this long.
    pub renewal: Option<(Duration, Arc<dyn Action>)>,
    /// Attempted when every other step has ended, whatever became of the step itself, which may even be under way still
    /// on a thread that was abandoned. A run that is told to end at once attempts it once, for a second.
    pub release: Arc<dyn Action>,
}

/// Makes the undo of what was intended, from the record alone: the configuration of that run may be gone. A credential
/// is read anew, by the name that the intent has for it.
///
/// Where one run after another has left the same thing, it is one undo: what the first one found is restored, by the
/// addresses of the last one.
///
/// The undo is attempted as a step is, with the same retries, until it succeeds; over several boots, if need be. It is
/// done when its effect was seen, and must be harmless where there is nothing to undo: the run may have been killed
/// before its request, between request and reply, or after somebody undid it by hand. Where the peer knows who left
/// something, what others have left since stays. It leaves nothing sticky itself.
///
/// # Errors
/// One sentence, if the intent is not of this kind: a newer farewell may have written it.
pub type Undo = fn(&Chain) -> Result<Box<dyn Action>, String>;

/// A member of a kind: a registry that can be left, a cluster that must be safe, or what keeps a lock.
///
/// The doc comment of each member lists its keys, as that of a [`Kind`] does.
pub struct Member {
    /// The word that selects it: `etcd` in `registry = "etcd"`.
    pub name: &'static str,
    /// Reads the member's own keys, as [`Kind::read`] does, and leaves it to the kind to finish the section.
    pub read: fn(&Section<'_>) -> Option<StepSpec>,
    /// How what it leaves is undone; the intent's member is its name. `None` where it leaves nothing sticky.
    pub undo: Option<Undo>,
}

impl Member {
    /// Reads the step of the member that the key selects, and finishes the section. `subject` is what the key's value is in
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

    /// The member that the key selects. While it is unknown, so is whether the section's other keys are right.
    pub fn select(
        section: &Section<'_>,
        key: &'static str,
        subject: &str,
        members: &'static [Member],
    ) -> Option<&'static Member> {
        let choices: Vec<_> = members.iter().map(|it| (it.name, it)).collect();
        section.required(key, |section, key| section.choice(key, subject, &choices))
    }

    /// The undo of what a member of the table has left.
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
                "this farewell does not know how what the {subject} `{member}` leaves is undone; the one that left it does"
            )),
        }
    }
}

/// A kind of step: its name in the configuration, how its keys are read, and how what its steps leave is undone.
///
/// The doc comment of each entry in the tables lists its keys, as tests/integration/reference/keys.rs wants it: manual and schema are
/// made of that.
pub struct Kind {
    /// The word after `kind =`.
    pub name: &'static str,
    /// Reads the kind's own keys and finishes the section (the keys that every step has were read before). Everything
    /// that is wrong is reported to the section; `None` when nothing came of it.
    pub read: fn(&Section<'_>) -> Option<StepSpec>,
    /// How what its steps have declared with [`AttemptContext::intend`] is undone; `None` for a kind that leaves nothing sticky.
    pub undo: Option<Undo>,
}
