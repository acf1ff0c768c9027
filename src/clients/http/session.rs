//! Sends requests to a peer's addresses in turn, within one deadline.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::credential_names::{Credential, credential};
use crate::model::deadline::Deadline;
use crate::model::error::{ErrorKind, Failure};
use crate::sys::http::{
    Answer, Endpoint, ExchangeError, Flow, Http, Limits, Request, StreamEnd, TlsFiles,
};

/// A peer with all facts resolved, for one attempt.
#[derive(Clone)]
pub struct Session<'a> {
    pub(super) http: &'a Http,
    pub(super) endpoints: Vec<Endpoint>,
    /// Which of them answered last, kept for later attempts.
    pub(super) preferred: Option<&'a AtomicUsize>,
    pub(super) headers: Vec<(String, String)>,
    /// The names of headers that contain credentials.
    pub(super) with_credentials: Arc<[String]>,
    pub(super) tls: Arc<TlsFiles>,
    /// The configured addresses. Every other one was announced by a peer.
    pub(super) configured: Arc<[Endpoint]>,
    /// As `tls`, without `server-name`: other addresses have names of their own.
    pub(super) tls_of_others: Arc<TlsFiles>,
}

impl<'a> Session<'a> {
    /// Sends this header with every request from now on. A credential must be masked before.
    pub fn set_header(&mut self, name: &str, value: String) {
        self.headers
            .retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value));
    }

    /// Whether a header of that name is sent.
    pub fn has_header(&self, name: &str) -> bool {
        let mut names = self.headers.iter().map(|(known, _)| known);
        names.any(|known| known.eq_ignore_ascii_case(name))
    }

    /// Stops sending headers of that name.
    pub fn remove_header(&mut self, name: &str) {
        self.headers
            .retain(|(known, _)| !known.eq_ignore_ascii_case(name));
    }

    /// The value of a header that the configuration sets; names are the same in upper and lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The addresses, in the order of the configuration.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The address that answered last, else the first one; `None` if there is none.
    pub fn endpoint(&self) -> Option<&Endpoint> {
        let at = self.preferred.map_or(0, |it| it.load(Ordering::Relaxed));
        self.endpoints.get(at)
    }

    /// The address that answered last, else the first one, for messages.
    pub fn address(&self) -> String {
        self.endpoint()
            .map_or_else(String::new, ToString::to_string)
    }

    /// The same with other addresses of the same cluster. Announced unix sockets are left out, and so are addresses
    /// without TLS if a configured one has it. Each needs a certificate for its own name, gets a token only over TLS,
    /// and gets no password.
    pub fn elsewhere(&self, mut endpoints: Vec<Endpoint>) -> Session<'a> {
        let needs_tls = self.configured.iter().any(Endpoint::is_https);
        endpoints.retain(|it| {
            let is_weaker = it.socket().is_some() || needs_tls && !it.is_https();
            !is_weaker || self.is_configured(it)
        });
        Session {
            endpoints,
            preferred: None,
            ..self.clone()
        }
    }

    fn is_configured(&self, endpoint: &Endpoint) -> bool {
        self.configured.contains(endpoint)
    }

    fn tls_at(&self, endpoint: &Endpoint) -> &TlsFiles {
        match self.is_configured(endpoint) {
            true => &self.tls,
            false => &self.tls_of_others,
        }
    }

    /// Sends a request to the address that answered last, then to the others in turn until one answers.
    ///
    /// # Errors
    /// The failures of all addresses; retryable if one of them is.
    pub fn send(&self, request: &Request, deadline: Deadline) -> Result<Answer, Failure> {
        self.send_until(request, deadline, &|_| true)
    }

    /// As [`Session::send`]; also asks the next address while one answers with a server error (5xx).
    pub fn ask(&self, request: &Request, deadline: Deadline) -> Result<Answer, Failure> {
        self.send_until(request, deadline, &|answer| answer.status < 500)
    }

    /// As [`Session::send`]; also tries the next address while an answer is not `good`. If none is, the last answer is
    /// returned.
    pub fn send_until(
        &self,
        request: &Request,
        deadline: Deadline,
        good: &dyn Fn(&Answer) -> bool,
    ) -> Result<Answer, Failure> {
        self.ask_in_turn(request, deadline.into(), Turn::Always, good)
    }

    /// As [`Session::send_until`], for a request that changes something and must not be repeated while the first one
    /// may still be in progress: each address has its share of the time for the connection, and the answer has the
    /// rest. Another address is tried only if nothing was sent or the peer closed the connection, and not even then if
    /// the run sends nothing twice.
    pub fn send_unrepeated(
        &self,
        request: &Request,
        limits: Limits,
        good: &dyn Fn(&Answer) -> bool,
    ) -> Result<Answer, Failure> {
        self.ask_in_turn(request, limits, self.turn(), good)
    }

    /// As [`Session::send_unrepeated`], waiting for the end of the connection: `Some` is an answer without a success
    /// status.
    ///
    /// # Errors
    /// As [`Session::send`]; also if the connection does not end in time.
    pub fn send_until_closed(
        &self,
        request: &Request,
        limits: Limits,
    ) -> Result<Option<Answer>, Failure> {
        let send = |endpoint: &Endpoint, request: &Request, limits| {
            let tls = self.tls_at(endpoint);
            self.http.send_until_closed(endpoint, tls, request, limits)
        };
        let good = |answer: &Option<Answer>| answer.is_none();
        self.in_turn(request, limits, self.turn(), &send, &good)
    }

    fn turn(&self) -> Turn {
        match self.http.sends_once() {
            true => Turn::Unsent,
            false => Turn::Ended,
        }
    }

    fn ask_in_turn(
        &self,
        request: &Request,
        limits: Limits,
        turn: Turn,
        good: &dyn Fn(&Answer) -> bool,
    ) -> Result<Answer, Failure> {
        let send = |endpoint: &Endpoint, request: &Request, limits| {
            let tls = self.tls_at(endpoint);
            self.http.try_send(endpoint, tls, request, limits)
        };
        self.in_turn(request, limits, turn, &send, good)
    }

    /// Tries the addresses in turn, beginning with the one that answered last. If no answer is good, the last one is
    /// returned.
    fn in_turn<T: Answered>(
        &self,
        request: &Request,
        limits: Limits,
        turn: Turn,
        send: &dyn Fn(&Endpoint, &Request, Limits) -> Result<T, ExchangeError>,
        good: &dyn Fn(&T) -> bool,
    ) -> Result<T, Failure> {
        let count = self.endpoints.len();
        let first = self.preferred.map_or(0, |it| it.load(Ordering::Relaxed));
        let (mut bad, mut failures) = (None, Vec::new());
        for asked in 0..count {
            let at = (first + asked) % count;
            let limits = share(limits, turn, count - asked);
            let endpoint = &self.endpoints[at];
            let request = self.completed(request, endpoint);
            match send(endpoint, &request, limits) {
                Ok(answer) if good(&answer) => {
                    if let Some(preferred) = self.preferred {
                        preferred.store(at, Ordering::Relaxed);
                    }
                    return Ok(answer);
                }
                Ok(answer) => bad = Some(answer),
                // An invalid request fails at once; other failures concern this address.
                Err(unanswered) if unanswered.failure.kind == ErrorKind::Config => {
                    return Err(unanswered.failure);
                }
                Err(unanswered) => {
                    let is_last = !turn.goes_on(&unanswered);
                    failures.push(unanswered.failure);
                    if is_last {
                        break;
                    }
                }
            }
            if bad.is_some() && turn == Turn::Unsent {
                break;
            }
        }
        match bad {
            Some(mut answer) => {
                answer.note_failures(failures);
                Ok(answer)
            }
            None => Err(together(failures)),
        }
    }

    /// Sends a request that is [`Session::completed`] to an address below a configured one, once and to no other. `body` is
    /// read while it is sent; without it the request's own is.
    pub fn send_as_it_is(
        &self,
        endpoint: &Endpoint,
        request: &Request,
        body: Option<&mut dyn Read>,
        limits: Limits,
    ) -> Result<Answer, Failure> {
        match body {
            Some(body) => self.http.upload(endpoint, &self.tls, request, body, limits),
            None => (self.http.try_send(endpoint, &self.tls, request, limits))
                .map_err(|unanswered| unanswered.failure),
        }
    }

    /// Streams an answer's lines from the address that answered last, as [`Http::lines`] does.
    pub fn lines(
        &self,
        request: &Request,
        deadline: Deadline,
        hear: &mut dyn FnMut(&[u8]) -> Flow,
    ) -> Result<StreamEnd, Failure> {
        let endpoint = self.endpoint().ok_or_else(|| together(Vec::new()))?;
        let request = self.completed(request, endpoint);
        let tls = self.tls_at(endpoint);
        self.http.lines(endpoint, tls, &request, deadline, hear)
    }

    /// The request with the configured headers that it does not set itself and that the address may get.
    pub fn completed(&self, request: &Request, endpoint: &Endpoint) -> Request {
        let mut request = request.clone();
        let own = self.headers.iter().filter(|(name, value)| {
            let mut theirs = request.headers.iter();
            self.may_have(endpoint, name, value)
                && !theirs.any(|(theirs, _)| theirs.eq_ignore_ascii_case(name))
        });
        let own: Vec<_> = own.cloned().collect();
        request.headers.extend(own);
        request
    }

    /// Whether an address may get this header: an announced one gets no password, and other credentials only over TLS
    /// with a certificate from the same authorities as `url`.
    fn may_have(&self, endpoint: &Endpoint, name: &str, value: &str) -> bool {
        let is_listed = || {
            let mut listed = self.with_credentials.iter();
            listed.any(|it| it.eq_ignore_ascii_case(name))
        };
        self.is_configured(endpoint)
            || match credential(name) {
                Some(Credential::Password) => false,
                Some(Credential::Token) => endpoint.is_https() && !is_basic(value),
                None => endpoint.is_https() || !is_listed(),
            }
    }
}

