//! One request and its response.

use std::io::Read as _;
use std::time::Duration;

use ureq::{Agent, AsSendBody, Body, SendBody};

use super::{
    Answer, BODY_LIMIT, BYTE_ORDER_MARK, Endpoint, IDLE, Read, Request, TlsFiles, connection,
    endpoint, errors,
};
use crate::model::deadline::Deadline;
use crate::model::error::{ErrorKind, Failure};

/// The deadlines of the parts of an exchange.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The connection: name lookup, connect, TLS handshake.
    pub connect: Deadline,
    /// The whole exchange.
    pub answer: Deadline,
}

impl From<Deadline> for Limits {
    fn from(deadline: Deadline) -> Limits {
        Limits {
            connect: deadline,
            answer: deadline,
        }
    }
}

/// Why there is no complete answer, and what became of the request.
#[derive(Debug)]
pub struct ExchangeError {
    /// What went wrong.
    pub failure: Failure,
    /// Whether any part of the request was sent: the peer may have received it, and may act on it.
    pub is_sent: bool,
    /// Whether the peer closed the connection.
    pub is_closed: bool,
}

impl ExchangeError {
    /// Nothing was sent to the peer.
    pub(super) fn unsent(failure: Failure) -> ExchangeError {
        ExchangeError {
            failure,
            is_sent: false,
            is_closed: false,
        }
    }

    /// The peer may have received the request.
    pub(super) fn sent(failure: Failure) -> ExchangeError {
        ExchangeError {
            is_sent: true,
            ..ExchangeError::unsent(failure)
        }
    }
}

/// Which connection a request takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionUse {
    /// A kept one, else a new one.
    Any,
    /// A new one, and the request is sent once.
    New,
    /// A new one, whose socket is held.
    Kept,
}

impl ConnectionUse {
    pub(super) fn of(sends_once: bool) -> ConnectionUse {
        if sends_once {
            ConnectionUse::New
        } else {
            ConnectionUse::Any
        }
    }
}

/// A request on its way to a server.
pub(super) struct Call<'a> {
    pub(super) agent: &'a Agent,
    pub(super) endpoint: &'a Endpoint,
    pub(super) tls: &'a TlsFiles,
    pub(super) request: &'a Request,
    pub(super) limits: Limits,
}

enum AttemptError {
    /// The connection was an old one, and the server had closed it.
    Stale,
    Over(ExchangeError),
}

