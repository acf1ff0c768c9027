//! The door to HTTP: connections that are kept for a whole run, and requests that end at their deadline.

mod endpoint;
mod message;
mod outcome;
mod resolver;
mod stream;
mod tls;
mod ways;

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::io::Read as _;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::tls::TlsConfig;
use ureq::unversioned::transport::{
    ConnectionDetails, Connector, RustlsConnector, TcpConnector, Transport,
};
use ureq::{Agent, AsSendBody, Body};

pub use endpoint::{Endpoint, server_name};
pub use message::{Answer, Request, encoded, header_name, header_value, method};
pub use outcome::closings;
pub use stream::{Heard, Next};
pub use tls::TlsFiles;

use crate::deadline::Deadline;
use crate::failure::{Failure, Word};
use crate::sys::workers;
use resolver::{Names, Route};
use ways::{Recheck, Ways};

/// How much of a body is read. Lists of thousands of queues, instances or shards are shorter; it takes no memory before it
/// is needed.
pub const BODY_LIMIT: usize = 8 << 20;

/// The longest head of an answer, and the buffer it must fit into.
const HEAD_LIMIT: usize = 32 << 10;

/// How long a connection is kept without use. Servers that close earlier cost one more connection.
const IDLE: Duration = Duration::from_secs(60);

const USER_AGENT: &str = concat!("farewell/", env!("CARGO_PKG_VERSION"));

thread_local! {
    /// Whether the request that this thread makes opened a connection, as the client does not tell.
    static OPENED: Cell<bool> = const { Cell::new(false) };
}

/// Notes that a connection was opened.
#[derive(Debug)]
struct Opening;

impl<In: Transport> Connector<In> for Opening {
    type Out = In;

    fn connect(
        &self,
        _: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<In>, ureq::Error> {
        OPENED.set(true);
        Ok(chained)
    }
}

/// What connections must have in common to be kept together.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Line {
    tls: Option<TlsFiles>,
    /// The host behind a server's name: the client itself tells connections apart by the name alone.
    real: Option<(String, u16)>,
}

