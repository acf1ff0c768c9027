//! The way to PID 1's own socket, whose messages zbus does not take as they are.
//!
//! Where there is no bus in between, systemd says of itself that it is `org.freedesktop.systemd1` (sd-bus puts that into
//! every message of such a connection). A sender is a unique name to zbus, `:1.7`, and it takes nothing from any other.
//! So what comes is handed on by a thread that makes the name look like one: `:rg.freedesktop.systemd1`.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

/// The sender field of a message's head: its code, its signature, its length and the name.
const SENDER: &[u8] = b"\x07\x01s\0\x18\0\0\0org.freedesktop.systemd1\0";
const SENDER_BIG: &[u8] = b"\x07\x01s\0\0\0\0\x18org.freedesktop.systemd1\0";

/// Where the name begins in it.
const NAME: usize = 8;

/// The fixed part of a message's head.
const FIXED: usize = 16;

/// The longest message of the protocol.
const LONGEST: usize = 128 << 20;

/// How long PID 1 may take to read what it is asked, before the connection is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Only copies, in small pieces.
const STACK: usize = 64 << 10;

/// Connects to the peer at `path`, and returns the end for zbus. It stands until one of both ends closes.
///
/// # Errors
/// When nobody listens there, or too many others wait.
pub(super) fn to(path: &Path) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    // Without waiting: a PID 1 that accepts nobody would keep this thread for ever.
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    let peer = UnixStream::from(fd);
    peer.set_nonblocking(false)?;
    peer.set_write_timeout(Some(PATIENCE))?;
    let (ours, theirs) = UnixStream::pair()?;
    let (peer_too, ours_too) = (peer.try_clone()?, ours.try_clone()?);
    spawn("to systemd", move || {
        // However it ends, both directions are over: the other thread hears of it.
        let _ = io::copy(&mut &ours_too, &mut &peer_too);
        let _ = peer_too.shutdown(Shutdown::Both);
    })?;
    spawn("from systemd", move || {
        let _ = hand_on(&peer, &ours);
        let _ = ours.shutdown(Shutdown::Both);
        let _ = peer.shutdown(Shutdown::Both);
    })?;
    Ok(theirs)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let builder = thread::Builder::new().name(name.to_owned());
    builder.stack_size(STACK).spawn(work).map(drop)
}

/// Copies lines of the handshake as they are, and messages with another sender, until there is no more.
fn hand_on(from: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut from = BufReader::new(from);
    let mut bytes = Vec::new();
    while let Some(first) = from.fill_buf()?.first().copied() {
        bytes.clear();
        // A message begins with its byte order; no line of a server's does with one of these letters.
        match first {
            b'l' => read_message(&mut from, &mut bytes, u32::from_le_bytes)?,
            b'B' => read_message(&mut from, &mut bytes, u32::from_be_bytes)?,
            _ => {
                from.read_until(b'\n', &mut bytes)?;
            }
        }
        to.write_all(&bytes)?;
    }
    Ok(())
}

fn read_message(
    from: &mut impl Read,
    bytes: &mut Vec<u8>,
    number: fn([u8; 4]) -> u32,
) -> io::Result<()> {
    bytes.resize(FIXED, 0);
    from.read_exact(bytes)?;
    let at = |at: usize| {
        let word = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        usize::try_from(number(word)).unwrap_or(usize::MAX)
    };
    let (body, fields) = (at(4), at(12));
    if body > LONGEST || fields > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let head = FIXED + fields.next_multiple_of(8);
    bytes.resize(head + body, 0);
    from.read_exact(&mut bytes[FIXED..])?;
    let fields = &mut bytes[FIXED..FIXED + fields];
    let is_sender = |window: &[u8]| window == SENDER || window == SENDER_BIG;
    if let Some(at) = fields.windows(SENDER.len()).position(is_sender) {
        fields[at + NAME] = b':';
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(fields: &[u8], body: &[u8]) -> Vec<u8> {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("short").to_le_bytes();
        let mut message = [
            &b"l\x02\x01\x01"[..],
            &length(body),
            &[7, 0, 0, 0],
            &length(fields),
            fields,
        ]
        .concat();
        message.resize(message.len().next_multiple_of(8), 0);
        [message, body.to_vec()].concat()
    }

    /// A stream that comes byte by byte.
    struct Drops<'a>(&'a [u8]);

    impl Read for Drops<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let most = buffer.len().min(1);
            self.0.read(&mut buffer[..most])
        }
    }

    #[test]
    fn only_the_sender_is_changed() {
        let line = b"OK 0123456789abcdef\r\n".to_vec();
        // In a body the same bytes are somebody's data.
        let sent = [
            line.clone(),
            message(SENDER, SENDER),
            message(b"", b"l\x07"),
        ]
        .concat();
        let mut renamed = SENDER.to_vec();
        renamed[NAME] = b':';
        let expected = [line, message(&renamed, SENDER), message(b"", b"l\x07")].concat();
        for whole in [true, false] {
            let mut got = Vec::new();
            let handed = if whole {
                hand_on(sent.as_slice(), &mut got)
            } else {
                hand_on(Drops(&sent), &mut got)
            };
            handed.expect("all of it");
            assert_eq!(got, expected);
        }
    }

    #[test]
    fn what_is_no_message_ends_it() {
        let endless = [&b"l\x02\x01\x01"[..], &[0xff; 12]].concat();
        assert!(hand_on(endless.as_slice(), Vec::new()).is_err());
        assert!(hand_on(&b"l\x02"[..], Vec::new()).is_err());
    }
}
