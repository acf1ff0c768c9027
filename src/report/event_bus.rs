//! From the runner's happenings to events that every reporter hears: stamped, masked, in one order.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::history::state_dir::Store;
use crate::history::survey::Survey;
use crate::model::error::Failure;
use crate::model::event::{Event, EventKind};
use crate::model::intent::{Intent, IntentId};
use crate::model::machine::Machine;
use crate::model::secrets::mask;
use crate::report::dispatch::{Busy, Dispatcher, Reporter, Sink};
use crate::report::record::Written;
use crate::run::context::EventSink;
use crate::sys::files;
use crate::sys::sync::Mutex;

/// How long a step waits for the record to say that it begins, or to have on the disk what it intends. A disk that
/// takes longer is not waited for again until it is back.
const PATIENCE: Duration = Duration::from_millis(50);

/// How long the record may take at the end of a run until what it lacks counts as lost. Only a run that has left something
/// waits for that.
const LAST: Duration = Duration::from_secs(2);

/// How long the state directory may take to tell what earlier runs have left.
const ANSWER: Duration = Duration::from_secs(1);

/// The audience of a run.
pub struct EventBus {
    begun: Instant,
    written: Arc<Written>,
    earlier: OnceLock<Earlier>,
    inner: Mutex<Inner>,
}

/// What is pending of earlier runs.
struct Earlier {
    store: Store,
    machine: Machine,
    /// Looked up when somebody asks first: the kind of the step that left it, and what it left.
    left: OnceLock<Vec<(String, Intent)>>,
}

struct Inner {
    /// `None` once the run has ended: what a thread that was left behind still says is heard by nobody.
    dispatcher: Option<Dispatcher>,
    told: u64,
    ended: Vec<bool>,
    /// The run's id, and the kinds of its steps.
    run: String,
    kinds: Vec<String>,
    /// What is left by now: how many events were told with it, and what it is for people.
    left: Vec<(IntentId, u64, String)>,
}

impl EventBus {
    /// A broadcast without reporters; times are counted from `begun`.
    pub fn new(begun: Instant) -> EventBus {
        let inner = Inner {
            dispatcher: Some(Dispatcher::default()),
            told: 0,
            ended: Vec::new(),
            run: String::new(),
            kinds: Vec::new(),
            left: Vec::new(),
        };
        EventBus {
            begun,
            written: Arc::default(),
            earlier: OnceLock::new(),
            inner: Mutex::new(inner),
        }
    }

    /// How far the record is; for the reporter that writes it.
    pub fn written(&self) -> Arc<Written> {
        self.written.clone()
    }

    /// Says where the records of earlier runs are, and which of them are of this machine.
    pub fn know(&self, store: Store, machine: Machine) {
        // Said once.
        let _ = self.earlier.set(Earlier {
            store,
            machine,
            left: OnceLock::new(),
        });
    }

    /// What the run has left that is not in its record: the step, and what it is.
    pub fn unrecorded(&self) -> Vec<(usize, String)> {
        let left = self.inner.lock().left.clone();
        if let Some((_, told, _)) = left.last() {
            self.written.wait_to_know(*told, LAST);
        }
        let lost = left
            .into_iter()
            .filter(|(_, told, _)| !self.written.holds(*told));
        lost.map(|(mark, _, subject)| (mark.step, subject))
            .collect()
    }

    /// Puts a reporter to work, with a tick whenever `every` has passed.
    ///
    /// # Errors
    /// When the system has no thread left for it; the run goes on without it.
    pub fn add(
        &self,
        name: &str,
        every: Option<Duration>,
        reporter: Box<dyn Reporter>,
    ) -> std::io::Result<()> {
        match &mut self.inner.lock().dispatcher {
            Some(dispatcher) => dispatcher.add(name, self.begun, every, reporter),
            None => Ok(()),
        }
    }

    /// Puts a reporter to work that brings a thread of its own.
    ///
    /// # Errors
    /// Its own; the run goes on without it.
    pub fn add_sink(
        &self,
        begin: impl FnOnce(Busy) -> std::io::Result<Sink>,
    ) -> std::io::Result<()> {
        match &mut self.inner.lock().dispatcher {
            Some(dispatcher) => dispatcher.add_sink(begin),
            None => Ok(()),
        }
    }

    /// Ends the broadcast and lets the reporters finish, for at most `patience`.
    pub fn close(&self, patience: Duration) {
        let dispatcher = self.inner.lock().dispatcher.take();
        if let Some(dispatcher) = dispatcher {
            dispatcher.close(patience);
        }
    }
}

impl EventSink for EventBus {
    fn left_before(&self, step: usize) -> Vec<Intent> {
        let Some(earlier) = self.earlier.get() else {
            return Vec::new();
        };
        let (run, kind) = {
            let inner = self.inner.lock();
            (inner.run.clone(), inner.kinds.get(step).cloned())
        };
        let left = earlier.left.get_or_init(|| earlier.look(run));
        let of_kind = left.iter().filter(|(it, _)| Some(it) == kind.as_ref());
        of_kind.map(|(_, intent)| intent.clone()).collect()
    }