/// All connections of a run.
#[derive(Default)]
pub struct Http {
    names: Names,
    ways: Ways,
    agents: Mutex<HashMap<Line, Agent>>,
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
            ways: Ways::new(ways),
            ..Http::default()
        }
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
        self.perform(endpoint, tls, request, deadline, &mut whole)
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
    ) -> Result<Heard, Failure> {
        let mut read = |answer: Answer, body, left| stream::read(answer, body, left, hear);
        self.perform(endpoint, tls, request, deadline, &mut read)
    }

    fn perform<T>(
        &self,
        endpoint: &Endpoint,
        tls: &TlsFiles,
        request: &Request,
        deadline: Deadline,
        read: &mut Read<'_, T>,
    ) -> Result<T, Failure> {
        let begun = Instant::now();
        let endpoint = endpoint.join(&request.path);
        let mut status = None;
        let mut read = |answer: Answer, body, left| {
            status = Some(answer.status);
            read(answer, body, left)
        };
        let ended = self
            .line(&endpoint, tls, deadline)
            .and_then(|agent| exchange(&agent, &endpoint, tls, request, deadline, &mut read));
        let took = begun.elapsed().as_millis();
        match (&ended, status) {
            (Err(failure), _) => log::debug!(
                "{} {endpoint}: {} after {took} ms",
                request.method,
                failure.word
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
    ) -> Result<Agent, Failure> {
        let https = endpoint.is_https();
        let line = Line {
            tls: https.then(|| tls.clone()),
            real: (https && tls.server_name.is_some())
                .then(|| (endpoint.host().to_owned(), endpoint.port())),
        };
        if let Some(agent) = self.agents().get(&line) {
            return Ok(agent.clone());
        }
        // Certificates are read only where they are needed, and while nobody waits for the lock.
        let config = if https {
            Some(load(endpoint, tls, deadline)?)
        } else {
            None
        };
        let route = Route {
            names: self.names.clone(),
            real: line.real.clone(),
            // A certificate proves who answers, whichever way leads there.
            ways: if https {
                Ways::default()
            } else {
                self.ways.clone()
            },
        };
        let agent = agent(config, route);
        Ok(self.agents().entry(line).or_insert(agent).clone())
    }

    fn agents(&self) -> std::sync::MutexGuard<'_, HashMap<Line, Agent>> {
        self.agents
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Reads certificates on a thread that is left behind at the deadline, since they may lie on a mount that is dead.
fn load(endpoint: &Endpoint, tls: &TlsFiles, deadline: Deadline) -> Result<TlsConfig, Failure> {
    let late = || {
        let cause = "its certificates and keys were not read in time";
        Failure::new(Word::TimedOut, endpoint.to_string(), cause)
    };
    let patience = deadline.left().ok_or_else(late)?;
    let files = tls.clone();
    workers::within(patience, move || files.load())
        .map_err(|error| Failure::new(Word::Io, endpoint.to_string(), error.to_string()))?
        .ok_or_else(late)?
}

fn agent(tls: Option<TlsConfig>, route: Route) -> Agent {
    let mut config = Config::builder()
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
    if let Some(tls) = tls {
        config = config.tls_config(tls);
    }
    let connector =
        ().chain(TcpConnector::default())
            .chain(Opening)
            .chain(Recheck(route.ways.clone()))
            .chain(RustlsConnector::default());
    Agent::with_parts(config.build(), connector, route)
}

/// What is made of the head of an answer, its body, and the time that was left when it was asked for.
type Read<'a, T> = dyn FnMut(Answer, Body, Duration) -> Result<T, Failure> + 'a;

fn exchange<T>(
    agent: &Agent,
    endpoint: &Endpoint,
    tls: &TlsFiles,
    request: &Request,
    deadline: Deadline,
    read: &mut Read<'_, T>,
) -> Result<T, Failure> {
    let needs_body = ["POST", "PUT", "PATCH"].contains(&request.method.as_str());
    let mut once = |idle: Duration| {
        let Some(left) = deadline.left() else {
            let cause = format!("nothing of the {} is left", deadline.reason().noun());
            return Err(Trial::Over(Failure::new(
                Word::TimedOut,
                endpoint.to_string(),
                cause,
            )));
        };
        let limits = (left, idle);
        match &request.body {
            Some(body) => begin(agent, endpoint, tls, request, body.as_slice(), limits),
            // Without a body these methods would announce one of unknown length.
            None if needs_body => begin(agent, endpoint, tls, request, &[][..], limits),
            None => begin(agent, endpoint, tls, request, (), limits),
        }
        .and_then(|(answer, body)| read(answer, body, left).map_err(Trial::Over))
    };
    // A server may close a kept connection at the very moment that it is used again; a new one tells the truth.
    match once(IDLE) {
        Err(Trial::Stale) => once(Duration::ZERO),
        ended => ended,
    }
    .map_err(|trial| match trial {
        Trial::Over(failure) => failure,
        Trial::Stale => Failure::new(Word::Unreachable, endpoint.to_string(), outcome::CLOSED),
    })
}

enum Trial {
    /// The connection was an old one, and the server had closed it.
    Stale,
    Over(Failure),
}

/// Sends the request once, and returns the head of the answer with its body to be read.
fn begin(
    agent: &Agent,
    endpoint: &Endpoint,
    tls: &TlsFiles,
    request: &Request,
    body: impl AsSendBody,
    (left, idle): (Duration, Duration),
) -> Result<(Answer, Body), Trial> {
    let url = endpoint.to_string();
    let over = |failure| Err(Trial::Over(failure));
    let asked = match &tls.server_name {
        // The request is made for the name that the server must prove; the resolver knows where it really goes.
        Some(name) if endpoint.is_https() => {
            let name = endpoint::bracketed(name);
            format!("https://{name}:{}{}", endpoint.port(), endpoint.target())
        }
        _ => url.clone(),
    };
    let mut builder = ureq::http::Request::builder()
        .method(request.method.as_str())
        .uri(asked);
    let names_host = |(name, _): &(String, String)| name.eq_ignore_ascii_case("host");
    if !request.headers.iter().any(names_host) {
        builder = builder.header("Host", endpoint.authority());
    }
    for (name, value) in &request.headers {
        builder = builder.header(name, value);
    }
    let built = match builder.body(body) {
        Ok(built) => built,
        Err(error) => return over(outcome::before_head(error.into(), &url, left)),
    };
    let built = agent
        .configure_request(built)
        .timeout_global(Some(left))
        .max_idle_age(idle)
        .build();
    OPENED.set(false);
    let answer = match agent.run(built) {
        Ok(answer) => answer,
        Err(error) if outcome::is_closed(&error) && !OPENED.get() => return Err(Trial::Stale),
        Err(error) => return over(outcome::before_head(error, &url, left)),
    };
    let (head, body) = answer.into_parts();
    let text = |(name, value): (&ureq::http::HeaderName, &ureq::http::HeaderValue)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    };
    let answer = Answer {
        url,
        status: head.status.as_u16(),
        headers: head.headers.iter().filter_map(text).collect(),
        body: Vec::new(),
        truncated: false,
    };
    Ok((answer, body))
}

/// Reads the whole body.
fn whole(mut answer: Answer, body: Body, left: Duration) -> Result<Answer, Failure> {
    let read = body
        .into_with_config()
        .limit(u64::MAX)
        .reader()
        .take(BODY_LIMIT as u64 + 1)
        .read_to_end(&mut answer.body);
    if let Err(error) = read {
        return Err(outcome::in_body(error, &answer.url, left));
    }
    answer.truncated = answer.body.len() > BODY_LIMIT;
    answer.body.truncate(BODY_LIMIT);
    Ok(answer)
}
