//! Makes events of what the scheduler and the steps emit: stamped, masked, and in one order for every reporter.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::history::state_dir::Store;
use crate::history::survey::Survey;
use crate::model::event::{Event, EventKind};
use crate::model::intent::{Intent, IntentId};
use crate::model::machine::Machine;
use crate::report::dispatch::{Dispatcher, Guard, Reporter, Sink};
use crate::report::record_progress::RecordProgress;
use crate::run::context::EventSink;
use crate::sys::files;
use crate::sys::sync::Mutex;

/// How long a step waits until the record has its begin, or until its intent is on disk. After a disk took longer once,
/// no step waits for it until it has caught up.
const PATIENCE: Duration = Duration::from_millis(50);

/// How long the record may take at the end of a run before missing events count as lost. Only a run that left intents
/// waits for it.
const FINAL_PATIENCE: Duration = Duration::from_secs(2);

/// How long reading the intents of earlier runs from the state directory may take.
const STATE_DIR_PATIENCE: Duration = Duration::from_secs(1);

/// The event sink of a run.
pub struct EventBus {
    begun: Instant,
    written: Arc<RecordProgress>,
    earlier: OnceLock<Earlier>,
    inner: Mutex<Inner>,
}

/// Intents of earlier runs that are still pending.
struct Earlier {
    store: Store,
    machine: Machine,
    /// Read on first use: the kind of the step that left it, and the intent.
    pending: OnceLock<Vec<(String, Intent)>>,
}

struct Inner {
    /// `None` once the run has ended: events of an abandoned thread are dropped then.
    dispatcher: Option<Dispatcher>,
    sent: u64,
    ended: Vec<bool>,
    /// The run's id, and the kinds of its steps.
    run: String,
    kinds: Vec<String>,
    /// Open intents: how many events there were with the intent's own, and its text for people.
    left: Vec<(IntentId, u64, String)>,
}

impl EventBus {
    /// A bus without reporters; event times count from `begun`.
    pub fn new(begun: Instant) -> EventBus {
        let inner = Inner {
            dispatcher: Some(Dispatcher::new(begun)),
            sent: 0,
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

    /// Shared with the reporter that writes the record.
    pub fn written(&self) -> Arc<RecordProgress> {
        self.written.clone()
    }

    /// Sets where the records of earlier runs are, and which machine's records count.
    pub fn set_store(&self, store: Store, machine: Machine) {
        // Called once.
        let _ = self.earlier.set(Earlier {
            store,
            machine,
            pending: OnceLock::new(),
        });
    }

    /// Adds a reporter, with a tick every `every`.
    pub fn add(&self, every: Option<Duration>, reporter: Box<dyn Reporter>) -> std::io::Result<()> {
        match &mut self.inner.lock().dispatcher {
            Some(dispatcher) => dispatcher.add(every, reporter),
            None => Ok(()),
        }
    }

    /// Adds a sink, which handles events on a thread of its own.
    pub fn add_sink(&self, sink: Sink) {
        if let Some(dispatcher) = &mut self.inner.lock().dispatcher {
            dispatcher.add_sink(sink);
        }
    }

    /// A guard for a thread that [`EventBus::close`] waits for; `None` once the bus is closed.
    pub fn guard(&self) -> Option<Guard> {
        self.inner.lock().dispatcher.as_ref().map(Dispatcher::guard)
    }

    /// Drops later events, and lets the reporters finish, for at most `patience`.
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
        let pending = earlier.pending.get_or_init(|| earlier.read(run));
        let of_kind = pending.iter().filter(|(it, _)| Some(it) == kind.as_ref());
        of_kind.map(|(_, intent)| intent.clone()).collect()
    }

    fn unrecorded(&self) -> Vec<(usize, String)> {
        let left = self.inner.lock().left.clone();
        if let Some((_, sent, _)) = left.last() {
            self.written.wait_to_know(*sent, FINAL_PATIENCE);
        }
        let lost = left
            .into_iter()
            .filter(|(_, sent, _)| !self.written.holds(*sent));
        lost.map(|(mark, _, subject)| (mark.step, subject))
            .collect()
    }

    fn is_recorded(&self, mark: IntentId) -> bool {
        let sent = {
            let inner = self.inner.lock();
            let found = inner.left.iter().rfind(|(it, ..)| *it == mark);
            found.map(|(_, sent, _)| *sent)
        };
        sent.is_none_or(|sent| {
            self.written.wait_for(sent, PATIENCE);
            self.written.holds(sent)
        })
    }

    fn emit(&self, kind: EventKind) {
        let begins = matches!(kind, EventKind::StepStarted { .. });
        let intends = matches!(kind, EventKind::Intended { .. });
        let sent = {
            let mut inner = self.inner.lock();
            if !inner.is_current(&kind) {
                return;
            }
            inner.sent += 1;
            inner.track(&kind);
            if let Some(dispatcher) = &inner.dispatcher {
                dispatcher.send(Event::new(self.begun.elapsed(), kind));
            }
            inner.sent
        };
        if begins {
            // The record has a step's begin before the step runs, so that no step ever ran without a trace.
            self.written.wait_for(sent, PATIENCE);
        }
        if intends {
            // An intent is on disk before it takes effect, so that it survives a power cut.
            self.written.wait_for_sync(sent, PATIENCE);
        }
    }
}

impl Earlier {
    fn read(&self, run: String) -> Vec<(String, Intent)> {
        let (store, machine) = (self.store.clone(), self.machine.clone());
        let read = files::within(STATE_DIR_PATIENCE, move || {
            let own = store.path(&run);
            let pending = Survey::of(&store, &machine)?.pending.into_iter();
            let earlier = pending.filter(|it| it.record != own);
            Ok(earlier.map(|it| (it.kind, it.intent)).collect())
        });
        read.unwrap_or_else(|error| {
            let place = self.store.directory().display();
            log::warn!("{place}: {error}: what earlier runs left to undo is not known");
            Vec::new()
        })
    }
}

impl Inner {
    /// Keeps what later calls need.
    fn track(&mut self, kind: &EventKind) {
        match kind {
            EventKind::RunStarted { run, steps, .. } => {
                self.run.clone_from(run);
                self.kinds = steps.iter().map(|it| it.kind.clone()).collect();
            }
            EventKind::Intended { mark, intent } => {
                self.left.push((*mark, self.sent, intent.subject.clone()));
            }
            EventKind::Settled { mark } => self.left.retain(|(it, ..)| it != mark),
            _ => {}
        }
    }

    /// Whether the event still counts: its step, or the run, has not ended.
    fn is_current(&mut self, kind: &EventKind) -> bool {
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
            // An abandoned thread may still declare an intent after its step has ended.
            EventKind::Intended { .. }
            | EventKind::Settled { .. }
            | EventKind::Warning { .. }
            | EventKind::RunFinished { .. } => {}
        }
        true
    }
}
