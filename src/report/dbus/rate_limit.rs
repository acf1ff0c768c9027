//! How much a service does for those who call it, so that a flood of calls takes no time from the run.

use std::time::{Duration, Instant};

/// The length of a turn. A person sees an answer that is late by one as given at once.
const TURN: Duration = Duration::from_millis(100);

/// What may be spent in one turn: a point for each byte that is read or answered. `busctl` and `farewell status` spend a hundredth of it.
const ALLOWANCE: usize = 2 << 20;

/// What the work on a message is worth beside its own bytes and those of its answer.
pub(super) const MESSAGE: usize = 8 << 10;

/// How much may be unsent before nothing more is answered, in bytes.
const QUEUE: usize = 128 << 10;

/// What was spent in this turn.
#[derive(Debug)]
pub(super) struct RateLimit {
    begun: Instant,
    spent: usize,
}

impl RateLimit {
    /// The first turn begins.
    pub(super) fn begin() -> RateLimit {
        RateLimit {
            begun: Instant::now(),
            spent: 0,
        }
    }

    /// So many points are spent.
    pub(super) fn spend(&mut self, points: usize) {
        if self.begun.elapsed() >= TURN {
            *self = RateLimit::begin();
        }
        self.spent = self.spent.saturating_add(points);
    }

    /// Until when nothing should be done, where enough was done in this turn or so many bytes are `unsent`.
    pub(super) fn pause(&self, unsent: usize) -> Option<Instant> {
        let end = self.begun + TURN;
        let now = Instant::now();
        if unsent > QUEUE {
            // There may be room for them earlier, which is heard.
            return Some(now + TURN);
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
            assert_eq!(end, begun + TURN);
        }
        pace.begun = Instant::now() - TURN;
        assert_eq!(pace.pause(0), None);
        pace.spend(1);
        assert_eq!(pace.spent, 1);
    }
}
