//! The copying process' reports to its parent, and its write rate.

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use super::Report;
use super::bandwidth::Bandwidth;

/// The time between two progress reports.
const EVERY: Duration = Duration::from_millis(200);

/// Sends reports to the parent, and limits the write rate.
pub(super) struct Progress {
    told: Instant,
    bytes: u64,
    pace: Bandwidth,
}

impl Progress {
    pub(super) fn new(rate: Option<u64>) -> Progress {
        Progress {
            told: Instant::now(),
            bytes: 0,
            pace: Bandwidth::new(rate),
        }
    }

    pub(super) fn tell(&mut self, told: &Report) -> io::Result<()> {
        let mut line = serde_json::to_vec(told).map_err(io::Error::other)?;
        line.push(b'\n');
        io::stdout().write_all(&line)
    }

    /// Counts bytes that were written, and waits until more may be.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        if self.told.elapsed() >= EVERY {
            self.told = Instant::now();
            // If the parent is gone, this process is about to be killed.
            let _ = self.tell(&Report::Progress(self.bytes));
        }
        std::thread::sleep(self.pace.count(bytes));
    }
}
