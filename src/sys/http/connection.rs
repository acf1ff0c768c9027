//! TCP and unix socket connections, with or without TLS, on which every read and write has a deadline.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, recv};
use rustls::{ClientConnection, StreamOwned};
use ureq::unversioned::transport::{Buffers, LazyBuffers, NextTimeout, Transport};

thread_local! {
    /// What became of this thread's request: the client does not report it.
    static TRACE: Trace = const { Trace::new() };
}

/// What became of a request on its way.
struct Trace {
    opened: Cell<bool>,
    sent: Cell<bool>,
    is_kept: Cell<bool>,
    kept: RefCell<Option<Socket>>,
}

impl Trace {
    const fn new() -> Trace {
        Trace {
            opened: Cell::new(false),
            sent: Cell::new(false),
            is_kept: Cell::new(false),
            kept: RefCell::new(None),
        }
    }
}

/// Begins a request of this thread. With `is_kept` the socket of a connection that it opens is held for [`kept`].
pub(super) fn begin(is_kept: bool) {
    TRACE.with(|trace| {
        trace.opened.set(false);
        trace.sent.set(false);
        trace.is_kept.set(is_kept);
        trace.kept.replace(None);
    });
}

/// Whether the request opened a connection.
pub(super) fn was_opened() -> bool {
    TRACE.with(|trace| trace.opened.get())
}

/// Whether any part of the request was written to a connection.
pub(super) fn was_sent() -> bool {
    TRACE.with(|trace| trace.sent.get())
}

/// The socket of the connection that the request opened.
pub(super) fn kept() -> Option<Socket> {
    TRACE.with(|trace| trace.kept.take())
}

/// A connected socket.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    fn set_read_timeout(&self, time: Duration) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.set_read_timeout(Some(time)),
            Socket::Unix(stream) => stream.set_read_timeout(Some(time)),
        }
    }

    fn set_write_timeout(&self, time: Duration) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.set_write_timeout(Some(time)),
            Socket::Unix(stream) => stream.set_write_timeout(Some(time)),
        }
    }

    fn duplicate(&self) -> io::Result<Socket> {
        Ok(match self {
            Socket::Tcp(stream) => Socket::Tcp(stream.try_clone()?),
            Socket::Unix(stream) => Socket::Unix(stream.try_clone()?),
        })
    }

    /// Whether the peer has neither closed the connection nor sent anything unsolicited.
    fn is_quiet(&self) -> bool {
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        let heard = recv(self.as_fd().as_raw_fd(), &mut [0], flags);
        heard == Err(nix::errno::Errno::EAGAIN)
    }

    /// Whether the peer closes the connection by `until`; what it sends before that is dropped.
    pub(super) fn ends_by(self, until: Instant) -> bool {
        let mut wire = Wire::new(self, until);
        let mut buffer = [0; 4096];
        loop {
            match wire.read(&mut buffer) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() != ErrorKind::TimedOut,
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Tcp(stream) => stream.as_fd(),
            Socket::Unix(stream) => stream.as_fd(),
        }
    }
}

/// A socket with a deadline.
#[derive(Debug)]
pub(super) struct Wire {
    socket: Socket,
    until: Instant,
}

impl Wire {
    fn new(socket: Socket, until: Instant) -> Wire {
        Wire { socket, until }
    }

    /// Repeats `work` with the time left until it is done or the deadline is reached.
    fn work<T>(
        &mut self,
        limit: impl Fn(&Socket, Duration) -> io::Result<()>,
        mut work: impl FnMut(&Socket) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            let left = self.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            limit(&self.socket, left)?;
            match work(&self.socket) {
                Err(error) if is_interrupted(&error) => {}
                done => return done,
            }
        }
    }
}