/// Whether it is a name and a password (RFC 7617).
fn is_basic(value: &str) -> bool {
    let scheme = value.trim_start().get(..6);
    scheme.is_some_and(|it| it.eq_ignore_ascii_case("basic "))
}

/// When to try the next address.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// After any failure.
    Always,
    /// If the previous one received nothing, closed the connection, or answered with an error.
    Ended,
    /// If the previous one received nothing.
    Unsent,
}

impl Turn {
    fn goes_on(self, unanswered: &ExchangeError) -> bool {
        match self {
            Turn::Always => true,
            Turn::Ended => !unanswered.is_sent || unanswered.is_closed,
            Turn::Unsent => !unanswered.is_sent,
        }
    }
}

/// The limits of one address, which leave the remaining ones their share.
fn share(limits: Limits, turn: Turn, addresses: usize) -> Limits {
    let share = |deadline: Deadline| match deadline.left() {
        Some(left) => {
            let left = left / u32::try_from(addresses).unwrap_or(u32::MAX);
            deadline.earlier(Deadline::after(left, deadline.reason()))
        }
        None => deadline,
    };
    match turn {
        Turn::Always => share(limits.answer).into(),
        // The answer has all of the time, since no other address is tried.
        Turn::Ended | Turn::Unsent => Limits {
            connect: share(limits.connect),
            ..limits
        },
    }
}

/// An address' answer, with the failures of those tried before it.
trait Answered {
    fn note_failures(&mut self, failures: Vec<Failure>);
}

impl Answered for Answer {
    fn note_failures(&mut self, failures: Vec<Failure>) {
        self.elsewhere = failures.iter().map(ToString::to_string).collect();
    }
}

impl Answered for Option<Answer> {
    fn note_failures(&mut self, failures: Vec<Failure>) {
        if let Some(answer) = self {
            answer.note_failures(failures);
        }
    }
}

/// The failures of all addresses as one, with each address in it.
fn together(failures: Vec<Failure>) -> Failure {
    let mut failures = failures.into_iter();
    let Some(mut all) = failures.next() else {
        return Failure::new(ErrorKind::Config, "", "no address is configured");
    };
    for failure in failures {
        all.cause = format!("{}; {failure}", all.cause);
        all.retryable |= failure.retryable;
        all.closings += failure.closings;
        // A peer that does not answer is more significant than one that is unreachable.
        if all.kind == ErrorKind::Unreachable {
            all.kind = failure.kind;
        }
    }
    all
}
