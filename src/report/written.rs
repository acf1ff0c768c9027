//! How far the record of a run is.

use std::mem;
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::sys::sync::Mutex;

/// How far the record is, for those who must not begin before it says that they do.
#[derive(Default)]
pub struct Written {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whether there is a record at all; else nobody waits.
    is_kept: bool,
    written: Reach,
    synced: Reach,
    /// How many events the record really has. What could not be written is heard of, and counts as written above, so
    /// that nobody waits for it.
    held: u64,
    /// Whether the disk has failed to take what was written: nobody knows what it has.
    is_broken: bool,
}

#[derive(Default)]
struct Reach {
    events: u64,
    /// Set when somebody waited in vain: the disk is slow or gone, and nobody waits for it any more until it is back.
    behind: bool,
    /// Who waits for how many events. Each is woken when they are there, and not before: a hundred steps may wait.
    waiting: Vec<(u64, Thread)>,
}

impl Reach {
    /// So many events have been reached. Returns the threads that waited for that.
    fn advance(&mut self, events: u64) -> Vec<Thread> {
        self.events = self.events.max(events);
        self.behind = false;
        let (reached, waiting): (Vec<_>, Vec<_>) = mem::take(&mut self.waiting)
            .into_iter()
            .partition(|(events, _)| *events <= self.events);
        self.waiting = waiting;
        reached.into_iter().map(|(_, thread)| thread).collect()
    }
}

impl Written {
    /// Waits until the first `events` events are written, for at most `patience`.
    pub fn wait_for(&self, events: u64, patience: Duration) {
        self.wait(events, patience, |state| &mut state.written);
    }

    /// Waits until the first `events` events are on the disk, so that a power cut does not lose them, for at most
    /// `patience`.
    pub fn wait_for_sync(&self, events: u64, patience: Duration) {
        self.wait(events, patience, |state| &mut state.synced);
    }

    fn wait(&self, events: u64, patience: Duration, reach: fn(&mut State) -> &mut Reach) {
        let is_late = self.wait_while(events, patience, reach, |reach| {
            reach.events < events && !reach.behind
        });
        if is_late {
            reach(&mut self.state.lock()).behind = true;
        }
    }

    /// Waits until the first `events` events are written or could not be, for at most `patience`, also where others have
    /// waited in vain before: for what must be known.
    pub fn wait_to_know(&self, events: u64, patience: Duration) {
        let reach: fn(&mut State) -> &mut Reach = |state| &mut state.written;
        self.wait_while(events, patience, reach, |reach| reach.events < events);
    }

    /// Waits while something is awaited, for at most `patience`; whether it still is.
    fn wait_while(
        &self,
        events: u64,
        patience: Duration,
        reach: fn(&mut State) -> &mut Reach,
        is_awaited: impl Fn(&Reach) -> bool,
    ) -> bool {
        let end = Instant::now() + patience;
        let mut is_registered = false;
        loop {
            let mut state = self.state.lock();
            if !state.is_kept || !is_awaited(reach(&mut state)) {
                return false;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            if !mem::replace(&mut is_registered, true) {
                reach(&mut state).waiting.push((events, thread::current()));
            }
            drop(state);
            thread::park_timeout(left);
        }
    }

    /// Whether the record has the first `events` events, or nobody keeps one.
    pub fn holds(&self, events: u64) -> bool {
        let state = self.state.lock();
        !state.is_kept || (state.held >= events && !state.is_broken)
    }

    pub(super) fn begin(&self) {
        self.state.lock().is_kept = true;
    }

    pub(super) fn fail(&self) {
        self.state.lock().is_broken = true;
    }

    /// So many more events are written; `are_held`: and the record has all of them.
    pub(super) fn advance(&self, events: u64, are_held: bool) {
        let mut state = self.state.lock();
        let written = state.written.events + events;
        let reached = state.written.advance(written);
        if are_held {
            state.held = written;
        }
        // First, so that nobody is woken only to wait for the lock.
        drop(state);
        reached.iter().for_each(Thread::unpark);
    }

    /// How many events are written.
    pub(super) fn events(&self) -> u64 {
        self.state.lock().written.events
    }

    pub(super) fn sync(&self, events: u64) {
        let mut state = self.state.lock();
        let reached = state.synced.advance(events);
        drop(state);
        reached.iter().for_each(Thread::unpark);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_be_known_is_waited_for_behind_a_slow_disk() {
        let written = Written::default();
        written.begin();
        // Somebody waits in vain, so that nobody else waits who need not.
        written.wait_for(1, Duration::from_millis(1));
        assert!(!written.holds(1));
        thread::scope(|threads| {
            let known = threads.spawn(|| {
                written.wait_to_know(1, Duration::from_secs(600));
                written.holds(1)
            });
            thread::sleep(Duration::from_millis(20));
            written.advance(1, true);
            assert!(known.join().expect("no panic"));
        });
        written.wait_to_know(2, Duration::from_millis(1));
        assert!(!written.holds(2));
    }
}
