//! How much of a run's record is written and synced.

use std::mem;
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::sys::sync::Mutex;

/// How much of the record is written and synced, for threads that must not go on before the record has their event.
#[derive(Default)]
pub struct RecordProgress {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whether there is a record; without one nobody waits.
    is_kept: bool,
    written: Watermark,
    synced: Watermark,
    /// How many events the record really has. Events that could not be written count as written above, so that nobody
    /// waits for them.
    held: u64,
    /// Whether a sync failed: then it is not known what is on disk.
    is_broken: bool,
}

#[derive(Default)]
struct Watermark {
    events: u64,
    /// Set after a wait timed out: the disk is slow or gone, and nobody waits for it until it has caught up.
    is_stalled: bool,
    /// Threads that wait, each with the number of events it waits for. Each is woken once: a hundred steps may wait.
    waiting: Vec<(u64, Thread)>,
}

impl Watermark {
    /// Sets the number of events, and returns the threads that waited for it.
    fn advance(&mut self, events: u64) -> Vec<Thread> {
        self.events = self.events.max(events);
        self.is_stalled = false;
        let (reached, waiting): (Vec<_>, Vec<_>) = mem::take(&mut self.waiting)
            .into_iter()
            .partition(|(events, _)| *events <= self.events);
        self.waiting = waiting;
        reached.into_iter().map(|(_, thread)| thread).collect()
    }
}

impl RecordProgress {
    /// Waits until the first `events` events are written, for at most `patience`.
    pub fn wait_for(&self, events: u64, patience: Duration) {
        self.wait(events, patience, |state| &mut state.written);
    }

    /// Waits until the first `events` events are on the disk, so that a power cut does not lose them, for at most
    /// `patience`.
    pub fn wait_for_sync(&self, events: u64, patience: Duration) {
        self.wait(events, patience, |state| &mut state.synced);
    }

    fn wait(&self, events: u64, patience: Duration, watermark: fn(&mut State) -> &mut Watermark) {
        let is_late = self.wait_while(events, patience, watermark, |watermark| {
            watermark.events < events && !watermark.is_stalled
        });
        if is_late {
            watermark(&mut self.state.lock()).is_stalled = true;
        }
    }

    /// Waits until the first `events` events are written or could not be, for at most `patience`, even after earlier
    /// waits timed out.
    pub fn wait_to_know(&self, events: u64, patience: Duration) {
        let watermark: fn(&mut State) -> &mut Watermark = |state| &mut state.written;
        self.wait_while(events, patience, watermark, |watermark| {
            watermark.events < events
        });
    }

    /// Waits while `is_awaited`, for at most `patience`. Returns whether it still is.
    fn wait_while(
        &self,
        events: u64,
        patience: Duration,
        watermark: fn(&mut State) -> &mut Watermark,
        is_awaited: impl Fn(&Watermark) -> bool,
    ) -> bool {
        let end = Instant::now() + patience;
        let mut is_registered = false;
        loop {
            let mut state = self.state.lock();
            if !state.is_kept || !is_awaited(watermark(&mut state)) {
                return false;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            if !mem::replace(&mut is_registered, true) {
                watermark(&mut state)
                    .waiting
                    .push((events, thread::current()));
            }
            drop(state);
            thread::park_timeout(left);
        }
    }

    /// Whether the record has the first `events` events, or there is no record.
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

    /// Counts `events` more events as handled; `are_held` if the record has all of them.
    pub(super) fn advance(&self, events: u64, are_held: bool) {
        let mut state = self.state.lock();
        let written = state.written.events + events;
        let reached = state.written.advance(written);
        if are_held {
            state.held = written;
        }
        // Unlocked first, so that no thread is woken only to wait for the lock.
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
        let written = RecordProgress::default();
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
