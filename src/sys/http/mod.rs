//! HTTP: connections kept for a whole run, and requests with deadlines.

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
pub use lines::{Flow, StreamEnd};
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

/// The most bytes that are read of a body. Lists of thousands of queues, instances or shards are shorter; memory is
/// allocated as needed.
pub const BODY_LIMIT: usize = 8 << 20;

/// The longest head of an answer, and the size of its buffer.
const HEAD_LIMIT: usize = 32 << 10;

/// How long an idle connection is kept. A server that closes it earlier costs one more connection.
const IDLE: Duration = Duration::from_secs(60);

/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

const USER_AGENT: &str = concat!("farewell/", env!("CARGO_PKG_VERSION"));

/// What connections must have in common to be reused.
#[derive(Clone, PartialEq, Eq, Hash)]
struct ConnectionKey {
    tls: Option<TlsFiles>,
    /// The client itself distinguishes connections only by the URL's host.
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

    /// No connections yet, and none over plain http to an address of `ways` whose interface is gone or down: an
    /// impostor may answer there.
    pub fn with_ways(ways: BTreeMap<IpAddr, String>) -> Self {
        Http {
            ways: KnownInterfaces::new(ways),
            ..Http::default()
        }
    }

    /// The same connections, for requests that must not be sent twice: each gets a connection of its own, since it is
    /// unknown whether a kept connection that is closed has delivered it.
    pub fn sending_once(&self) -> Http {
        Http {
            sends_once: true,
            ..self.clone()
        }
    }

    /// Whether no request may be sent twice.
    pub fn sends_once(&self) -> bool {
        self.sends_once
    }

    /// Sends a request and reads the whole answer, but at most [`BODY_LIMIT`] of its body.
    ///
    /// # Errors
    /// `unreachable`, `timed-out`, `tls` or `protocol` if there is no answer; an answer with any status is `Ok`.
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
    /// As [`Http::send`], and what became of the request.
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

    /// Sends a request that ends the server, and waits until the server closes the connection, before, during or after
    /// its answer. `Some` is an answer without a success status.
    ///
    /// # Errors
    /// As [`Http::try_send`]; also if the connection is still open at the deadline.
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
                    "answered {}, but did not close the connection in time",
                    answer.status
                );
                let failure = Failure::new(ErrorKind::TimedOut, answer.url, cause);
                Err(ExchangeError::sent(failure))
            }
        }
    }

    /// Sends a request with a streaming answer, and calls `hear` with each line of its body, until `hear` stops it, the
    /// body ends, or the deadline is reached. An answer without a success status is read completely.
    ///
    /// # Errors
    /// As [`Http::send`], but not at the deadline once the answer has begun.
    pub fn lines(
        &self,
        endpoint: &Endpoint,
        tls: &TlsFiles,
        request: &Request,
        deadline: Deadline,
        hear: &mut dyn FnMut(&[u8]) -> Flow,
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

    /// Sends a request with a body that is read while it is sent, of the length that `request` announces. It is sent
    /// once, since the body cannot be read again.
    ///
    /// # Errors
    /// As [`Http::send`]; an error of the body's reader is `io`.
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
        // Certificates are read only if needed, and without the lock.
        let config = if https {
            Some(load(endpoint, tls, deadline)?)
        } else {
            None
        };
        let dial = HostConnector {
            place: line.place.clone(),
            names: self.names.clone(),
            // A certificate proves who answers, whatever the route.
            ways: match config {
                Some(_) => KnownInterfaces::default(),
                None => self.ways.clone(),
            },
            tls: config,
        };
        let agent = agent(dial);
        if connection_use == ConnectionUse::Kept {
            // No other request may use its connection.
            return Ok(agent);
        }
        Ok(self.agents.lock().entry(line).or_insert(agent).clone())
    }
}

/// Reads certificates on a thread that is abandoned at the deadline, since they may be on a dead mount.
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

/// Handles the head of an answer and its body, with the time that was left when it was requested.
type Read<'a, T> = dyn FnMut(Answer, Body, &TlsFiles, Duration) -> Result<T, ExchangeError> + 'a;
