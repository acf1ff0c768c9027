//! D-Bus connections and calls with deadlines.

pub mod connection;
mod inbox;
mod message;

use std::collections::VecDeque;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::sys::socket::UnixAddr;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zbus::address::transport::{Transport, UnixSocket};
use zbus::{DynamicType, Message, Type};

use crate::model::deadline::Deadline;
use crate::model::error::{ErrorKind, Failure};

use connection::Connection;
pub use inbox::{LONGEST_CALL, Side};
pub use message::{Incoming, Kind};

/// The bus itself: its name, and its interface.
pub const BUS: &str = "org.freedesktop.DBus";

/// The object path of the bus itself.
pub const BUS_PATH: &str = "/org/freedesktop/DBus";

/// How many signals are kept while waiting for a reply. Only few are subscribed to.
const MOST_SIGNALS: usize = 1 << 10;

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusError {
    /// No reply before the deadline.
    TimedOut,
    /// There is no connection, or it broke: there is no bus, or its daemon ended.
    NoConnection(String),
    /// The peer replied with an error: its name and message.
    Refused(String, String),
    /// The reply does not match the interface.
    Unexpected(String),
}

impl fmt::Display for BusError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BusError::TimedOut => out.write_str("does not answer"),
            BusError::NoConnection(cause) => write!(out, "no connection: {cause}"),
            BusError::Refused(name, message) if message.is_empty() => out.write_str(name),
            BusError::Refused(_, message) => out.write_str(message),
            BusError::Unexpected(cause) => write!(out, "unexpected answer: {cause}"),
        }
    }
}

impl BusError {
    /// The failure of a step that called `subject`. Only an error reply is not retryable.
    pub fn failure(self, subject: impl Into<String>) -> Failure {
        let retryable = !matches!(self, BusError::Refused(..));
        Failure::new(ErrorKind::Bus, subject, self.to_string()).retryable(retryable)
    }

    /// Whether the peer's answer is the error `name`.
    pub fn is(&self, name: &str) -> bool {
        matches!(self, BusError::Refused(refusal, _) if refusal == name)
    }
}

impl From<zbus::Error> for BusError {
    fn from(error: zbus::Error) -> Self {
        match error {
            zbus::Error::MethodError(name, message, _) => {
                BusError::Refused(name.to_string(), message.unwrap_or_default())
            }
            zbus::Error::FDO(error) => {
                use zbus::DBusError as _;
                let message = error.description().unwrap_or_default().to_owned();
                BusError::Refused(error.name().to_string(), message)
            }
            zbus::Error::InputOutput(error) => BusError::NoConnection(error.to_string()),
            zbus::Error::Connection(error, _) => BusError::NoConnection(error.to_string()),
            zbus::Error::Handshake(cause) | zbus::Error::Address(cause) => {
                BusError::NoConnection(cause)
            }
            other => BusError::Unexpected(other.to_string()),
        }
    }
}

/// Whether the environment names the system bus (`$DBUS_SYSTEM_BUS_ADDRESS`).
pub fn is_named() -> bool {
    std::env::var_os("DBUS_SYSTEM_BUS_ADDRESS").is_some()
}

/// Where the system bus is: `$DBUS_SYSTEM_BUS_ADDRESS`, else the usual socket.
pub fn address() -> Result<UnixAddr, BusError> {
    let unreachable = |cause: String| BusError::NoConnection(cause);
    let address = zbus::Address::system()?;
    let address = match address.transport() {
        Transport::Unix(unix) => match unix.path() {
            UnixSocket::File(path) => UnixAddr::new(path),
            UnixSocket::Abstract(name) => UnixAddr::new_abstract(name.as_bytes()),
            other => {
                return Err(unreachable(format!(
                    "{other:?} is not the address of a bus"
                )));
            }
        },
        other => return Err(unreachable(format!("no bus is asked over {other:?}"))),
    };
    address.map_err(|errno| unreachable(errno.to_string()))
}

/// The first call on a bus, which assigns a unique name.
pub fn hello() -> zbus::Result<Message> {
    bus_call("Hello", &())
}

/// A call of the bus itself.
pub fn bus_call<A: Serialize + DynamicType>(method: &str, arguments: &A) -> zbus::Result<Message> {
    Message::method_call(BUS_PATH, method)
        .destination(BUS)
        .interface(BUS)
        .build(arguments)
}

