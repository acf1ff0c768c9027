//! The door to HTTP: connections that are kept for a whole run, and requests that end at their deadline.

mod certificate;
mod connection;
mod connector;
mod endpoint;
mod errors;
mod exchange;
mod known_interfaces;
mod lines;
mod message;
mod resolver;
mod signature;
mod tls;
mod tls_error;
mod trust;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use ureq::config::Config;
use ureq::{Agent, Body};

pub use endpoint::{Endpoint, server_name};
pub use exchange::{ExchangeError, Limits};
pub use lines::{Next, StreamEnd};
pub use message::{Answer, Request, encoded, header_name, header_value, method, strictly_encoded};
pub use signature::{EMPTY, Signer};
pub use tls::TlsFiles;

use crate::model::deadline::Deadline;
use crate::model::error::{ErrorKind, Failure};
use crate::sys::sync::Mutex;
use crate::sys::threads;
use connector::{Destination, HostConnector};
use exchange::{Call, ConnectionUse};
use known_interfaces::{InterfaceCheck, KnownInterfaces};
use resolver::NameCache;

/// How much of a body is read. Lists of thousands of queues, instances or shards are shorter; it takes no memory before it
/// is needed.
pub const BODY_LIMIT: usize = 8 << 20;

/// The longest head of an answer, and the buffer it must fit into.
const HEAD_LIMIT: usize = 32 << 10;

/// How long a connection is kept without use. Servers that close earlier cost one more connection.
const IDLE: Duration = Duration::from_secs(60);

/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

const USER_AGENT: &str = concat!("farewell/", env!("CARGO_PKG_VERSION"));

/// What connections must have in common to be kept together.
#[derive(Clone, PartialEq, Eq, Hash)]
struct ConnectionKey {
    tls: Option<TlsFiles>,
    /// The client itself tells connections apart by the URL's host alone.
    place: Destination,
}

/// All connections of a run.
#[derive(Clone, Default)]
pub struct Http {
    names: NameCache,
    ways: KnownInterfaces,
    agents: Arc<Mutex<HashMap<ConnectionKey, Agent>>>,
    sends_once: bool,
}

impl Http {
    /// No connections yet.
    pub fn new() -> Self {
        Http::default()
    }

    /// No connections yet, and none over plain http to an address of `ways` whose interface is gone or down: what
    /// answers there then may be a stranger.
    pub fn with_ways(ways: BTreeMap<IpAddr, String>) -> Self {
        Http {
            ways: KnownInterfaces::new(ways),
            ..Http::default()
        }
    }

    /// The same connections, for requests that must not be sent twice: each gets a connection of its own, since nobody
    /// knows whether one that was kept and is closed has carried it.
    pub fn sending_once(&self) -> Http {
        Http {
            sends_once: true,
            ..self.clone()
        }
    }

    /// Whether no request is to be sent twice.
    pub fn sends_once(&self) -> bool {
        self.sends_once
    }

    /// Sends a request and reads the whole answer, of a body at most [`BODY_LIMIT`].
    ///
    /// # Errors
    /// Everything but an answer, whatever its status: `unreachable`, `timed-out`, `tls`, `protocol`.
    pub fn send(
        &self,
        endpoint: &Endpoint,
        tls: &TlsFiles,
        request: &Request,
        deadline: Deadline,
    ) -> Result<Answer, Failure> {
        self.try_send(endpoint, tls, request, deadline.into())
            .map_err(|error| error.failure)
    }

    /// As [`Http::send`], with a limit of its own for the connection.
    ///
    /// # Errors
    /// As [`Http::send`], with what became of the request.
    pub fn try_send(
        &self,
        endpoint: &Endpoint,
        tls: &TlsFiles,
        request: &Request,
        limits: Limits,
    ) -> Result<Answer, ExchangeError> {
        let connection_use = ConnectionUse::of(self.sends_once);
        self.perform(
            endpoint,
            tls,
            request,
            (limits, connection_use),
            &mut exchange::whole,
        )
    }

    /// Sends a request that ends the server, and waits until the server ends the connection: before its answer, in the
    /// middle of it, or behind it. `Some` is an answer that is no success.
    ///
    /// # Errors
    /// As [`Http::try_send`]; also when the connection is still there at the deadline.
    pub fn send_until_closed(
        &self,
        endpoint: &Endpoint,
        tls: &TlsFiles,
        request: &Request,
        limits: Limits,
    ) -> Result<Option<Answer>, ExchangeError> {
        let connection_use = ConnectionUse::Kept;
        let sent = self.perform(
            endpoint,
            tls,
            request,
            (limits, connection_use),
            &mut exchange::whole,
        );
        let answer = match sent {
            Ok(answer) if answer.is_success() => answer,
            Ok(answer) => return Ok(Some(answer)),
            Err(error) if error.is_sent && error.is_closed => return Ok(None),
            Err(error) => return Err(error),
        };
        let socket = connection::kept();
        match socket.is_some_and(|it| it.ends_by(limits.answer.instant())) {
            true => Ok(None),
            false => {
                let cause = format!(
                    "answered {}, and did not end the connection in time",
                    answer.status
                );
                let failure = Failure::new(ErrorKind::TimedOut, answer.url, cause);
                Err(ExchangeError::sent(failure))
            }
        }
    }

