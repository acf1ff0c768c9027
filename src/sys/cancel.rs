//! Cancels waiting threads, in a form that `poll(2)` can wait for.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::model::deadline::Deadline;

/// A one-way cancellation flag; any number of threads can wait for it, alone or together with something else.
#[derive(Debug)]
pub struct Cancel {
    switch: UnixStream,
    waiting: UnixStream,
    /// In milliseconds.
    patience: AtomicU64,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// The time is over.
    Elapsed,
    /// [`Cancel::cancel`] was called.
    Cancelled,
}

impl Cancel {
    /// A flag that is not set.
    pub fn new() -> io::Result<Self> {
        let (switch, waiting) = UnixStream::pair()?;
        Ok(Cancel {
            switch,
            waiting,
            patience: AtomicU64::new(0),
        })
    }

    /// Sets the flag: every wait ends now, and every later one at once. What takes time to end, such as child
    /// processes, has `patience`.
    pub fn cancel(&self, patience: Duration) {
        let patience = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        self.patience.store(patience, Ordering::Release);
        // Fails only if it is shut down already, which is what is wanted.
        let _ = self.switch.shutdown(Shutdown::Write);
    }

    /// How long child processes may take to end after the cancellation.
    pub fn patience(&self) -> Duration {
        Duration::from_millis(self.patience.load(Ordering::Acquire))
    }

    pub fn is_cancelled(&self) -> bool {
        self.wait_millis(0) == Waited::Cancelled
    }

    /// Waits for `time`, or until it is cancelled.
    pub fn sleep(&self, time: Duration) -> Waited {
        self.sleep_until(Deadline::after(
            time,
            crate::model::deadline::Reason::Attempt,
        ))
    }

    /// Waits until `deadline`, or until it is cancelled.
    pub fn sleep_until(&self, deadline: Deadline) -> Waited {
        loop {
            let Some(left) = deadline.left() else {
                return self.wait_millis(0);
            };
            if self.wait_millis(millis(left)) == Waited::Cancelled {
                return Waited::Cancelled;
            }
        }
    }

    fn wait_millis(&self, timeout: i32) -> Waited {
        let mut polled = [PollFd::new(self.waiting.as_fd(), PollFlags::POLLIN)];
        match poll(
            &mut polled,
            PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX),
        ) {
            Ok(ready) if ready > 0 => Waited::Cancelled,
            _ => Waited::Elapsed,
        }
    }
}

impl AsFd for Cancel {
    /// Readable once cancelled. Nothing must be read from it.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.waiting.as_fd()
    }
}

/// `left` for `poll(2)`, which counts whole milliseconds: rounded up, since a wait must not end early and spin.
pub fn millis(left: Duration) -> i32 {
    i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turned_switch_ends_every_wait() {
        let cancel = Cancel::new().expect("two descriptors");
        assert_eq!(cancel.sleep(Duration::from_millis(1)), Waited::Elapsed);
        assert!(!cancel.is_cancelled());
        std::thread::scope(|threads| {
            let waits: Vec<_> = (0..3)
                .map(|_| threads.spawn(|| cancel.sleep(Duration::from_secs(60))))
                .collect();
            cancel.cancel(Duration::ZERO);
            cancel.cancel(Duration::ZERO);
            for wait in waits {
                assert_eq!(wait.join().expect("no panic"), Waited::Cancelled);
            }
        });
        assert!(cancel.is_cancelled());
    }
}
