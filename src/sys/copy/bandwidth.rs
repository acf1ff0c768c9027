//! Limits bytes per second.

use std::time::{Duration, Instant};

use crate::sys::sync::Mutex;

/// A rate limit for all files together.
pub struct Bandwidth {
    /// Limits bytes per second.
    rate: Option<u64>,
    begun: Instant,
    bytes: Mutex<u64>,
}

impl Bandwidth {
    /// At most `rate` bytes per second, from now on.
    pub fn new(rate: Option<u64>) -> Bandwidth {
        Bandwidth {
            rate,
            begun: Instant::now(),
            bytes: Mutex::new(0),
        }
    }

    /// Counts bytes, and returns how long to wait before the next ones.
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
