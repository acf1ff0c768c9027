//! The trait of a reporter, and the thread that keeps reporters from delaying a run.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use crate::model::event::Event;
use crate::view::progress::Progress;

/// Why a reporter is called.
#[derive(Clone, Copy)]
pub enum Update<'a> {
    /// Something happened.
    Event(&'a Event),
    /// Time has passed: the time since the run's start.
    Tick(Duration),
    /// No other update is due: time to flush.
    Idle,
}

/// Shows a run somewhere. It must not block: all reporters share a thread. Whatever may block needs a thread of its
/// own.
pub trait Reporter: Send {
    /// Shows an update. `progress` includes every event so far.
    fn report(&mut self, update: Update<'_>, progress: &Progress);
}

/// Takes each event without blocking.
pub type Sink = Box<dyn Fn(&Arc<Event>) + Send>;

/// Held by a thread that reports; [`Dispatcher::close`] waits until every guard is dropped.
pub struct Guard {
    _open: Sender<()>,
}

/// Reporters, and the progress that is handed to them with each update.
#[derive(Default)]
pub struct Feed {
    progress: Option<Progress>,
    reporters: Vec<Slot>,
}

struct Slot {
    reporter: Box<dyn Reporter>,
    /// The time between two ticks, and when the next one is due.
    every: Option<Duration>,
    next: Option<Instant>,
}

impl Feed {
    /// A feed for one reporter; the caller sends its ticks.
    pub fn of(reporter: impl Reporter + 'static) -> Feed {
        let mut feed = Feed::default();
        feed.add(None, Box::new(reporter));
        feed
    }

    fn add(&mut self, every: Option<Duration>, reporter: Box<dyn Reporter>) {
        self.reporters.push(Slot {
            reporter,
            every,
            next: every.map(|every| Instant::now() + every),
        });
    }

    /// Folds an event into the progress, and hands the update to every reporter. Before a run begins there is nothing
    /// to report.
    pub fn update(&mut self, update: Update<'_>) {
        if let Update::Event(event) = update {
            Progress::fold(&mut self.progress, event);
        }
        if let Some(progress) = &self.progress {
            self.reporters
                .retain_mut(|slot| slot.report(update, progress));
        }
    }

    /// Sends the ticks that are due, and returns when the next one is.
    fn tick(&mut self, begun: Instant) -> Option<Instant> {
        let now = Instant::now();
        for slot in &mut self.reporters {
            if let (Some(next), Some(every)) = (slot.next, slot.every)
                && now >= next
            {
                slot.next = Some(now + every);
                if let Some(progress) = &self.progress {
                    slot.report(Update::Tick(now - begun), progress);
                }
            }
        }
        self.reporters.iter().filter_map(|slot| slot.next).min()
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Event(event) => self.update(Update::Event(&event)),
            Message::Reporter(every, reporter) => self.add(every, reporter),
        }
    }
}

impl Slot {
    /// Whether to keep the reporter: one that panics is removed.
    fn report(&mut self, update: Update<'_>, progress: &Progress) -> bool {
        let report = || self.reporter.report(update, progress);
        catch_unwind(AssertUnwindSafe(report)).is_ok()
    }
}

enum Message {
    Event(Arc<Event>),
    Reporter(Option<Duration>, Box<dyn Reporter>),
}

/// Hands each event to the sinks, and to the thread of the reporters.
pub struct Dispatcher {
    begun: Instant,
    reporters: Option<Sender<Message>>,
    sinks: Vec<Sink>,
    /// Disconnected when every guard is dropped; nothing is ever sent over it.
    finished: Receiver<()>,
    open: Sender<()>,
}

impl Dispatcher {
    /// A dispatcher for a run that began at `begun`.
    pub fn new(begun: Instant) -> Dispatcher {
        let (open, finished) = mpsc::channel();
        Dispatcher {
            begun,
            reporters: None,
            sinks: Vec::new(),
            finished,
            open,
        }
    }

    /// A guard for a thread that [`Dispatcher::close`] waits for.
    pub fn guard(&self) -> Guard {
        Guard {
            _open: self.open.clone(),
        }
    }

    /// Adds a reporter, with a tick every `every`.
    pub fn add(
        &mut self,
        every: Option<Duration>,
        reporter: Box<dyn Reporter>,
    ) -> std::io::Result<()> {
        let reporters = match self.reporters.take() {
            Some(reporters) => reporters,
            None => self.start()?,
        };
        // The thread ends when this sender is gone.
        let _ = reporters.send(Message::Reporter(every, reporter));
        self.reporters = Some(reporters);
        Ok(())
    }

