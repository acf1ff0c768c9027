//! Deadlines that carry their reason.

use std::time::{Duration, Instant};

/// The reason of a [`Deadline`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The limit of one attempt or request; another one may follow.
    Attempt,
    /// The step's own timeout.
    Timeout,
    /// The end of the run's budget.
    Budget,
    /// The point from which the budget is kept for `always` steps and releases.
    Reserve,
    /// The end of the time left to a run that was told to stop.
    Stop,
}

impl Reason {
    /// The limit's name, for messages.
    pub fn describe(self) -> &'static str {
        match self {
            Reason::Attempt => "attempt-timeout",
            Reason::Timeout => "timeout",
            Reason::Budget => "budget",
            Reason::Reserve => "budget without its reserve",
            Reason::Stop => "time left after being told to stop",
        }
    }
}

/// A point on the monotonic clock, with its reason.
///
/// Every wait takes one. An expired deadline has no time left (`None`), never a zero timeout, which many calls
/// interpret as "wait for ever".
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: Instant,
    reason: Reason,
}

impl Deadline {
    /// The deadline at `at`.
    pub fn at(at: Instant, reason: Reason) -> Self {
        Deadline { at, reason }
    }

    /// The deadline `time` from now.
    pub fn after(time: Duration, reason: Reason) -> Self {
        Deadline {
            at: Instant::now() + time,
            reason,
        }
    }

    /// The time left; `None` if it has expired.
    pub fn left(&self) -> Option<Duration> {
        self.at
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
    }

    /// The point in time itself.
    pub fn instant(&self) -> Instant {
        self.at
    }

    /// Its reason.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The later of the two; `self` where they are the same.
    pub fn later(self, other: Deadline) -> Deadline {
        if other.at > self.at { other } else { self }
    }

    /// The earlier of the two; `self` where they are the same.
    pub fn earlier(self, other: Deadline) -> Deadline {
        if other.at < self.at { other } else { self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expired_deadline_has_nothing_left() {
        let past = Deadline::at(Instant::now() - Duration::from_millis(1), Reason::Timeout);
        assert_eq!(past.left(), None);
        assert!(
            Deadline::after(Duration::from_secs(5), Reason::Timeout)
                .left()
                .is_some()
        );
    }

    #[test]
    fn the_earlier_one_keeps_its_reason() {
        let step = Deadline::after(Duration::from_secs(5), Reason::Timeout);
        let run = Deadline::after(Duration::from_secs(3), Reason::Budget);
        assert_eq!(step.earlier(run).reason(), Reason::Budget);
        assert_eq!(run.earlier(step).reason(), Reason::Budget);
        assert_eq!(step.earlier(step).reason(), Reason::Timeout);
    }
}
