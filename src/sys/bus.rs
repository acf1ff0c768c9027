//! D-Bus connections and calls that keep a deadline. zbus is asynchronous; its futures are run to their end here.

pub mod agent;
mod direct;
pub mod presence;
pub mod watch;

use std::fmt;
use std::future::Future;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zbus::connection::Builder;
use zbus::{Connection, DynamicType, Message, Type};
use zruntime::SharedRuntime;

use crate::deadline::Deadline;
use crate::failure::{Failure, Word};

pub use direct::Direct;

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

/// Runs a future of zbus to its end, or to the deadline.
///
/// # Errors
/// `TimedOut` at the deadline, which is kept whatever the peer does; else the future's own.
pub fn within<T>(
    deadline: Deadline,
    work: impl Future<Output = zbus::Result<T>>,
) -> Result<T, Trouble> {
    let left = deadline.left().ok_or(Trouble::TimedOut)?;
    zbus::block_on(async {
        let runtime =
            SharedRuntime::current().map_err(|error| Trouble::NoConnection(error.to_string()))?;
        match runtime.timeout(left, work).await {
            Ok(ended) => Ok(ended?),
            Err(_) => Err(Trouble::TimedOut),
        }
    })
}

/// A connection to a bus, and whom calls go to there.
#[derive(Debug)]
pub struct Bus {
    connection: Connection,
    destination: &'static str,
}

impl Bus {
    /// The system bus (`$DBUS_SYSTEM_BUS_ADDRESS`, else the usual socket), to call `destination` there.
    ///
    /// # Errors
    /// When there is no bus, or it does not answer in time.
    pub fn system(destination: &'static str, deadline: Deadline) -> Result<Bus, Trouble> {
        let connection = within(deadline, Builder::system().build())?;
        Ok(Bus {
            connection,
            destination,
        })
    }

    /// Calls a method and returns what it answers.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub fn call<A, R>(
        &self,
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
        let call = self.connection.call_method(
            Some(self.destination),
            path,
            Some(interface),
            method,
            arguments,
        );
        let answer: Message = within(deadline, call)?;
        let body = answer.body();
        Ok(body.deserialize::<R>()?)
    }

    /// The connection itself, for those who serve or listen on it.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }
}
