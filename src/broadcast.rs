//! From the runner's happenings to events that every reporter hears: stamped, masked, in one order.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::event::{Event, Happening};
use crate::failure::Failure;
use crate::reporter::{AtWork, Desk, Newsroom, Reporter};
use crate::reporters::record::Written;
use crate::run::errand::Audience;
use crate::secrets::mask;

/// How long a step waits for the record to say that it begins, or to have on the disk what it intends. A disk that
/// takes longer is not waited for again until it is back.
const PATIENCE: Duration = Duration::from_millis(50);

/// The audience of a run.
pub struct Broadcast {
    begun: Instant,
    written: Arc<Written>,
    inner: Mutex<Inner>,
}

struct Inner {
    /// `None` once the run has ended: what a thread that was left behind still says is heard by nobody.
    newsroom: Option<Newsroom>,
    told: u64,
    ended: Vec<bool>,
}

impl Broadcast {
    /// A broadcast without reporters; times are counted from `begun`.
    pub fn new(begun: Instant) -> Broadcast {
        let inner = Inner {
            newsroom: Some(Newsroom::default()),
            told: 0,
            ended: Vec::new(),
        };
        Broadcast {
            begun,
            written: Arc::default(),
            inner: Mutex::new(inner),
        }
    }

    /// How far the record is; for the reporter that writes it.
    pub fn written(&self) -> Arc<Written> {
        self.written.clone()
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
        match &mut self.inner().newsroom {
            Some(newsroom) => newsroom.add(name, self.begun, every, reporter),
            None => Ok(()),
        }
    }

    /// Puts a reporter to work that brings a thread of its own.
    ///
    /// # Errors
    /// Its own; the run goes on without it.
    pub fn add_desk(
        &self,
        begin: impl FnOnce(AtWork) -> std::io::Result<Desk>,
    ) -> std::io::Result<()> {
        match &mut self.inner().newsroom {
            Some(newsroom) => newsroom.add_desk(begin),
            None => Ok(()),
        }
    }

    /// Ends the broadcast and lets the reporters finish, for at most `patience`.
    pub fn close(&self, patience: Duration) {
        let newsroom = self.inner().newsroom.take();
        if let Some(newsroom) = newsroom {
            newsroom.close(patience);
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Audience for Broadcast {
    fn hear(&self, happening: Happening) {
        let begins = matches!(happening, Happening::StepStarted { .. });
        let intends = matches!(happening, Happening::Intended { .. });
        let happening = masked(happening);
        let told = {
            let mut inner = self.inner();
            if !inner.is_timely(&happening) {
                return;
            }
            inner.told += 1;
            let event = Event {
                at: self.begun.elapsed(),
                happening,
            };
            if let Some(newsroom) = &inner.newsroom {
                newsroom.tell(event);
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

impl Inner {
    /// Whether nobody has said yet that what it is about is over.
    fn is_timely(&mut self, happening: &Happening) -> bool {
        match happening {
            Happening::RunStarted { steps, .. } => self.ended = vec![false; steps.len()],
            Happening::StepStarted { step, .. }
            | Happening::AttemptFailed { step, .. }
            | Happening::Waiting { step, .. }
            | Happening::Noted { step, .. }
            | Happening::Output { step, .. } => return self.ended.get(*step) == Some(&false),
            Happening::StepFinished { step, .. } => {
                return self
                    .ended
                    .get_mut(*step)
                    .is_some_and(|ended| !std::mem::replace(ended, true));
            }
            // A step that is over may still be leaving something, on a thread that was left behind.
            Happening::Intended { .. }
            | Happening::Settled { .. }
            | Happening::Warning { .. }
            | Happening::RunFinished { .. } => {}
        }
        true
    }
}

fn masked(mut happening: Happening) -> Happening {
    let text = |text: &mut String| {
        if let std::borrow::Cow::Owned(masked) = mask(text) {
            *text = masked;
        }
    };
    let failing = |failure: &mut Failure| {
        text(&mut failure.noun);
        text(&mut failure.cause);
    };
    match &mut happening {
        Happening::RunStarted { .. }
        | Happening::StepStarted { .. }
        // Holds no secret, and must say later what it says now.
        | Happening::Intended { .. }
        | Happening::Settled { .. } => {}
        Happening::AttemptFailed { failure, .. } => failing(failure),
        Happening::Waiting { what, .. } => text(what),
        Happening::Noted { text: noted, .. } => text(noted),
        Happening::Output { line, .. } => text(line),
        Happening::StepFinished {
            failure, reason, ..
        } => {
            failure.iter_mut().for_each(failing);
            reason.iter_mut().for_each(text);
        }
        Happening::Warning { message } => text(message),
        Happening::RunFinished { reason, .. } => reason.iter_mut().for_each(text),
    }
    happening
}