/// A connection, and the destination of its calls.
#[derive(Debug)]
pub struct Bus {
    connection: Connection,
    /// `None` on a direct connection to a peer, such as PID 1's own socket.
    destination: Option<String>,
    /// Signals received while waiting for a reply.
    signals: VecDeque<Incoming>,
}

impl Bus {
    /// The system bus (`$DBUS_SYSTEM_BUS_ADDRESS`, else the usual socket), to call `destination` there.
    pub fn system(destination: &str, deadline: Deadline) -> Result<Bus, BusError> {
        let mut bus = Bus {
            connection: Connection::begin_by(&address()?, deadline)?,
            destination: Some(destination.to_owned()),
            signals: VecDeque::new(),
        };
        let _name: String = bus.answer(&hello()?, deadline)?;
        Ok(bus)
    }

    /// Whether `name` has an owner on this bus now. A call to a name without one could make the bus start a service.
    pub fn has_owner(&mut self, name: &str, deadline: Deadline) -> Result<bool, BusError> {
        self.answer(&bus_call("NameHasOwner", &(name,))?, deadline)
    }

    /// A direct connection to the peer that listens at `path`.
    ///
    /// # Errors
    /// If nobody listens there, or the peer's backlog stays full until the deadline.
    pub fn peer(path: &Path, deadline: Deadline) -> Result<Bus, BusError> {
        let address = UnixAddr::new(path);
        let address = address.map_err(|errno| BusError::NoConnection(errno.to_string()))?;
        Ok(Bus {
            connection: Connection::begin_by(&address, deadline)?,
            destination: None,
            signals: VecDeque::new(),
        })
    }

    /// Calls a method and returns its reply.
    pub fn call<A, R>(
        &mut self,
        path: &str,
        interface: &str,
        method: &str,
        arguments: &A,
        deadline: Deadline,
    ) -> Result<R, BusError>
    where
        A: Serialize + DynamicType,
        R: DeserializeOwned + Type,
    {
        let mut call = Message::method_call(path, method).interface(interface);
        if let Some(destination) = &self.destination {
            call = call.destination(destination.as_str());
        }
        self.answer(&call.build(arguments)?, deadline)
    }

    /// Sends a call and returns its reply.
    pub fn answer<R>(&mut self, call: &Message, deadline: Deadline) -> Result<R, BusError>
    where
        R: DeserializeOwned + Type,
    {
        self.connection.send(call);
        let serial = call.primary_header().serial_num().get();
        loop {
            let message = self.connection.next(deadline)?;
            if message.answers(serial) {
                return message.read();
            }
            // Unsolicited messages are ignored: a peer, and anybody on a bus, may send them.
            let is_asked_for = message.kind == Kind::Signal && self.destination.is_some();
            if is_asked_for && self.signals.len() < MOST_SIGNALS {
                self.signals.push_back(message);
            }
        }
    }