    fn is_recorded(&self, mark: IntentId) -> bool {
        let told = {
            let inner = self.inner.lock();
            let found = inner.left.iter().rfind(|(it, ..)| *it == mark);
            found.map(|(_, told, _)| *told)
        };
        told.is_none_or(|told| {
            self.written.wait_for(told, PATIENCE);
            self.written.holds(told)
        })
    }

    fn hear(&self, kind: EventKind) {
        let begins = matches!(kind, EventKind::StepStarted { .. });
        let intends = matches!(kind, EventKind::Intended { .. });
        let kind = masked(kind);
        let told = {
            let mut inner = self.inner.lock();
            if !inner.is_timely(&kind) {
                return;
            }
            inner.told += 1;
            inner.note(&kind);
            let event = Event {
                at: self.begun.elapsed(),
                kind,
            };
            if let Some(dispatcher) = &inner.dispatcher {
                dispatcher.tell(event);
            }
            inner.told
        };
        if begins {
            // The record says that a step runs before it does, so that nothing ever ran that no record knows of.
            self.written.wait_for(told, PATIENCE);
        }
        if intends {
            // And what is to be undone is known even after a power cut.
            self.written.wait_for_sync(told, PATIENCE);
        }
    }
}

impl Earlier {
    fn look(&self, run: String) -> Vec<(String, Intent)> {
        let (store, machine) = (self.store.clone(), self.machine.clone());
        let looked = files::within(ANSWER, move || {
            let own = store.path(&run);
            let pending = Survey::of(&store, &machine)?.pending.into_iter();
            let earlier = pending.filter(|it| it.record != own);
            Ok(earlier.map(|it| (it.kind, it.intent)).collect())
        });
        looked.unwrap_or_else(|error| {
            let place = self.store.directory().display();
            log::warn!("{place}: {error}: nobody knows what earlier runs have left");
            Vec::new()
        })
    }
}

impl Inner {
    /// Notes what is asked for later.
    fn note(&mut self, kind: &EventKind) {
        match kind {
            EventKind::RunStarted { run, steps, .. } => {
                self.run.clone_from(run);
                self.kinds = steps.iter().map(|it| it.kind.clone()).collect();
            }
            EventKind::Intended { mark, intent } => {
                self.left.push((*mark, self.told, intent.subject.clone()));
            }
            EventKind::Settled { mark } => self.left.retain(|(it, ..)| it != mark),
            _ => {}
        }
    }

    /// Whether nobody has said yet that what it is about is over.
    fn is_timely(&mut self, kind: &EventKind) -> bool {
        match kind {
            EventKind::RunStarted { steps, .. } => self.ended = vec![false; steps.len()],
            EventKind::StepStarted { step, .. }
            | EventKind::AttemptFailed { step, .. }
            | EventKind::Waiting { step, .. }
            | EventKind::Noted { step, .. }
            | EventKind::Copied { step, .. }
            | EventKind::Output { step, .. } => return self.ended.get(*step) == Some(&false),
            EventKind::StepFinished { step, .. } => {
                return self
                    .ended
                    .get_mut(*step)
                    .is_some_and(|ended| !std::mem::replace(ended, true));
            }
            // A step that is over may still be leaving something, on a thread that was left behind.
            EventKind::Intended { .. }
            | EventKind::Settled { .. }
            | EventKind::Warning { .. }
            | EventKind::RunFinished { .. } => {}
        }
        true
    }
}

fn masked(mut kind: EventKind) -> EventKind {
    let text = |text: &mut String| {
        if let std::borrow::Cow::Owned(masked) = mask(text) {
            *text = masked;
        }
    };
    let failing = |failure: &mut Failure| {
        text(&mut failure.subject);
        text(&mut failure.cause);
    };
    match &mut kind {
        EventKind::RunStarted { .. }
        | EventKind::StepStarted { .. }
        // Holds no secret, and must say later what it says now.
        | EventKind::Intended { .. }
        | EventKind::Settled { .. } => {}
        EventKind::AttemptFailed { failure, .. } => failing(failure),
        EventKind::Waiting { what, .. } => text(what),
        EventKind::Noted { text: noted, .. } => text(noted),
        EventKind::Copied { copy, .. } => text(&mut copy.name),
        EventKind::Output { line, .. } => text(line),
        EventKind::StepFinished {
            failure, reason, ..
        } => {
            failure.iter_mut().for_each(failing);
            reason.iter_mut().for_each(text);
        }
        EventKind::Warning { message } => text(message),
        EventKind::RunFinished { reason, .. } => reason.iter_mut().for_each(text),
    }
    kind
}