/// Whether to check the deadline again: after a signal, or where the system's timeout was a little early.
fn is_interrupted(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock)
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.work(Socket::set_read_timeout, |socket| match socket {
            Socket::Tcp(stream) => (&*stream).read(buffer),
            Socket::Unix(stream) => (&*stream).read(buffer),
        })
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.work(Socket::set_write_timeout, |socket| match socket {
            Socket::Tcp(stream) => (&*stream).write(bytes),
            Socket::Unix(stream) => (&*stream).write(bytes),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection, as the client uses it.
pub(super) struct Connection {
    channel: Channel,
    buffers: LazyBuffers,
}

enum Channel {
    Plain(Wire),
    Tls(Box<StreamOwned<ClientConnection, Wire>>),
}

impl Connection {
    /// A connection over a new socket, after a TLS handshake if there is a `client` configuration.
    ///
    /// # Errors
    /// Those of the handshake, wrapped in an [`io::Error`].
    pub(super) fn open(
        socket: Socket,
        client: Option<ClientConnection>,
        until: Instant,
        buffers: LazyBuffers,
    ) -> io::Result<Connection> {
        TRACE.with(|trace| {
            trace.opened.set(true);
            if trace.is_kept.get() {
                trace.kept.replace(Some(socket.duplicate()?));
            }
            Ok::<_, io::Error>(())
        })?;
        let mut wire = Wire::new(socket, until);
        let channel = match client {
            None => Channel::Plain(wire),
            Some(mut client) => {
                client.complete_io(&mut wire)?;
                Channel::Tls(Box::new(StreamOwned::new(client, wire)))
            }
        };
        Ok(Connection { channel, buffers })
    }

    fn wire(&mut self) -> &mut Wire {
        match &mut self.channel {
            Channel::Plain(wire) => wire,
            Channel::Tls(stream) => &mut stream.sock,
        }
    }

    fn limit(&mut self, timeout: &NextTimeout) {
        self.wire().until = end(timeout);
    }

    fn write(&mut self, amount: usize) -> io::Result<()> {
        let bytes = &self.buffers.output()[..amount];
        match &mut self.channel {
            Channel::Plain(wire) => wire.write_all(bytes),
            Channel::Tls(stream) => {
                let written = stream.write_all(bytes).and_then(|()| stream.flush());
                written.map_err(|error| last_word(stream, error))
            }
        }
    }

    fn read(&mut self) -> io::Result<usize> {
        let room = self.buffers.input_append_buf();
        let amount = match &mut self.channel {
            Channel::Plain(wire) => wire.read(room)?,
            Channel::Tls(stream) => match stream.read(room) {
                Ok(amount) => amount,
                Err(error) => return Err(last_word(stream, error)),
            },
        };
        self.buffers.input_appended(amount);
        Ok(amount)
    }
}

/// When the client's limit is reached: every request has one.
pub(super) fn end(timeout: &NextTimeout) -> Instant {
    let now = Instant::now();
    now.checked_add(*timeout.after).unwrap_or(now)
}

/// Why a TLS connection is closed: a server that rejects it may have sent an alert, after which writes fail.
fn last_word(stream: &mut StreamOwned<ClientConnection, Wire>, error: io::Error) -> io::Error {
    let is_closed = matches!(
        error.kind(),
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
    );
    if is_closed && matches!(stream.conn.read_tls(&mut stream.sock), Ok(1..)) {
        match stream.conn.process_new_packets() {
            Err(told) => io::Error::new(ErrorKind::InvalidData, told),
            Ok(_) => error,
        }
    } else {
        error
    }
}

/// A socket's error as the client's.
fn error(error: io::Error, timeout: &NextTimeout) -> ureq::Error {
    match error.kind() {
        ErrorKind::TimedOut => ureq::Error::Timeout(timeout.reason),
        _ => ureq::Error::Io(error),
    }
}

impl Transport for Connection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        TRACE.with(|trace| trace.sent.set(true));
        self.limit(&timeout);
        self.write(amount).map_err(|it| error(it, &timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.limit(&timeout);
        let amount = self.read().map_err(|it| error(it, &timeout))?;
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.wire().socket.is_quiet()
    }

    fn is_tls(&self) -> bool {
        matches!(self.channel, Channel::Tls(_))
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self.channel {
            Channel::Plain(_) => "Connection",
            Channel::Tls(_) => "Connection over TLS",
        })
    }
}