    fn start(&self) -> std::io::Result<Sender<Message>> {
        let (sender, inbox) = mpsc::channel();
        let (begun, guard) = (self.begun, self.guard());
        thread::Builder::new()
            .name("reporters".into())
            .stack_size(256 << 10)
            .spawn(move || {
                feed(&inbox, begun);
                drop(guard);
            })?;
        Ok(sender)
    }

    /// Adds a sink.
    pub fn add_sink(&mut self, sink: Sink) {
        self.sinks.push(sink);
    }

    /// Hands on an event.
    pub fn send(&self, event: Event) {
        let event = Arc::new(event);
        self.sinks.iter().for_each(|sink| sink(&event));
        if let Some(reporters) = &self.reporters {
            let _ = reporters.send(Message::Event(event));
        }
    }

    /// Lets the reporters finish, for at most `patience`, and abandons those that are stuck.
    pub fn close(self, patience: Duration) {
        drop((self.sinks, self.reporters, self.open));
        let _ = self.finished.recv_timeout(patience);
    }
}

fn feed(inbox: &Receiver<Message>, begun: Instant) {
    let mut feed = Feed::default();
    loop {
        // Before every event: otherwise a child process that never stops writing would starve the ticks.
        let next = feed.tick(begun);
        match inbox.try_recv() {
            Ok(message) => {
                feed.take(message);
                continue;
            }
            Err(TryRecvError::Empty) => feed.update(Update::Idle),
            Err(TryRecvError::Disconnected) => return feed.update(Update::Idle),
        }
        let received = match next {
            Some(next) => inbox.recv_timeout(next.saturating_duration_since(Instant::now())),
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match received {
            Ok(message) => feed.take(message),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::{EventKind, Purpose};
    use crate::model::machine::Machine;
    use crate::model::trigger::Trigger;

    struct Listener(Sender<&'static str>);

    impl Reporter for Listener {
        fn report(&mut self, update: Update<'_>, _: &Progress) {
            let _ = self.0.send(match update {
                Update::Event(_) => "event",
                Update::Tick(_) => "tick",
                Update::Idle => "idle",
            });
            // Slower than the events come, so that its inbox is never empty.
            thread::sleep(Duration::from_millis(1));
        }
    }

    struct Defective;

    impl Reporter for Defective {
        fn report(&mut self, _: Update<'_>, _: &Progress) {
            panic!("a defect");
        }
    }

    fn started() -> EventKind {
        EventKind::RunStarted {
            run: "R1".to_owned(),
            purpose: Purpose::Farewell,
            machine: Machine::default(),
            trigger: Trigger::Stop,
            started: std::time::UNIX_EPOCH,
            budget: Duration::from_secs(90),
            reserve: Duration::ZERO,
            steps: [].into(),
        }
    }

    fn warning() -> EventKind {
        let message = String::new();
        EventKind::Warning { message }
    }

    #[test]
    fn a_flood_of_events_does_not_keep_the_ticks_away() {
        let (said, heard) = mpsc::channel();
        let mut dispatcher = Dispatcher::new(Instant::now());
        let every = Some(Duration::from_millis(10));
        dispatcher
            .add(every, Box::new(Listener(said)))
            .expect("a thread");
        let warnings = (1..100).map(|_| warning());
        for kind in std::iter::once(started()).chain(warnings) {
            dispatcher.send(Event::new(Duration::ZERO, kind));
        }
        dispatcher.close(Duration::from_secs(10));
        let heard: Vec<&str> = heard.iter().collect();
        let last_event = heard.iter().rposition(|it| *it == "event");
        let ticks = heard[..last_event.expect("events")].iter();
        assert!(ticks.filter(|it| **it == "tick").count() >= 5, "{heard:?}");
        assert_eq!(heard.iter().filter(|it| **it == "event").count(), 100);
        assert_eq!(heard.last(), Some(&"idle"));
    }

    #[test]
    fn a_reporter_that_panics_does_not_take_the_others_with_it() {
        let (said, heard) = mpsc::channel();
        let mut dispatcher = Dispatcher::new(Instant::now());
        for reporter in [
            Box::new(Defective) as Box<dyn Reporter>,
            Box::new(Listener(said)),
        ] {
            dispatcher.add(None, reporter).expect("a thread");
        }
        dispatcher.send(Event::new(Duration::ZERO, started()));
        dispatcher.send(Event::new(Duration::ZERO, warning()));
        dispatcher.close(Duration::from_secs(10));
        assert_eq!(heard.iter().filter(|it| *it == "event").count(), 2);
    }
}
