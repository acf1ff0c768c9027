//! The contract of a reporter, and the threads that keep reporters from delaying a run.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use crate::model::event::Event;

/// What a reporter hears.
pub enum News<'a> {
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
    fn hear(&mut self, news: News<'_>);
}

/// Takes each event and makes nobody wait.
pub type Desk = Box<dyn Fn(&Arc<Event>) + Send>;

/// Held by a reporter's thread until it has finished.
pub struct AtWork {
    _open: Sender<()>,
}

/// The reporters of a run, each at work on its thread.
pub struct Newsroom {
    desks: Vec<Desk>,
    /// Each thread holds the other end until it has finished; nothing is ever sent.
    finished: Receiver<()>,
    at_work: Sender<()>,
}

impl Default for Newsroom {
    fn default() -> Self {
        let (at_work, finished) = mpsc::channel();
        Newsroom {
            desks: Vec::new(),
            finished,
            at_work,
        }
    }
}

impl Newsroom {
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
        self.add_desk(|at_work| {
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
    pub fn add_desk(
        &mut self,
        begin: impl FnOnce(AtWork) -> std::io::Result<Desk>,
    ) -> std::io::Result<()> {
        let at_work = AtWork {
            _open: self.at_work.clone(),
        };
        self.desks.push(begin(at_work)?);
        Ok(())
    }

    /// Tells every reporter.
    pub fn tell(&self, event: Event) {
        let event = Arc::new(event);
        self.desks.iter().for_each(|desk| desk(&event));
    }

    /// Lets the reporters finish what they have heard, for at most `patience`; who is stuck is left behind.
    pub fn close(self, patience: Duration) {
        drop(self.desks);
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
            reporter.hear(News::Tick(started.elapsed()));
            next = Some(Instant::now() + every);
        }
        match inbox.try_recv() {
            Ok(event) => {
                reporter.hear(News::Event(&event));
                continue;
            }
            Err(TryRecvError::Empty) => reporter.hear(News::Idle),
            Err(TryRecvError::Disconnected) => return reporter.hear(News::Idle),
        }
        let heard = match next {
            Some(next) => inbox.recv_timeout(next.saturating_duration_since(Instant::now())),
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match heard {
            Ok(event) => reporter.hear(News::Event(&event)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::Happening;

    struct Listener(Sender<&'static str>);

    impl Reporter for Listener {
        fn hear(&mut self, news: News<'_>) {
            let _ = self.0.send(match news {
                News::Event(_) => "event",
                News::Tick(_) => "tick",
                News::Idle => "idle",
            });
            // Slower than the events come, so that its inbox is never empty.
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn event() -> Event {
        Event {
            at: Duration::ZERO,
            happening: Happening::Warning {
                message: String::new(),
            },
        }
    }

    #[test]
    fn a_flood_of_events_does_not_keep_the_ticks_away() {
        let (said, heard) = mpsc::channel();
        let mut newsroom = Newsroom::default();
        let every = Some(Duration::from_millis(10));
        newsroom
            .add("listener", Instant::now(), every, Box::new(Listener(said)))
            .expect("a thread");
        for _ in 0..100 {
            newsroom.tell(event());
        }
        newsroom.close(Duration::from_secs(10));
        let heard: Vec<&str> = heard.iter().collect();
        let last_event = heard.iter().rposition(|it| *it == "event");
        let ticks = heard[..last_event.expect("events")].iter();
        assert!(ticks.filter(|it| **it == "tick").count() >= 5, "{heard:?}");
        assert_eq!(heard.iter().filter(|it| **it == "event").count(), 100);
        assert_eq!(heard.last(), Some(&"idle"));
    }
}
