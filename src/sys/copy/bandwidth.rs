//! The most bytes a second.

use std::time::{Duration, Instant};

use crate::sys::sync::Mutex;

/// How fast files are copied, all of them together.
pub struct Bandwidth {
    /// The most bytes a second.
    rate: Option<u64>,
    begun: Instant,
    bytes: Mutex<u64>,
}

impl Bandwidth {
    /// At most so many bytes a second, from now on.
    pub fn new(rate: Option<u64>) -> Bandwidth {
        Bandwidth {
            rate,
            begun: Instant::now(),
            bytes: Mutex::new(0),
        }
    }

    /// Counts bytes; how long it must take until the next ones.
    pub(super) fn count(&self, bytes: usize) -> Duration {
        let Some(rate) = self.rate else {
            return Duration::ZERO;
        };
        let mut all = self.bytes.lock();
        *all += bytes as u64;
        let due = Duration::from_secs_f64(*all as f64 / rate.max(1) as f64);
        due.saturating_sub(self.begun.elapsed())
    }
}
