//! D-Bus: connections and calls that keep a deadline.

pub mod agent;
mod direct;
mod incoming;
mod line;
pub mod presence;
mod service;
pub mod story;
pub mod watch;

use std::collections::VecDeque;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;

use nix::sys::socket::UnixAddr;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zbus::address::transport::{Transport, UnixSocket};
use zbus::{DynamicType, Message, Type};

use crate::deadline::Deadline;
use crate::failure::{Failure, Word};

pub use direct::Direct;
use incoming::{Incoming, Kind};
use line::Line;

/// Why a call came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nobody answered before the deadline.
    TimedOut,
    /// There is no connection, or it broke: the bus is not there, or its daemon ended.
    NoConnection(String),
    /// The peer's answer is an error: its name, and its message.
    Refused(String, String),
    /// The answer is not what the interface says.
    Strange(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::TimedOut => out.write_str("does not answer"),
            Trouble::NoConnection(cause) => write!(out, "no connection: {cause}"),
            Trouble::Refused(name, message) if message.is_empty() => out.write_str(name),
            Trouble::Refused(_, message) => out.write_str(message),
            Trouble::Strange(cause) => write!(out, "a strange answer: {cause}"),
        }
    }
}

impl Trouble {
    /// The failure of a step that asked `noun`. What may pass is tried again; a refusal is not.
    pub fn failure(self, noun: impl Into<String>) -> Failure {
        let passing = !matches!(self, Trouble::Refused(..));
        Failure::new(Word::Bus, noun, self.to_string()).passing(passing)
    }

    /// Whether the peer's answer is the error `name`.
    pub fn is(&self, name: &str) -> bool {
        matches!(self, Trouble::Refused(refusal, _) if refusal == name)
    }
}

impl From<zbus::Error> for Trouble {
    fn from(error: zbus::Error) -> Self {
        match error {
            zbus::Error::MethodError(name, message, _) => {
                Trouble::Refused(name.to_string(), message.unwrap_or_default())
            }
            zbus::Error::FDO(error) => {
                use zbus::DBusError as _;
                let message = error.description().unwrap_or_default().to_owned();
                Trouble::Refused(error.name().to_string(), message)
            }
            zbus::Error::InputOutput(error) => Trouble::NoConnection(error.to_string()),
            zbus::Error::Connection(error, _) => Trouble::NoConnection(error.to_string()),
            zbus::Error::Handshake(cause) | zbus::Error::Address(cause) => {
                Trouble::NoConnection(cause)
            }
            other => Trouble::Strange(other.to_string()),
        }
    }
}

/// Whether the environment names the system bus (`$DBUS_SYSTEM_BUS_ADDRESS`).
pub fn is_named() -> bool {
    std::env::var_os("DBUS_SYSTEM_BUS_ADDRESS").is_some()
}

/// Where the system bus is: `$DBUS_SYSTEM_BUS_ADDRESS`, else the usual socket.
fn address() -> Result<UnixAddr, Trouble> {
    let unreachable = |cause: String| Trouble::NoConnection(cause);
    let address = zbus::Address::system()?;
    let address = match address.transport() {
        Transport::Unix(unix) => match unix.path() {
            UnixSocket::File(path) => UnixAddr::new(path),
            UnixSocket::Abstract(name) => UnixAddr::new_abstract(name.as_bytes()),
            other => return Err(unreachable(format!("{other:?} is no place of a bus"))),
        },
        other => return Err(unreachable(format!("no bus is asked over {other:?}"))),
    };
    address.map_err(|errno| unreachable(errno.to_string()))
}

/// The first call on a bus, which gives out a name to be called by.
fn hello() -> zbus::Result<Message> {
    bus_call("Hello", &())
}

/// A call of the bus itself.
fn bus_call<A: Serialize + DynamicType>(method: &str, arguments: &A) -> zbus::Result<Message> {
    Message::method_call(agent::BUS_PATH, method)
        .destination(agent::BUS)
        .interface(agent::BUS)
        .build(arguments)
}

/// A connection to a bus, and whom calls go to there.
#[derive(Debug)]
pub struct Bus {
    line: Line,
    destination: String,
    /// Signals that have arrived while an answer was waited for.
    signals: VecDeque<Incoming>,
}

impl Bus {
    /// The system bus (`$DBUS_SYSTEM_BUS_ADDRESS`, else the usual socket), to call `destination` there.
    ///
    /// # Errors
    /// When there is no bus, or it does not answer in time.
    pub fn system(destination: &str, deadline: Deadline) -> Result<Bus, Trouble> {
        let mut bus = Bus {
            line: Line::begin_by(&address()?, deadline)?,
            destination: destination.to_owned(),
            signals: VecDeque::new(),
        };
        let _name: String = bus.answer(&hello()?, deadline)?;
        Ok(bus)
    }

    /// Calls a method and returns what it answers.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub fn call<A, R>(
        &mut self,
        path: &str,
        interface: &str,
        method: &str,
        arguments: &A,
        deadline: Deadline,
    ) -> Result<R, Trouble>
    where
        A: Serialize + DynamicType,
        R: DeserializeOwned + Type,
    {
        let call = Message::method_call(path, method)
            .destination(self.destination.as_str())
            .interface(interface)
            .build(arguments)?;
        self.answer(&call, deadline)
    }

    fn answer<R>(&mut self, call: &Message, deadline: Deadline) -> Result<R, Trouble>
    where
        R: DeserializeOwned + Type,
    {
        self.line.send(call);
        let serial = call.primary_header().serial_num().get();
        loop {
            let message = self.line.next(deadline)?;
            if message.answers(serial) {
                return message.read();
            }
            if message.kind == Kind::Signal {
                self.signals.push_back(message);
            }
        }
    }

    /// The next signal, of those that the bus was asked for.
    fn signal(&mut self, deadline: Deadline) -> Result<Incoming, Trouble> {
        if let Some(signal) = self.signals.pop_front() {
            return Ok(signal);
        }
        loop {
            let message = self.line.next(deadline)?;
            if message.kind == Kind::Signal {
                return Ok(message);
            }
        }
    }
}
