//! A conversation over a socket in the D-Bus protocol, in which nobody is ever made to wait.
//!
//! zbus makes the messages and reads the values, but does not hold the conversation. PID 1 signs its answers on its own
//! socket as `org.freedesktop.systemd1`, and zbus takes no sender but the unique names that a bus gives out; and on a bus
//! its runtime costs a short run more than all of its messages. See the D-Bus Specification, "Message Protocol" and
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

/// How much is read at once, in bytes, before what was read is dealt with: whoever writes faster than this side reads is
/// not read for ever.
const SWALLOW: usize = 64 << 10;

/// Between two tries to get into the queue of a peer that is busy.
const PAUSE: Duration = Duration::from_millis(20);

/// Our side of a conversation.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    /// Whether the peer has let us in.
    is_open: bool,
    received: Intake,
    unsent: Vec<u8>,
    /// Messages for a peer that has not let us in yet: PID 1 overlooks what it reads together with the end of the
    /// handshake, until the next message.
    held: Vec<u8>,
}

impl Connection {
    /// Connects, and says who this process is; the peer's word on that is not waited for.
    ///
    /// # Errors
    /// `NoConnection` when nobody listens there; `TimedOut` when the peer's queue is full.
    pub fn begin(address: &UnixAddr, side: Side) -> Result<Connection, BusError> {
        let refused = |errno: Errno| BusError::NoConnection(format!("{address}: {errno}"));
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(refused)?;
        match connect(socket.as_raw_fd(), address) {
            Ok(()) => {}
            // Where it may block, connect(2) waits for ever for a place in the queue.
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

    /// The same for a client, with patience where the peer's queue is full.
    ///
    /// # Errors
    /// As before; `TimedOut` at the deadline.
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

    /// Has a message go out with the next [`Connection::flush`], or as soon as the peer lets us in.
    pub fn send(&mut self, message: &Message) {
        let bytes = message.data().bytes();
        match self.is_open {
            true => self.unsent.extend_from_slice(bytes),
            false => self.held.extend_from_slice(bytes),
        }
    }

    /// How many bytes the peer has not taken yet.
    pub fn unsent(&self) -> usize {
        self.unsent.len() + self.held.len()
    }

    /// Writes what the peer takes at once.
    ///
    /// # Errors
    /// When the connection is broken.
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

    /// Reads what has arrived, or a good part of it, and returns how many bytes.
    ///
    /// # Errors
    /// When the connection is broken, or the peer does not let us in.
    pub fn receive(&mut self) -> Result<usize, BusError> {
        let read = self.read()?;
        if !self.is_open && self.is_let_in()? {
            self.is_open = true;
            self.unsent.append(&mut self.held);
        }
        Ok(read)
    }

    /// For poll(2), which then tells when there is something to receive, if this side `reads`, or room for what is unsent.
    pub fn polled(&self, reads: bool) -> PollFd<'_> {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::POLLIN, reads);
        flags.set(PollFlags::POLLOUT, !self.unsent.is_empty());
        PollFd::new(self.stream.as_fd(), flags)
    }

    /// The next message that has arrived.
    ///
    /// # Errors
    /// When what arrives is no message.
    pub fn take(&mut self) -> Result<Option<Incoming>, BusError> {
        match self.is_open {
            true => self.received.take(),
            false => Ok(None),
        }
    }

    /// The next message, when it has arrived.
    ///
    /// # Errors
    /// When what arrives is no message, or the connection is broken; `TimedOut` at the deadline.
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

    /// Whether the peer's line is there: `OK` and its id.
    fn is_let_in(&mut self) -> Result<bool, BusError> {
        let Some(line) = self.received.line(LINE)? else {
            return Ok(false);
        };
        if line.starts_with(b"OK ") {
            return Ok(true);
        }
        let line = String::from_utf8_lossy(&line);
        Err(BusError::NoConnection(format!("not let in: {line}")))
    }
}

/// Waits until there is something to read from `bell`, or something happens on the connection: something to receive, if this
/// side reads, or room for what is unsent. Returns which of the two has something to read; neither where the time is over,
/// or the wait was interrupted.
pub fn wait(
    bell: &UnixStream,
    line: Option<(&Connection, bool)>,
    left: Option<Duration>,
) -> (bool, bool) {
    let mut polled = vec![PollFd::new(bell.as_fd(), PollFlags::POLLIN)];
    polled.extend(line.map(|(line, reads)| line.polled(reads)));
    let _ = poll(&mut polled, left.map_or(PollTimeout::NONE, millis));
    let said = |at: usize| polled.get(at).and_then(PollFd::revents);
    // The end of a connection is received, too.
    let line = said(1).is_some_and(|events| !(events - PollFlags::POLLOUT).is_empty());
    (said(0).is_some_and(|events| !events.is_empty()), line)
}

/// A time limit for poll(2), rounded up so that it is not over before it is.
fn millis(left: Duration) -> PollTimeout {
    let millis = left.as_micros().div_ceil(1_000);
    PollTimeout::try_from(i32::try_from(millis).unwrap_or(i32::MAX)).unwrap_or(PollTimeout::MAX)
}
