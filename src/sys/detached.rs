//! A writer that never blocks its caller: a thread of its own writes.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;

/// Writes to something that may block, such as a pipe that nobody reads.
pub struct Detached {
    texts: Sender<Vec<u8>>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// How many writes are outstanding.
    pending: AtomicUsize,
    failed: AtomicBool,
}

impl Detached {
    /// A writer to `out`. Its thread ends, and drops `guard`, when the writer is dropped and everything is written.
    pub fn new(
        mut out: impl Write + Send + 'static,
        guard: impl Send + 'static,
    ) -> io::Result<Detached> {
        let (texts, inbox) = mpsc::channel::<Vec<u8>>();
        let state = Arc::new(State::default());
        let theirs = state.clone();
        thread::Builder::new()
            .name("output".into())
            .stack_size(64 << 10)
            .spawn(move || {
                for text in inbox {
                    if !theirs.failed.load(Ordering::Relaxed)
                        && out.write_all(&text).and_then(|()| out.flush()).is_err()
                    {
                        theirs.failed.store(true, Ordering::Relaxed);
                    }
                    theirs.pending.fetch_sub(1, Ordering::Release);
                }
                drop(guard);
            })?;
        Ok(Detached { texts, state })
    }

    fn check(&self) -> io::Result<()> {
        match self.state.failed.load(Ordering::Relaxed) {
            true => Err(io::ErrorKind::BrokenPipe.into()),
            false => Ok(()),
        }
    }
}

impl Write for Detached {
    /// Accepts all of `bytes`, even if earlier writes are outstanding.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check()?;
        self.state.pending.fetch_add(1, Ordering::Relaxed);
        let sent = self.texts.send(bytes.to_vec());
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    /// `WouldBlock` while a write is outstanding.
    fn flush(&mut self) -> io::Result<()> {
        self.check()?;
        match self.state.pending.load(Ordering::Acquire) {
            0 => Ok(()),
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_reader_that_does_not_read_blocks_nobody() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let (guard, finished) = mpsc::channel::<()>();
        let mut out = Detached::new(writer, guard).expect("a thread");
        // More than a pipe holds.
        let text = vec![b'x'; 1 << 20];
        out.write_all(&text).expect("taken");
        let error = out.flush().expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let mut read = vec![0; text.len()];
        reader.read_exact(&mut read).expect("read");
        let end = Instant::now() + Duration::from_secs(60);
        while out.flush().is_err() {
            assert!(Instant::now() < end, "it was read");
            thread::yield_now();
        }
        drop(reader);
        out.write_all(b"lost").expect("taken");
        while out.write(b"lost").is_ok() {
            assert!(Instant::now() < end, "the pipe is broken");
            thread::yield_now();
        }
        drop(out);
        let dropped = finished.recv_timeout(Duration::from_secs(60));
        assert_eq!(dropped, Err(mpsc::RecvTimeoutError::Disconnected));
    }
}
