//! What the process that copies says to its parent, and how fast it may write.

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use super::Report;
use super::bandwidth::Bandwidth;

/// Between two words on the progress.
const EVERY: Duration = Duration::from_millis(200);

/// What is told to the parent, and when the next byte may be written.
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
            // Where the parent is gone this process is about to be killed.
            let _ = self.tell(&Report::Progress(self.bytes));
        }
        std::thread::sleep(self.pace.count(bytes));
    }
}
