//! The contract of a reporter, and the threads that keep reporters from delaying a run.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use crate::model::event::Event;

/// What a reporter hears.
pub enum Update<'a> {
    /// Something happened.
    Event(&'a Event),
    /// Some time has passed; the time since the run's start.
    Tick(Duration),
    /// There is nothing else to hear for now: the time to flush what was kept back.
    Idle,
}

/// Shows a run to somebody. It lives on a thread of its own, and nobody waits for what it does with the news.
pub trait Reporter: Send {
    /// Hears the next news.
    fn hear(&mut self, update: Update<'_>);
}

/// Takes each event and makes nobody wait.
pub type Sink = Box<dyn Fn(&Arc<Event>) + Send>;

/// Held by a reporter's thread until it has finished.
pub struct Busy {
    _open: Sender<()>,
}

/// The reporters of a run, each at work on its thread.
pub struct Dispatcher {
    sinks: Vec<Sink>,
    /// Each thread holds the other end until it has finished; nothing is ever sent.
    finished: Receiver<()>,
    at_work: Sender<()>,
}

impl Default for Dispatcher {
    fn default() -> Self {
        let (at_work, finished) = mpsc::channel();
        Dispatcher {
            sinks: Vec::new(),
            finished,
            at_work,
        }
    }
}

impl Dispatcher {
    /// Puts a reporter to work. It hears a tick whenever `every` has passed, or none.
    ///
    /// # Errors
    /// When the system has no thread left for it; the run goes on without it.
    pub fn add(
        &mut self,
        name: &str,
        started: Instant,
        every: Option<Duration>,
        mut reporter: Box<dyn Reporter>,
    ) -> std::io::Result<()> {
        self.add_sink(|at_work| {
            let (events, inbox) = mpsc::channel();
            thread::Builder::new()
                .name(name.to_owned())
                .stack_size(256 << 10)
                .spawn(move || {
                    listen(&inbox, started, every, reporter.as_mut());
                    drop(at_work);
                })?;
            // A reporter that panicked is gone; the run does not care.
            Ok(Box::new(move |event| drop(events.send(event.clone()))))
        })
    }

    /// Puts a reporter to work that brings a thread of its own.
    ///
    /// # Errors
    /// Its own.
    pub fn add_sink(
        &mut self,
        begin: impl FnOnce(Busy) -> std::io::Result<Sink>,
    ) -> std::io::Result<()> {
        let at_work = Busy {
            _open: self.at_work.clone(),
        };
        self.sinks.push(begin(at_work)?);
        Ok(())
    }

    /// Tells every reporter.
    pub fn tell(&self, event: Event) {
        let event = Arc::new(event);
        self.sinks.iter().for_each(|sink| sink(&event));
    }

    /// Lets the reporters finish what they have heard, for at most `patience`; who is stuck is left behind.
    pub fn close(self, patience: Duration) {
        drop(self.sinks);
        drop(self.at_work);
        // Ends when the last of them has dropped its end, or when their time is over.
        let _ = self.finished.recv_timeout(patience);
    }
}

fn listen(
    inbox: &Receiver<Arc<Event>>,
    started: Instant,
    every: Option<Duration>,
    reporter: &mut dyn Reporter,
) {
    let mut next = every.map(|every| Instant::now() + every);
    loop {
        // Looked at before every event, or a child that never stops talking would keep the ticks away.
        if let (Some(time), Some(every)) = (next, every)
            && Instant::now() >= time
        {
            reporter.hear(Update::Tick(started.elapsed()));
            next = Some(Instant::now() + every);
        }
        match inbox.try_recv() {
            Ok(event) => {
                reporter.hear(Update::Event(&event));
                continue;
            }
            Err(TryRecvError::Empty) => reporter.hear(Update::Idle),
            Err(TryRecvError::Disconnected) => return reporter.hear(Update::Idle),
        }
        let heard = match next {
            Some(next) => inbox.recv_timeout(next.saturating_duration_since(Instant::now())),
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match heard {
            Ok(event) => reporter.hear(Update::Event(&event)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::EventKind;

    struct Listener(Sender<&'static str>);

    impl Reporter for Listener {
        fn hear(&mut self, update: Update<'_>) {
            let _ = self.0.send(match update {
                Update::Event(_) => "event",
                Update::Tick(_) => "tick",
                Update::Idle => "idle",
            });
            // Slower than the events come, so that its inbox is never empty.
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn event() -> Event {
        Event {
            at: Duration::ZERO,
            kind: EventKind::Warning {
                message: String::new(),
            },
        }
    }

    #[test]
    fn a_flood_of_events_does_not_keep_the_ticks_away() {
        let (said, heard) = mpsc::channel();
        let mut dispatcher = Dispatcher::default();
        let every = Some(Duration::from_millis(10));
        dispatcher
            .add("listener", Instant::now(), every, Box::new(Listener(said)))
            .expect("a thread");
        for _ in 0..100 {
            dispatcher.tell(event());
        }
        dispatcher.close(Duration::from_secs(10));
        let heard: Vec<&str> = heard.iter().collect();
        let last_event = heard.iter().rposition(|it| *it == "event");
        let ticks = heard[..last_event.expect("events")].iter();
        assert!(ticks.filter(|it| **it == "tick").count() >= 5, "{heard:?}");
        assert_eq!(heard.iter().filter(|it| **it == "event").count(), 100);
        assert_eq!(heard.last(), Some(&"idle"));
    }
}
