//! Who calls a run on the bus without the manners of a library: raw messages over a raw socket.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::unistd::geteuid;
use zbus::Message;
use zbus::message::{Builder, Flags};

use super::bus::{NAME, PATH};

const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const BUS: &str = "org.freedesktop.DBus";

/// Types of messages.
pub const RETURN: u8 = 2;
pub const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

/// A connection to the bus.
pub struct Caller {
    stream: UnixStream,
}

impl Caller {
    /// Connects to the socket at `path`, and gets a name.
    pub fn connect(path: &Path) -> Caller {
        let mut stream = UnixStream::connect(path).expect("a bus");
        let limit = Some(Duration::from_secs(120));
        stream.set_read_timeout(limit).expect("set");
        let user: String = geteuid().to_string();
        let user: String = user.bytes().map(|byte| format!("{byte:02x}")).collect();
        write!(stream, "\0AUTH EXTERNAL {user}\r\n").expect("written");
        let mut said = Vec::new();
        while !said.ends_with(b"\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a handshake");
            said.push(byte[0]);
        }
        assert!(said.starts_with(b"OK "), "{said:?}");
        stream.write_all(b"BEGIN\r\n").expect("written");
        let mut caller = Caller { stream };
        let hello = Message::method_call("/org/freedesktop/DBus", "Hello");
        let hello = hello.destination(BUS);
        let hello = hello.interface(BUS).build(&());
        assert_eq!(caller.ask(&hello.expect("a message")).0, RETURN);
        caller
    }

    /// Sends a message; not all of it where the bus does not take it within `limit`.
    pub fn send_within(&mut self, bytes: &[u8], limit: Duration) -> io::Result<()> {
        self.stream.set_write_timeout(Some(limit))?;
        self.stream.write_all(bytes)
    }

    pub fn send(&mut self, message: &Message) {
        let limit = Duration::from_secs(120);
        let sent = self.send_within(message.data().bytes(), limit);
        sent.expect("the bus takes it");
    }

    /// Sends a call and waits for the answer: its type, and its bytes.
    pub fn ask(&mut self, call: &Message) -> (u8, Vec<u8>) {
        self.send(call);
        self.answer().expect("an answer")
    }

    /// The next answer: its type, and its bytes. Signals are passed over.
    pub fn answer(&mut self) -> io::Result<(u8, Vec<u8>)> {
        loop {
            let mut begin = [0; 16];
            self.stream.read_exact(&mut begin)?;
            let number = |at: usize| {
                let bytes = begin[at..at + 4].try_into().expect("four");
                u32::from_le_bytes(bytes) as usize
            };
            assert_eq!(begin[0], b'l', "the order of this machine's bytes");
            let (body, fields) = (number(4), number(12));
            let mut rest = vec![0; (16 + fields).next_multiple_of(8) + body - 16];
            self.stream.read_exact(&mut rest)?;
            if begin[1] != SIGNAL {
                return Ok((begin[1], rest));
            }
        }
    }
}

/// A call of the run at `path`.
pub fn call<'a>(path: &'a str, interface: &'a str, member: &'a str) -> Builder<'a> {
    let call = Message::method_call(path, member);
    let call = call.destination(NAME);
    call.interface(interface)
}

/// `GetAll` of the properties of `interface`.
pub fn get_all(interface: &str) -> Message {
    let call = call(PATH, PROPERTIES, "GetAll");
    call.build(&(interface,)).expect("a message")
}

/// A call that wants no answer.
pub fn unanswered() -> Message {
    let call = call(PATH, PROPERTIES, "GetAll").with_flags(Flags::NO_REPLY_EXPECTED);
    call.build(&(NAME,)).expect("a message")
}

/// A signal to the run alone.
pub fn signal(body: &str) -> Message {
    let signal = Message::signal(PATH, "x.Y", "Z");
    let signal = signal.destination(NAME);
    signal.build(&(body,)).expect("a message")
}