impl Call<'_> {
    /// Sends the request, and returns what `read` makes of the answer.
    pub(super) fn exchange<T>(
        &self,
        connection_use: ConnectionUse,
        read: &mut Read<'_, T>,
    ) -> Result<T, ExchangeError> {
        let idle = if connection_use == ConnectionUse::Any {
            IDLE
        } else {
            Duration::ZERO
        };
        let stale = match self.once(connection_use, idle, read) {
            Ok(ended) => return Ok(ended),
            Err(AttemptError::Over(unanswered)) => return Err(unanswered),
            Err(AttemptError::Stale) => self.closed(),
        };
        // A server may close a kept connection just when it is used again; a new one shows whether it still answers.
        if connection_use != ConnectionUse::Any {
            return Err(stale);
        }
        match self.once(connection_use, Duration::ZERO, read) {
            Ok(ended) => Ok(ended),
            Err(AttemptError::Stale) => Err(stale),
            Err(AttemptError::Over(mut unanswered)) => {
                let cause = format!(
                    "{}, after a kept connection was closed before the answer",
                    unanswered.failure.cause
                );
                unanswered.failure.cause = cause;
                unanswered.is_sent = true;
                Err(unanswered)
            }
        }
    }

    /// Sends the request on a new connection, with a body that can be read once, and reads the whole answer.
    pub(super) fn upload(&self, body: &mut dyn std::io::Read) -> Result<Answer, ExchangeError> {
        connection::begin(false);
        let left = self.left()?;
        match self.begin(SendBody::from_reader(body), left, Duration::ZERO) {
            Ok((answer, body)) => whole(answer, body, self.tls, left),
            Err(AttemptError::Stale) => Err(self.closed()),
            Err(AttemptError::Over(unanswered)) => Err(unanswered),
        }
    }

    /// The time left for the whole exchange.
    fn left(&self) -> Result<Duration, ExchangeError> {
        self.limits.answer.left().ok_or_else(|| {
            let subject = self.limits.answer.reason().describe();
            let cause = format!("nothing of the {subject} is left");
            let failure = Failure::new(ErrorKind::TimedOut, self.endpoint.to_string(), cause);
            ExchangeError::unsent(failure)
        })
    }

    fn closed(&self) -> ExchangeError {
        let failure = errors::closed(&self.endpoint.to_string(), None);
        ExchangeError {
            is_closed: true,
            ..ExchangeError::sent(failure)
        }
    }

    fn once<T>(
        &self,
        connection_use: ConnectionUse,
        idle: Duration,
        read: &mut Read<'_, T>,
    ) -> Result<T, AttemptError> {
        connection::begin(connection_use == ConnectionUse::Kept);
        let left = self.left().map_err(AttemptError::Over)?;
        let method = self.request.method.as_str();
        let begun = match &self.request.body {
            Some(body) => self.begin(body.as_slice(), left, idle),
            // Without a body these methods would announce a body of unknown length.
            None if ["POST", "PUT", "PATCH"].contains(&method) => self.begin(&[][..], left, idle),
            None => self.begin((), left, idle),
        };
        let (answer, body) = begun?;
        read(answer, body, self.tls, left).map_err(AttemptError::Over)
    }

    /// Sends the request once, and returns the head of the answer with its body to be read.
    fn begin(
        &self,
        body: impl AsSendBody,
        left: Duration,
        idle: Duration,
    ) -> Result<(Answer, Body), AttemptError> {
        let url = self.endpoint.to_string();
        let failed = |error, allowed| {
            let is_sent = connection::was_sent();
            let is_closed = errors::is_closed(&error);
            let failure = errors::before_head(error, &url, self.tls, (allowed, is_sent));
            AttemptError::Over(ExchangeError {
                failure,
                is_sent,
                is_closed,
            })
        };
        let built = (self.builder().body(body)).map_err(|error| failed(error.into(), left))?;
        let connect = self.limits.connect.left().unwrap_or_default().min(left);
        let built = self
            .agent
            .configure_request(built)
            .timeout_connect(Some(connect))
            .timeout_global(Some(left))
            .max_idle_age(idle)
            .build();
        let answer = match self.agent.run(built) {
            Ok(answer) => answer,
            Err(error) if errors::is_closed(&error) && !connection::was_opened() => {
                return Err(AttemptError::Stale);
            }
            Err(error) => {
                let allowed = if connection::was_sent() {
                    left
                } else {
                    connect
                };
                return Err(failed(error, allowed));
            }
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
            elsewhere: Vec::new(),
        };
        Ok((answer, body))
    }

    fn builder(&self) -> ureq::http::request::Builder {
        let asked = match &self.tls.server_name {
            // The request names the host for which the server must have a certificate; the connector knows where it
            // really goes.
            Some(name) if self.endpoint.is_https() => {
                let name = endpoint::bracketed(name);
                let (port, target) = (self.endpoint.port(), self.endpoint.target());
                format!("https://{name}:{port}{target}")
            }
            _ => self.endpoint.to_url(),
        };
        let mut builder = ureq::http::Request::builder()
            .method(self.request.method.as_str())
            .uri(asked);
        let names_host = |(name, _): &(String, String)| name.eq_ignore_ascii_case("host");
        if !self.request.headers.iter().any(names_host) {
            builder = builder.header("Host", self.endpoint.authority());
        }
        for (name, value) in &self.request.headers {
            builder = builder.header(name, value);
        }
        builder
    }
}

/// Reads the whole body.
pub(super) fn whole(
    mut answer: Answer,
    body: Body,
    tls: &TlsFiles,
    left: Duration,
) -> Result<Answer, ExchangeError> {
    let read = body
        .into_with_config()
        .limit(u64::MAX)
        .reader()
        .take(BODY_LIMIT as u64 + 1)
        .read_to_end(&mut answer.body);
    if let Err(error) = read {
        let is_closed = errors::is_close(&error) && answer.is_success();
        let failure = errors::in_body(error, &answer.url, tls, left);
        return Err(ExchangeError {
            is_closed,
            ..ExchangeError::sent(failure)
        });
    }
    answer.truncated = answer.body.len() > BODY_LIMIT;
    answer.body.truncate(BODY_LIMIT);
    if answer.body.starts_with(BYTE_ORDER_MARK) {
        answer.body.drain(..BYTE_ORDER_MARK.len());
    }
    Ok(answer)
}
