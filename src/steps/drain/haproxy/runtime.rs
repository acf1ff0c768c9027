//! One server, as the runtime API of one HAProxy describes it.

use std::io;

use super::super::Load;
use crate::clients::http::excerpt;
use crate::model::error::{ErrorKind, Failure};
use crate::step::AttemptContext;
use crate::sys::command_socket;
use crate::sys::http::Endpoint;

/// The administrative state of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Ready,
    Drain,
    Maint,
}

impl State {
    /// As the runtime API calls it.
    pub(super) fn word(self) -> &'static str {
        match self {
            State::Ready => "ready",
            State::Drain => "drain",
            State::Maint => "maint",
        }
    }

    /// The state with this name.
    pub(super) fn parse(word: &str) -> Result<State, String> {
        let states = [State::Ready, State::Drain, State::Maint];
        let found = states.into_iter().find(|it| it.word() == word);
        found.ok_or_else(|| format!("`{word}` is no state of a server"))
    }

    /// The state in the bits of `srv_admin_state`; what a server has from another one that it tracks is not its own.
    fn of(bits: u32) -> State {
        match bits {
            _ if bits & 0x01 != 0 => State::Maint,
            _ if bits & 0x08 != 0 => State::Drain,
            _ => State::Ready,
        }
    }
}

/// The server as it was read.
pub(super) struct Seen {
    pub(super) state: State,
    pub(super) load: Load,
    /// How many other servers of the backend take new sessions.
    pub(super) others_up: i64,
}

/// Whether HAProxy knows the server.
pub(super) enum Found {
    Server(Seen),
    /// It does not; what it lacks, for the operator.
    Unknown(String),
}

/// One server in one HAProxy.
pub(super) struct Runtime<'a> {
    context: &'a AttemptContext<'a>,
    socket: Endpoint,
    backend: String,
    server: String,
}

impl<'a> Runtime<'a> {
    pub(super) fn new(
        context: &'a AttemptContext<'a>,
        socket: Endpoint,
        backend: &str,
        server: &str,
    ) -> Runtime<'a> {
        Runtime {
            context,
            socket,
            backend: backend.to_owned(),
            server: server.to_owned(),
        }
    }

    /// The address of the runtime API.
    pub(super) fn address(&self) -> String {
        command_socket::shown(&self.socket)
    }

    /// `BACKEND/SERVER`.
    pub(super) fn full_name(&self) -> String {
        format!("{}/{}", self.backend, self.server)
    }

    /// The backend and the server.
    pub(super) fn names(&self) -> (&str, &str) {
        (&self.backend, &self.server)
    }

    pub(super) fn subject(&self) -> String {
        format!("{} at {}", self.full_name(), self.address())
    }

    pub(super) fn refused(&self, cause: impl Into<String>) -> Failure {
        Failure::new(ErrorKind::Refused, self.address(), cause)
    }

    fn ask(&self, command: &str) -> Result<String, Failure> {
        let late = || {
            Failure::new(
                ErrorKind::TimedOut,
                self.address(),
                "HAProxy does not answer",
            )
        };
        let left = self.context.request().left().ok_or_else(late)?;
        command_socket::ask(&self.socket, command, left).map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => late(),
            io::ErrorKind::PermissionDenied => self.refused(error.to_string()),
            _ => Failure::new(ErrorKind::Unreachable, self.address(), error.to_string()),
        })
    }

    /// Reads the server and the state of the others in its backend.
    pub(super) fn look(&self) -> Result<Found, Failure> {
        let backend = &self.backend;
        let said = self.ask(&format!(
            "show servers state {backend};show stat {backend} 4 -1"
        ))?;
        let Some(rows) = said.strip_prefix("1\n") else {
            if said.starts_with("Can't find backend") {
                return Ok(Found::Unknown(format!("knows no backend {backend}")));
            }
            return Err(self.unexpected_answer(&said));
        };
        let (mut names, mut own, mut others_up) = (Vec::new(), None, 0);
        let (states, load) = rows.split_once("\n\n").unwrap_or((rows, ""));
        for row in states.lines().filter(|it| !it.starts_with('#')) {
            let mut fields = row.split(' ').skip(3);
            let name = fields.next().unwrap_or_default();
            let _address = fields.next();
            let mut number = || fields.next().and_then(|it| it.parse::<u32>().ok());
            let (Some(operation), Some(bits), Some(weight)) = (number(), number(), number()) else {
                return Err(self.unexpected_answer(row));
            };
            names.push(name);
            match name == self.server {
                true => own = Some(State::of(bits)),
                // Started, not drained by itself or by its health check, and not kept out in any way.
                false => {
                    others_up += i64::from((1..=2).contains(&operation) && bits == 0 && weight > 0)
                }
            }
        }
        let Some(state) = own else {
            return Ok(Found::Unknown(format!(
                "knows no server {} in the backend {backend}, only {}",
                self.server,
                names.join(", ")
            )));
        };
        let load = load.lines().find_map(|row| {
            let mut fields = row.split(',').skip(1);
            let is_own = fields.next() == Some(self.server.as_str());
            let queued = fields.next()?.parse().ok()?;
            let sessions = fields.nth(1)?.parse().ok()?;
            is_own.then_some((sessions, queued))
        });
        let (sessions, queued) = load.ok_or_else(|| self.unexpected_answer(&said))?;
        Ok(Found::Server(Seen {
            state,
            load: Load { sessions, queued },
            others_up,
        }))
    }

    /// As [`Runtime::look`]; an unknown server is a refusal.
    pub(super) fn must(&self) -> Result<Seen, Failure> {
        match self.look()? {
            Found::Server(seen) => Ok(seen),
            Found::Unknown(cause) => Err(self.refused(format!("HAProxy {cause}"))),
        }
    }

    /// Sets the server's state. HAProxy confirms with a blank line; any other text is a refusal.
    pub(super) fn set(&self, state: State) -> Result<(), Failure> {
        let command = format!("set server {} state {}", self.full_name(), state.word());
        let said = self.ask(&command)?;
        match said.trim_ascii() {
            "" => Ok(()),
            text => {
                let cause = format!("HAProxy says to `{command}`: {}", excerpt(text.as_bytes()));
                Err(self.refused(cause))
            }
        }
    }

    /// The access level of the socket; `None` if HAProxy does not report it.
    pub(super) fn level(&self) -> Result<Option<String>, Failure> {
        let said = self.ask("show cli level")?;
        let levels = ["admin", "operator", "user"];
        let level = levels.into_iter().find(|it| said.trim_ascii() == *it);
        Ok(level.map(str::to_owned))
    }

    fn unexpected_answer(&self, said: &str) -> Failure {
        let cause = format!(
            "not what HAProxy says of its servers: {}",
            excerpt(said.as_bytes())
        );
        Failure::new(ErrorKind::Protocol, self.address(), cause).retryable(true)
    }
}
