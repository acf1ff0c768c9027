//! A nonblocking connection that speaks the D-Bus protocol.
//!
//! zbus builds messages and decodes values, but does not run the connection. PID 1 signs its answers on its own socket
//! as `org.freedesktop.systemd1`, and zbus takes no sender but the unique names that a bus gives out; and on a bus its
//! runtime costs a short run more than all of its messages. See the D-Bus Specification, "Message Protocol" and
//! "Authentication Protocol".

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use nix::unistd::geteuid;
use zbus::Message;

use super::BusError;
use super::inbox::{Intake, Side};
use super::message::Incoming;
use crate::model::deadline::Deadline;

/// The longest line of the handshake.
const LINE: usize = 1 << 10;

/// How many bytes are read at once before they are processed, so that a fast writer cannot keep this side reading for
/// ever.
const SWALLOW: usize = 64 << 10;

/// The pause between two attempts to connect to a busy peer.
const PAUSE: Duration = Duration::from_millis(20);

/// This side of a connection.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    /// Whether the peer has accepted the authentication.
    is_open: bool,
    received: Intake,
    unsent: Vec<u8>,
    /// Messages held back until the peer has accepted the authentication: PID 1 overlooks what it reads together with
    /// the end of the handshake, until the next message.
    held: Vec<u8>,
}

impl Connection {
    /// Connects and authenticates, without waiting for the peer's reply.
    ///
    /// # Errors
    /// `NoConnection` if nobody listens there; `TimedOut` if the peer's backlog is full.
    pub fn begin(address: &UnixAddr, side: Side) -> Result<Connection, BusError> {
        let refused = |errno: Errno| BusError::NoConnection(format!("{address}: {errno}"));
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(refused)?;
        match connect(socket.as_raw_fd(), address) {
            Ok(()) => {}
            // A blocking connect(2) would wait for ever for a place in the backlog.
            Err(Errno::EAGAIN) => return Err(BusError::TimedOut),
            Err(errno) => return Err(refused(errno)),
        }
        let user = geteuid().to_string();
        let user: String = user.bytes().map(|byte| format!("{byte:02x}")).collect();
        let mut line = Connection {
            stream: socket.into(),
            is_open: false,
            received: Intake::new(side),
            unsent: format!("\0AUTH EXTERNAL {user}\r\nBEGIN\r\n").into_bytes(),
            held: Vec::new(),
        };
        line.flush()?;
        Ok(line)
    }

    /// As [`Connection::begin`] for a client, retrying while the peer's backlog is full.
    ///
    /// # Errors
    /// `NoConnection` if nobody listens there; `TimedOut` at the deadline.
    pub fn begin_by(address: &UnixAddr, deadline: Deadline) -> Result<Connection, BusError> {
        loop {
            match Connection::begin(address, Side::Client) {
                Err(BusError::TimedOut) => {
                    let left = deadline.left().ok_or(BusError::TimedOut)?;
                    thread::sleep(PAUSE.min(left));
                }
                begun => return begun,
            }
        }
    }

    /// Queues a message for the next [`Connection::flush`], or until the peer has accepted the authentication.
    pub fn send(&mut self, message: &Message) {
        let bytes = message.data().bytes();
        match self.is_open {
            true => self.unsent.extend_from_slice(bytes),
            false => self.held.extend_from_slice(bytes),
        }
    }

    /// How many bytes are not written yet.
    pub fn unsent(&self) -> usize {
        self.unsent.len() + self.held.len()
    }

    /// Writes as much as the socket takes.
    pub fn flush(&mut self) -> Result<(), BusError> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(length) => drop(self.unsent.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(BusError::NoConnection(error.to_string())),
            }
        }
        Ok(())
    }

    /// Reads what has arrived, or a part of it, and returns the number of bytes.
    ///
    /// # Errors
    /// If the connection is broken, or the peer rejects the authentication.
    pub fn receive(&mut self) -> Result<usize, BusError> {
        let read = self.read()?;
        if !self.is_open && self.is_let_in()? {
            self.is_open = true;
            self.unsent.append(&mut self.held);
        }
        Ok(read)
    }

    /// For poll(2): waits for input if this side `reads`, and for room if something is unsent.
    pub fn polled(&self, reads: bool) -> PollFd<'_> {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::POLLIN, reads);
        flags.set(PollFlags::POLLOUT, !self.unsent.is_empty());
        PollFd::new(self.stream.as_fd(), flags)
    }

    /// The next message that has arrived.
    pub fn take(&mut self) -> Result<Option<Incoming>, BusError> {
        match self.is_open {
            true => self.received.take(),
            false => Ok(None),
        }
    }

    /// Waits for the next message.
    ///
    /// # Errors
    /// If what arrives is not a message, or the connection is broken; `TimedOut` at the deadline.
    pub fn next(&mut self, deadline: Deadline) -> Result<Incoming, BusError> {
        loop {
            self.flush()?;
            if let Some(message) = self.take()? {
                return Ok(message);
            }
            let left = deadline.left().ok_or(BusError::TimedOut)?;
            match poll(&mut [self.polled(true)], millis(left)) {
                Ok(_) | Err(Errno::EINTR) => drop(self.receive()?),
                Err(errno) => return Err(BusError::NoConnection(errno.to_string())),
            }
        }
    }

    fn read(&mut self) -> Result<usize, BusError> {
        let mut buffer = [0; 4096];
        let mut read = 0;
        while read < SWALLOW {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(BusError::NoConnection("closed by the peer".to_owned())),
                Ok(length) => {
                    self.received.feed(&buffer[..length]);
                    read += length;
                    if length < buffer.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(BusError::NoConnection(error.to_string())),
            }
        }
        Ok(read)
    }

    /// Whether the peer has accepted the authentication: `OK` and its id.
    fn is_let_in(&mut self) -> Result<bool, BusError> {
        let Some(line) = self.received.line(LINE)? else {
            return Ok(false);
        };
        if line.starts_with(b"OK ") {
            return Ok(true);
        }
        let line = String::from_utf8_lossy(&line);
        Err(BusError::NoConnection(format!(
            "authentication rejected: {line}"
        )))
    }
}

/// Waits until `bell` or the connection is readable, or there is room for what is unsent. Returns which of the two is
/// readable; neither if the time is over or the wait was interrupted.
pub fn wait(
    bell: &UnixStream,
    line: Option<(&Connection, bool)>,
    left: Option<Duration>,
) -> (bool, bool) {
    let mut polled = vec![PollFd::new(bell.as_fd(), PollFlags::POLLIN)];
    polled.extend(line.map(|(line, reads)| line.polled(reads)));
    let _ = poll(&mut polled, left.map_or(PollTimeout::NONE, millis));
    let said = |at: usize| polled.get(at).and_then(PollFd::revents);
    // The end of a connection counts as readable.
    let line = said(1).is_some_and(|events| !(events - PollFlags::POLLOUT).is_empty());
    (said(0).is_some_and(|events| !events.is_empty()), line)
}

/// A time limit for poll(2), rounded up so that it does not end early.
fn millis(left: Duration) -> PollTimeout {
    let millis = left.as_micros().div_ceil(1_000);
    PollTimeout::try_from(i32::try_from(millis).unwrap_or(i32::MAX)).unwrap_or(PollTimeout::MAX)
}