    /// Sends a request whose answer goes on and on, and gives `hear` the lines of its body as they come, until it has
    /// heard enough, the body ends, or the deadline is reached. An answer that is no success is read as a whole.
    ///
    /// # Errors
    /// As [`Http::send`]; that the deadline is reached is none, once the answer has begun.
    pub fn lines(
        &self,
        endpoint: &Endpoint,
        tls: &TlsFiles,
        request: &Request,
        deadline: Deadline,
        hear: &mut dyn FnMut(&[u8]) -> Next,
    ) -> Result<StreamEnd, Failure> {
        let mut read = |answer: Answer, body, tls: &TlsFiles, left| {
            lines::read(answer, body, tls, left, hear).map_err(ExchangeError::sent)
        };
        let connection_use = ConnectionUse::of(self.sends_once);
        self.perform(
            endpoint,
            tls,
            request,
            (deadline.into(), connection_use),
            &mut read,
        )
        .map_err(|error| error.failure)
    }

    /// Sends a request whose body is read while it is sent, of the length that `request` announces. It is sent once:
    /// nobody can read the body again.
    ///
    /// # Errors
    /// As [`Http::send`]; what the body's reader says is `io`.
    pub fn upload(
        &self,
        endpoint: &Endpoint,
        tls: &TlsFiles,
        request: &Request,
        body: &mut dyn std::io::Read,
        limits: Limits,
    ) -> Result<Answer, Failure> {
        let agent = self.line(endpoint, tls, limits.connect, ConnectionUse::New)?;
        let call = Call {
            agent: &agent,
            endpoint,
            tls,
            request,
            limits,
        };
        call.upload(body).map_err(|error| error.failure)
    }

    fn perform<T>(
        &self,
        endpoint: &Endpoint,
        tls: &TlsFiles,
        request: &Request,
        (limits, connection_use): (Limits, ConnectionUse),
        read: &mut Read<'_, T>,
    ) -> Result<T, ExchangeError> {
        let begun = Instant::now();
        let endpoint = endpoint.join(&request.path);
        let mut status = None;
        let mut read = |answer: Answer, body, tls: &TlsFiles, left| {
            status = Some(answer.status);
            read(answer, body, tls, left)
        };
        let ended = self
            .line(&endpoint, tls, limits.connect, connection_use)
            .map_err(ExchangeError::unsent)
            .and_then(|agent| {
                let call = Call {
                    agent: &agent,
                    endpoint: &endpoint,
                    tls,
                    request,
                    limits,
                };
                call.exchange(connection_use, &mut read)
            });
        let took = begun.elapsed().as_millis();
        match (&ended, status) {
            (Err(error), _) => log::debug!(
                "{} {endpoint}: {} after {took} ms",
                request.method,
                error.failure.kind
            ),
            (Ok(_), status) => log::debug!(
                "{} {endpoint}: {} in {took} ms",
                request.method,
                status.unwrap_or_default()
            ),
        }
        ended
    }

    fn line(
        &self,
        endpoint: &Endpoint,
        tls: &TlsFiles,
        deadline: Deadline,
        connection_use: ConnectionUse,
    ) -> Result<Agent, Failure> {
        let https = endpoint.is_https();
        let place = match endpoint.socket() {
            Some(path) => Destination::Socket(path.to_owned()),
            None if https && tls.server_name.is_some() => {
                Destination::Host(endpoint.host().to_owned(), endpoint.port())
            }
            None => Destination::Url,
        };
        let line = ConnectionKey {
            tls: https.then(|| tls.clone()),
            place,
        };
        if let Some(agent) = self
            .agents
            .lock()
            .get(&line)
            .filter(|_| connection_use != ConnectionUse::Kept)
        {
            return Ok(agent.clone());
        }
        // Certificates are read only where they are needed, and while nobody waits for the lock.
        let config = if https {
            Some(load(endpoint, tls, deadline)?)
        } else {
            None
        };
        let dial = HostConnector {
            place: line.place.clone(),
            names: self.names.clone(),
            // A certificate proves who answers, whichever way leads there.
            ways: match config {
                Some(_) => KnownInterfaces::default(),
                None => self.ways.clone(),
            },
            tls: config,
        };
        let agent = agent(dial);
        if connection_use == ConnectionUse::Kept {
            // Nobody else may use its connection.
            return Ok(agent);
        }
        Ok(self.agents.lock().entry(line).or_insert(agent).clone())
    }
}

/// Reads certificates on a thread that is left behind at the deadline, since they may lie on a mount that is dead.
fn load(
    endpoint: &Endpoint,
    tls: &TlsFiles,
    deadline: Deadline,
) -> Result<Arc<ClientConfig>, Failure> {
    let late = || {
        let cause = "its certificates and keys were not read in time";
        Failure::new(ErrorKind::TimedOut, endpoint.to_string(), cause)
    };
    let patience = deadline.left().ok_or_else(late)?;
    let files = tls.clone();
    threads::within(patience, move || files.load())
        .map_err(|error| Failure::new(ErrorKind::Io, endpoint.to_string(), error.to_string()))?
        .ok_or_else(late)?
}

fn agent(dial: HostConnector) -> Agent {
    let config = Config::builder()
        .proxy(None)
        .max_redirects(0)
        .http_status_as_error(false)
        .allow_non_standard_methods(true)
        .user_agent(USER_AGENT)
        .max_response_header_size(HEAD_LIMIT)
        .input_buffer_size(2 * HEAD_LIMIT)
        .output_buffer_size(HEAD_LIMIT)
        .max_idle_connections(64)
        .max_idle_age(IDLE);
    let gate = InterfaceCheck {
        names: dial.names.clone(),
        ways: dial.ways.clone(),
    };
    Agent::with_parts(config.build(), dial, gate)
}

/// What is made of the head of an answer, its body, and the time that was left when it was asked for.
type Read<'a, T> = dyn FnMut(Answer, Body, &TlsFiles, Duration) -> Result<T, ExchangeError> + 'a;
