//! A child that carries out one order and reports line by line.

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::{Child, Stdio};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{ProbeError, command, leave, no_answer};
use crate::model::deadline::Deadline;
use crate::sys::cancel::{Cancel, millis};

/// The child and its output. Dropping this kills the child without waiting for its end.
pub struct Worker {
    child: Option<Child>,
    said: Vec<u8>,
    /// How much of `said` was returned.
    heard: usize,
}

impl Worker {
    /// Starts a child that carries out `order` with `verb`. It reads all of `order` first.
    pub fn start(verb: &str, order: &[u8]) -> io::Result<Worker> {
        let mut child = command().arg(verb).stdin(Stdio::piped()).spawn()?;
        let given = match child.stdin.take() {
            Some(mut pipe) => pipe.write_all(order),
            None => Err(no_answer()),
        };
        let conversation = Worker {
            child: Some(child),
            said: Vec::new(),
            heard: 0,
        };
        given.map(|()| conversation)
    }

    /// The next line, without its end.
    ///
    /// # Errors
    /// If none comes in time, or the child has ended; see [`ProbeError`].
    pub fn line(&mut self, deadline: Deadline, cancel: &Cancel) -> Result<Vec<u8>, ProbeError> {
        loop {
            let new = &self.said[self.heard..];
            if let Some(end) = new.iter().position(|byte| *byte == b'\n') {
                let line = new[..end].to_vec();
                self.heard += end + 1;
                return Ok(line);
            }
            self.said.drain(..self.heard);
            self.heard = 0;
            self.listen(deadline, cancel)?;
        }
    }

    fn listen(&mut self, deadline: Deadline, cancel: &Cancel) -> Result<(), ProbeError> {
        let pipe = self.child.as_mut().and_then(|it| it.stdout.as_mut());
        let pipe = pipe.ok_or_else(no_answer)?;
        loop {
            let left = deadline
                .left()
                .ok_or(ProbeError::TimedOut(deadline.reason()))?;
            let mut polled = [
                PollFd::new(pipe.as_fd(), PollFlags::POLLIN),
                PollFd::new(cancel.as_fd(), PollFlags::POLLIN),
            ];
            let left = PollTimeout::try_from(millis(left)).unwrap_or(PollTimeout::MAX);
            match poll(&mut polled, left) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(ProbeError::Io(error.into())),
            }
            let [said, turned] = polled.map(|fd| fd.revents().is_some_and(|it| !it.is_empty()));
            // Checked before the next line, so that a child that writes without end cannot delay the run.
            if turned {
                return Err(ProbeError::Cancelled);
            }
            if said {
                let mut buffer = [0; 16 << 10];
                let read = pipe.read(&mut buffer)?;
                if read == 0 {
                    return Err(no_answer().into());
                }
                self.said.extend_from_slice(&buffer[..read]);
                return Ok(());
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It has ended, or is no longer needed.
            let _ = child.kill();
            leave(child);
        }
    }
}
