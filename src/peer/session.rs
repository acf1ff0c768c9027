//! Asking a peer at its addresses in turn, within one deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::deadline::Deadline;
use crate::failure::{Failure, Word};
use crate::sys::http::{Answer, Endpoint, Heard, Http, Next, Request, TlsFiles};

/// A peer with all facts put in: good for one attempt.
#[derive(Clone)]
pub struct Session<'a> {
    pub(super) http: &'a Http,
    pub(super) endpoints: Vec<Endpoint>,
    /// Which of them answered last, to be kept beyond this attempt.
    pub(super) preferred: Option<&'a AtomicUsize>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) tls: Arc<TlsFiles>,
    /// The configured addresses. Every other one was announced by a peer.
    pub(super) configured: Arc<[Endpoint]>,
    /// As `tls`, without the name that the configured addresses prove: others have names of their own.
    pub(super) tls_of_others: Arc<TlsFiles>,
}

impl<'a> Session<'a> {
    /// Sends this header with every request from now on. A credential must be hidden before.
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

    /// Sends no header of that name any more.
    pub fn remove_header(&mut self, name: &str) {
        self.headers
            .retain(|(known, _)| !known.eq_ignore_ascii_case(name));
    }

    /// The addresses, in the order of the configuration.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The address that answered last, else the first one; `None` where there is none.
    pub fn endpoint(&self) -> Option<&Endpoint> {
        let at = self.preferred.map_or(0, |it| it.load(Ordering::Relaxed));
        self.endpoints.get(at)
    }

    /// The same credentials at other addresses of the same cluster. Of those that a peer has announced, one without TLS is left
    /// out where the configuration has only some with it; each proves its own name, and gets no password.
    pub fn elsewhere(&self, mut endpoints: Vec<Endpoint>) -> Session<'a> {
        let needs_tls = self.configured.iter().all(Endpoint::is_https);
        endpoints.retain(|it| it.is_https() || !needs_tls || self.is_configured(it));
        Session {
            http: self.http,
            endpoints,
            preferred: None,
            headers: self.headers.clone(),
            tls: self.tls.clone(),
            configured: self.configured.clone(),
            tls_of_others: self.tls_of_others.clone(),
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

    /// Sends a request to the address that answered last, and to the others in turn while there is no answer.
    ///
    /// # Errors
    /// What all addresses together came to, which passes where that of one of them does.
    pub fn send(&self, request: &Request, deadline: Deadline) -> Result<Answer, Failure> {
        self.send_until(request, deadline, |_| true)
    }

    /// As [`Session::send`]; also asks the next address while an answer is not `good`. Where none is, the last answer
    /// is returned.
    ///
    /// # Errors
    /// As [`Session::send`].
    pub fn send_until(
        &self,
        request: &Request,
        deadline: Deadline,
        good: impl Fn(&Answer) -> bool,
    ) -> Result<Answer, Failure> {
        let count = self.endpoints.len();
        let first = self.preferred.map_or(0, |it| it.load(Ordering::Relaxed));
        let (mut bad, mut failures) = (None, Vec::new());
        for turn in 0..count {
            let at = (first + turn) % count;
            // One that hangs leaves the others their share.
            let share = match deadline.left() {
                Some(left) => {
                    let left = left / u32::try_from(count - turn).unwrap_or(u32::MAX);
                    deadline.earlier(Deadline::after(left, deadline.reason()))
                }
                None => deadline,
            };
            let endpoint = &self.endpoints[at];
            let request = self.completed(request, endpoint);
            let tls = self.tls_at(endpoint);
            let sent = self.http.send(endpoint, tls, &request, share);
            match sent {
                Ok(answer) if good(&answer) => {
                    if let Some(preferred) = self.preferred {
                        preferred.store(at, Ordering::Relaxed);
                    }
                    return Ok(answer);
                }
                Ok(answer) => bad = Some(answer),
                // What cannot be asked for is asked of nobody; all else is said of this one address.
                Err(failure) if failure.word == Word::Config => return Err(failure),
                Err(failure) => failures.push(failure),
            }
        }
        bad.ok_or_else(|| together(failures))
    }

    /// Hears the lines of an answer that goes on and on, at the address that answered last and at no other, as
    /// [`Http::lines`] does.
    ///
    /// # Errors
    /// As [`Http::lines`].
    pub fn lines(
        &self,
        request: &Request,
        deadline: Deadline,
        hear: &mut dyn FnMut(&[u8]) -> Next,
    ) -> Result<Heard, Failure> {
        let endpoint = self.endpoint().ok_or_else(|| together(Vec::new()))?;
        let request = self.completed(request, endpoint);
        let tls = self.tls_at(endpoint);
        self.http.lines(endpoint, tls, &request, deadline, hear)
    }

    /// The request with the configured headers, as far as it does not set them itself. A password goes to configured
    /// addresses alone.
    fn completed(&self, request: &Request, endpoint: &Endpoint) -> Request {
        let mut request = request.clone();
        let is_configured = self.is_configured(endpoint);
        let own = self.headers.iter().filter(|(name, value)| {
            let is_password = name.eq_ignore_ascii_case("authorization")
                && value
                    .get(..6)
                    .is_some_and(|it| it.eq_ignore_ascii_case("basic "));
            let mut theirs = request.headers.iter();
            (is_configured || !is_password)
                && !theirs.any(|(theirs, _)| theirs.eq_ignore_ascii_case(name))
        });
        let own: Vec<_> = own.cloned().collect();
        request.headers.extend(own);
        request
    }
}

/// The failures of all addresses as one, with each address in it.
fn together(failures: Vec<Failure>) -> Failure {
    let mut failures = failures.into_iter();
    let Some(mut all) = failures.next() else {
        return Failure::new(Word::Config, "", "there is no address to ask");
    };
    for failure in failures {
        all.cause = format!("{}; {failure}", all.cause);
        all.passing |= failure.passing;
        // A peer that is there and does not answer says more than one that is not there.
        if all.word == Word::Unreachable {
            all.word = failure.word;
        }
    }
    all
}
