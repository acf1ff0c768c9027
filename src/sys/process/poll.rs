//! Waits for children, their output, and the threads that start them.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use signal_hook::SigId;
use signal_hook::low_level::{pipe, unregister};

use crate::model::deadline::Deadline;
use crate::sys::cancel::{Cancel, Waited, millis};
use crate::sys::sync::Mutex;

/// The time that a thread which has just begun still gets when the run is told to stop.
const PATIENCE: Duration = Duration::from_millis(100);

/// Becomes readable when any child has ended.
pub struct ExitWaiter {
    bell: UnixStream,
    ear: UnixStream,
    signal: SigId,
}

/// A value on its way from the thread that makes it to the one that waits for it.
enum Made<T> {
    NotYet,
    Ready(T),
    Unwanted,
}

impl ExitWaiter {
    /// Signals the end of children from now on.
    pub fn new() -> io::Result<ExitWaiter> {
        let (bell, ear) = UnixStream::pair()?;
        ear.set_nonblocking(true)?;
        let signal = pipe::register(Signal::SIGCHLD as i32, bell.try_clone()?)?;
        Ok(ExitWaiter { bell, ear, signal })
    }

    /// Waits until `until` for the end of a child or for one of `fds`, and returns which of `fds` are ready.
    pub fn wait<const N: usize>(
        &self,
        fds: [Option<BorrowedFd<'_>>; N],
        until: Instant,
    ) -> [bool; N] {
        let all = std::iter::once(self.ear.as_fd()).chain(fds.iter().flatten().copied());
        let mut polled: Vec<PollFd<'_>> =
            all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        let left = millis(until.saturating_duration_since(Instant::now()));
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut said = match poll(&mut polled, left) {
            Ok(_) => polled.iter(),
            Err(Errno::EINTR) => [].iter(),
            Err(_) => {
                // The kernel is out of memory; the deadline must hold all the same, without spinning.
                std::thread::sleep(Duration::from_millis(20));
                [].iter()
            }
        }
        .map(|fd| fd.revents().is_some_and(|events| !events.is_empty()));
        if said.next() == Some(true) {
            let mut rings = [0; 64];
            while (&self.ear).read(&mut rings).is_ok_and(|read| read > 0) {}
        }
        fds.map(|fd| fd.is_some() && said.next() == Some(true))
    }

    /// Runs `make` on a thread of its own, and returns its result or how the wait for it ended. In the latter case the
    /// thread is abandoned, and its result goes to `discard`.
    pub fn wait_for<T: Send + 'static>(
        &self,
        make: impl FnOnce() -> T + Send + 'static,
        discard: impl FnOnce(T) + Send + 'static,
        deadline: Deadline,
        cancel: &Cancel,
    ) -> io::Result<Result<T, Waited>> {
        let ours = Arc::new(Mutex::new(Made::NotYet));
        let (theirs, bell) = (ours.clone(), self.bell.try_clone()?);
        std::thread::Builder::new()
            .stack_size(256 << 10)
            .spawn(move || {
                let value = make();
                let mut made = theirs.lock();
                if matches!(*made, Made::Unwanted) {
                    drop(made);
                    discard(value);
                } else {
                    *made = Made::Ready(value);
                    // Fails only if the receiver is gone.
                    let _ = (&bell).write_all(&[0]);
                }
            })?;
        let (mut until, mut waited) = (deadline.instant(), Waited::Elapsed);
        loop {
            let switch = (waited == Waited::Elapsed).then(|| cancel.as_fd());
            if let [true] = self.wait([switch], until) {
                (until, waited) = (until.min(Instant::now() + PATIENCE), Waited::Cancelled);
            }
            let late = Instant::now() >= until;
            let mut made = ours.lock();
            match std::mem::replace(&mut *made, Made::Unwanted) {
                Made::Ready(value) => return Ok(Ok(value)),
                _ if late => return Ok(Err(waited)),
                not_yet => *made = not_yet,
            }
        }
    }
}

impl Drop for ExitWaiter {
    fn drop(&mut self) {
        unregister(self.signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::deadline::Reason;
    use std::sync::mpsc;

    #[test]
    fn what_comes_too_late_is_discarded() {
        let (wake, cancel) = (
            ExitWaiter::new().expect("a bell"),
            Cancel::new().expect("a switch"),
        );
        let soon = |millis| Deadline::after(Duration::from_millis(millis), Reason::Timeout);
        let made = wake.wait_for(|| 1, drop, soon(5000), &cancel);
        assert_eq!(made.expect("a thread"), Ok(1));

        let (go, gone) = (mpsc::channel(), mpsc::channel());
        let make = move || go.1.recv();
        let discard = move |value| gone.0.send(value).expect("awaited");
        let made = wake.wait_for(make, discard, soon(20), &cancel);
        assert_eq!(made.expect("a thread"), Err(Waited::Elapsed));
        go.0.send(2).expect("awaited");
        assert_eq!(gone.1.recv_timeout(Duration::from_secs(5)), Ok(Ok(2)));

        cancel.cancel(Duration::MAX);
        let (_go, wait) = mpsc::channel::<()>();
        let made = wake.wait_for(move || wait.recv().is_ok(), drop, soon(5000), &cancel);
        assert_eq!(made.expect("a thread"), Err(Waited::Cancelled));
    }
}
