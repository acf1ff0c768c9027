//! From what the scheduler and the steps emit to events: stamped, masked, in one order, for every reporter.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::history::state_dir::Store;
use crate::history::survey::Survey;
use crate::model::event::{Event, EventKind};
use crate::model::intent::{Intent, IntentId};
use crate::model::machine::Machine;
use crate::report::dispatch::{Dispatcher, Guard, Reporter, Sink};
use crate::report::written::Written;
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
    /// `None` once the run has ended: what an abandoned thread still emits is dropped.
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
    /// A bus without reporters; times are counted from `begun`.
    pub fn new(begun: Instant) -> EventBus {
        let inner = Inner {
            dispatcher: Some(Dispatcher::new(begun)),
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

    /// Adds a reporter, with a tick whenever `every` has passed.
    ///
    /// # Errors
    /// When the system has no thread left for the reporters.
    pub fn add(&self, every: Option<Duration>, reporter: Box<dyn Reporter>) -> std::io::Result<()> {
        match &mut self.inner.lock().dispatcher {
            Some(dispatcher) => dispatcher.add(every, reporter),
            None => Ok(()),
        }
    }

    /// Adds what takes events on a thread of its own.
    pub fn add_sink(&self, sink: Sink) {
        if let Some(dispatcher) = &mut self.inner.lock().dispatcher {
            dispatcher.add_sink(sink);
        }
    }

    /// A guard for a thread that [`EventBus::close`] waits for; `None` once the bus is closed.
    pub fn guard(&self) -> Option<Guard> {
        self.inner.lock().dispatcher.as_ref().map(Dispatcher::guard)
    }

    /// Takes no more events, and lets the reporters finish, for at most `patience`.
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

    fn unrecorded(&self) -> Vec<(usize, String)> {
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

    fn emit(&self, kind: EventKind) {
        let begins = matches!(kind, EventKind::StepStarted { .. });
        let intends = matches!(kind, EventKind::Intended { .. });
        let told = {
            let mut inner = self.inner.lock();
            if !inner.is_timely(&kind) {
                return;
            }
            inner.told += 1;
            inner.note(&kind);
            if let Some(dispatcher) = &inner.dispatcher {
                dispatcher.send(Event::new(self.begun.elapsed(), kind));
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
            // A step that is over may still be leaving something, on an abandoned thread.
            EventKind::Intended { .. }
            | EventKind::Settled { .. }
            | EventKind::Warning { .. }
            | EventKind::RunFinished { .. } => {}
        }
        true
    }
}
