//! Limits the work done for callers on the bus, so that a flood of calls takes no time from the run.

use std::time::{Duration, Instant};

/// The length of a window. An answer that is late by one window still seems immediate to a person.
const WINDOW: Duration = Duration::from_millis(100);

/// What may be spent in one window: a point for each byte read or answered. `busctl` and `farewell status` spend a
/// hundredth of it.
const ALLOWANCE: usize = 2 << 20;

/// The points charged for a message beside its bytes and those of its answer.
pub(super) const MESSAGE: usize = 8 << 10;

/// The most unsent bytes with which calls are still answered.
const QUEUE: usize = 128 << 10;

/// The points spent in the current window.
#[derive(Debug)]
pub(super) struct RateLimit {
    begun: Instant,
    spent: usize,
}

impl RateLimit {
    /// Starts the first window.
    pub(super) fn begin() -> RateLimit {
        RateLimit {
            begun: Instant::now(),
            spent: 0,
        }
    }

    /// Charges points.
    pub(super) fn spend(&mut self, points: usize) {
        if self.begun.elapsed() >= WINDOW {
            *self = RateLimit::begin();
        }
        self.spent = self.spent.saturating_add(points);
    }

    /// Until when to pause, if the window's allowance is spent or too many bytes are `unsent`.
    pub(super) fn pause(&self, unsent: usize) -> Option<Instant> {
        let end = self.begun + WINDOW;
        let now = Instant::now();
        if unsent > QUEUE {
            // Room for them may come earlier; then the socket becomes writable.
            return Some(now + WINDOW);
        }
        (self.spent >= ALLOWANCE && now < end).then_some(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_has_its_allowance() {
        let mut pace = RateLimit::begin();
        assert_eq!(pace.pause(0), None);
        assert!(pace.pause(QUEUE + 1).is_some());
        let begun = pace.begun;
        let mut messages = 0;
        while pace.pause(0).is_none() && pace.begun == begun {
            pace.spend(MESSAGE);
            messages += 1;
        }
        // A machine that is slow has less of it done in a turn.
        assert!((1..=ALLOWANCE / MESSAGE).contains(&messages), "{messages}");
        pace = RateLimit {
            begun,
            spent: ALLOWANCE,
        };
        if let Some(end) = pace.pause(0) {
            assert_eq!(end, begun + WINDOW);
        }
        pace.begun = Instant::now() - WINDOW;
        assert_eq!(pace.pause(0), None);
        pace.spend(1);
        assert_eq!(pace.spent, 1);
    }
}