    /// The next signal.
    pub fn signal(&mut self, deadline: Deadline) -> Result<Incoming, BusError> {
        if let Some(signal) = self.signals.pop_front() {
            return Ok(signal);
        }
        loop {
            let message = self.connection.next(deadline)?;
            if message.kind == Kind::Signal {
                return Ok(message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;
    use std::thread;
    use std::time::Duration;

    use zbus::wire::serialized::Context;
    use zbus::wire::{NATIVE_ENDIAN, Variant, to_bytes};
    use zbus::{ObjectPath, OwnedVariant, Signature};

    use super::*;
    use crate::model::deadline::Reason;

    const METHOD_RETURN: u8 = 2;
    const ERROR: u8 = 3;

    const ERROR_NAME: u8 = 4;
    const REPLY_SERIAL: u8 = 5;
    const SIGNATURE: u8 = 8;

    /// A stand-in for PID 1, which signs as PID 1 does, and what it answers to each call with.
    fn stand_in(name: &str, answers: Vec<Vec<u8>>) -> PathBuf {
        let path = std::env::temp_dir().join(format!("farewell-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).expect("bound");
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a peer");
            let mut buffer = [0; 4096];
            let length = stream.read(&mut buffer).expect("the handshake");
            let said = String::from_utf8_lossy(&buffer[..length]).into_owned();
            assert!(
                said.starts_with("\0AUTH EXTERNAL ") && said.ends_with("\r\nBEGIN\r\n"),
                "{said:?}"
            );
            stream
                .write_all(b"OK 1234567890abcdef\r\n")
                .expect("written");
            for answer in answers {
                let length = stream.read(&mut buffer).expect("a call");
                let serial = u32::from_le_bytes(buffer[8..12].try_into().expect("four"));
                assert!(length > 16 && buffer[0] == b'l');
                let mut answer = answer;
                // Where `message` has left the place for it.
                let place = answer
                    .windows(4)
                    .rposition(|it| it == 0xdead_beef_u32.to_le_bytes());
                if let Some(at) = place {
                    answer[at..at + 4].copy_from_slice(&serial.to_le_bytes());
                }
                // In two parts, as a stream may.
                stream.write_all(&answer[..7]).expect("written");
                stream.write_all(&answer[7..]).expect("written");
            }
            while stream.read(&mut buffer).is_ok_and(|length| length > 0) {}
        });
        path
    }

    fn message<B: Serialize + DynamicType>(
        kind: u8,
        signature: &str,
        more: Option<&str>,
        body: &B,
    ) -> Vec<u8> {
        let context = Context::new(NATIVE_ENDIAN, 0);
        let body = to_bytes(context, body).expect("a body");
        let mut fields: Vec<(u8, Variant<'_>)> = vec![
            (REPLY_SERIAL, Variant::from(0xdead_beef_u32)),
            (7, Variant::from("org.freedesktop.systemd1")),
            (
                SIGNATURE,
                Variant::from(Signature::try_from(signature).expect("one")),
            ),
        ];
        if let Some(name) = more {
            fields.push((ERROR_NAME, Variant::from(name)));
        }
        let length = u32::try_from(body.bytes().len()).expect("short");
        let head = (b'l', kind, 0u8, 1u8, length, 1u32, fields);
        let mut bytes = to_bytes(context, &head).expect("a head").bytes().to_vec();
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes.extend_from_slice(body.bytes());
        bytes
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(30), Reason::Attempt)
    }

    #[test]
    fn answers_are_taken_from_a_peer_that_signs_with_a_name() {
        let signal = message(4, "s", None, &"something else");
        let job = ObjectPath::try_from("/org/freedesktop/systemd1/job/7").expect("a path");
        let name = "org.freedesktop.systemd1.NoSuchUnit";
        let answers = vec![
            [signal, message(METHOD_RETURN, "o", None, &job)].concat(),
            message(METHOD_RETURN, "v", None, &Variant::from("running")),
            message(ERROR, "s", Some(name), &"Unit x.service not loaded."),
            message(METHOD_RETURN, "u", None, &7u32),
        ];
        let path = stand_in("peer", answers);
        let mut peer = Bus::peer(&path, soon()).expect("connected");
        let mut call = |method: &str| -> Result<zbus::OwnedObjectPath, BusError> {
            peer.call("/x", "x.Y", method, &("a", 1u32), soon())
        };
        assert_eq!(call("Stop").expect("an answer").as_str(), job.as_str());
        let value: OwnedVariant = peer
            .call("/x", "x.Y", "Get", &(), soon())
            .expect("an answer");
        assert_eq!(String::try_from(value).expect("text"), "running");
        let refused: Result<(), BusError> = peer.call("/x", "x.Y", "Stop", &(), soon());
        let error = refused.expect_err("an error");
        assert!(error.is(name));
        assert_eq!(error.to_string(), "Unit x.service not loaded.");
        let unexpected_answer: Result<String, BusError> = peer.call("/x", "x.Y", "Z", &(), soon());
        assert!(
            matches!(unexpected_answer, Err(BusError::Unexpected(_))),
            "{unexpected_answer:?}"
        );
        std::fs::remove_file(path).expect("removed");
    }

    #[test]
    fn a_peer_that_does_not_answer_costs_its_deadline() {
        let path = stand_in("silent", Vec::new());
        let mut peer = Bus::peer(&path, soon()).expect("connected");
        let little = Deadline::after(Duration::from_millis(50), Reason::Attempt);
        let nothing: Result<(), BusError> = peer.call("/x", "x.Y", "Z", &(), little);
        assert_eq!(nothing, Err(BusError::TimedOut));
        std::fs::remove_file(&path).expect("removed");
        let nobody = Bus::peer(&path, soon()).map(drop);
        assert!(
            matches!(nobody, Err(BusError::NoConnection(_))),
            "{nobody:?}"
        );
    }
}
