//! etcd's JSON gateway at one attempt: the token, the answers, the refusals.

use std::time::Duration;

use serde_json::{Value, json};

use crate::clients::http::{Account, Peer, Session, cut, excerpt, unexpected};
use crate::model::error::{ErrorKind, Failure};
use crate::model::secrets;
use crate::step::AttemptContext;
use crate::sys::http::{Answer, Endpoint, Request};

/// A harmless request that every member answers.
const STATUS: &str = "/v3/maintenance/status";

/// How often that must be seen before it counts as permanent, and the pause between.
const LOOKS: usize = 3;
const PAUSE: Duration = Duration::from_millis(200);

/// An answer of etcd's own protocol.
pub enum Reply {
    /// What was asked for.
    Done(Value),
    /// The requested object does not exist.
    NotFound,
}

/// etcd at one attempt.
pub struct Client<'a> {
    /// Its addresses, and the token.
    pub session: Session<'a>,
    /// The attempt's.
    pub context: &'a AttemptContext<'a>,
}

/// An error reply, or no answer at all.
pub struct Refusal {
    /// What is shown of it.
    pub failure: Failure,
    /// The reason of an error reply, if it matters.
    pub reason: Reason,
}

/// Reasons of error replies. etcd's codes do not distinguish these, but its messages do
/// (`api/v3rpc/rpctypes/error.go`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Authentication is turned off.
    AuthenticationOff,
    /// The request needs an account.
    NoUser,
    /// The member is no longer the leader.
    NotLeader,
    /// The member to lead is no longer a voting member.
    BadTransferee,
    /// The gateway cannot reach its server, in the words of several versions.
    ServerLost,
    /// Anything else.
    Other,
}

impl Reason {
    fn of(message: &str) -> Reason {
        const MESSAGES: [(&str, Reason); 7] = [
            ("authentication is not enabled", Reason::AuthenticationOff),
            ("user name is empty", Reason::NoUser),
            ("not leader", Reason::NotLeader),
            ("bad leader transferee", Reason::BadTransferee),
            ("connection closed", Reason::ServerLost),
            ("handshake failed", Reason::ServerLost),
            ("bad certificate", Reason::ServerLost),
        ];
        let mut messages = MESSAGES.into_iter();
        let reason = messages.find(|(text, _)| message.contains(text));
        reason.map_or(Reason::Other, |(_, reason)| reason)
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Refusal {
        let reason = Reason::Other;
        Refusal { failure, reason }
    }
}

impl<'a> Client<'a> {
    /// Opens it at the configured addresses and at `others`, with a token if there is an account. The password is sent
    /// only to configured addresses; if none of them answers any more, the token of an earlier attempt is used.
    pub fn open(
        peer: &'a Peer,
        context: &'a AttemptContext<'a>,
        others: &[Endpoint],
    ) -> Result<Self, Failure> {
        let (mut session, account) = peer.open_with_account(context)?;
        if let Some(account) = account {
            let known = peer.remembered().filter(|_| !others.is_empty());
            match (
                authenticate(&session, context, &account, known.is_some()),
                known,
            ) {
                (Ok(Some(token)), _) => {
                    peer.remember(&token);
                    session.set_header("Authorization", token);
                }
                (Ok(None), _) => {}
                (Err(failure), Some(token))
                    if matches!(failure.kind, ErrorKind::Unreachable | ErrorKind::TimedOut) =>
                {
                    session.set_header("Authorization", token);
                }
                (Err(failure), _) => return Err(failure),
            }
        }
        if !others.is_empty() {
            session = session.elsewhere([session.endpoints(), others].concat());
        }
        Ok(Client { session, context })
    }

    /// Asks for `path`.
    ///
    /// # Errors
    /// If there is no answer, and for every error reply but "not found".
    pub fn ask(&self, path: &str, body: &Value) -> Result<Reply, Failure> {
        self.try_ask(path, body).map_err(|refusal| refusal.failure)
    }

    /// As [`Client::ask`], with the message of an error reply.
    pub fn try_ask(&self, path: &str, body: &Value) -> Result<Reply, Refusal> {
        let request = Request::json("POST", path, body);
        let sent = self.session.ask(&request, self.context.request());
        let answer = sent.map_err(|failure| self.closed(failure))?;
        if let Some(failure) = cut(&answer) {
            return Err(failure.into());
        }
        let document = serde_json::from_slice::<Value>(&answer.body).ok();
        if answer.is_success() {
            let Some(document) = document.filter(Value::is_object) else {
                let cause = "the answer is not etcd's JSON";
                return Err(Failure::new(ErrorKind::Protocol, answer.url, cause)
                    .retryable(true)
                    .into());
            };
            return Ok(Reply::Done(document));
        }
        // Without a gRPC code the answer is not etcd's, but a proxy's, or that of another server.
        let Some((code, said)) = document.as_ref().and_then(refusal) else {
            return Err(match answer.status {
                404 => no_gateway(&answer).into(),
                _ => unexpected(&answer).into(),
            });
        };
        let reason = Reason::of(said);
        if code == 14
            && reason == Reason::ServerLost
            && let Some(failure) = self.lost(&answer, said)
        {
            return Err(failure.into());
        }
        let said = excerpt(said.as_bytes());
        let failure = match code {
            5 => return Ok(Reply::NotFound),
            // Cancelled, deadline exceeded, resource exhausted, aborted, internal, unavailable: temporary.
            1 | 4 | 8 | 10 | 13 | 14 => {
                Failure::new(ErrorKind::Status, answer.url, said).retryable(true)
            }
            // A fresh token, at a member that does not know it yet.
            16 => Failure::new(ErrorKind::Refused, answer.url, said).retryable(true),
            _ if reason == Reason::NoUser => {
                let cause = format!("{said} (it wants `user` and `password`)");
                Failure::new(ErrorKind::Refused, answer.url, cause)
            }
            _ => Failure::new(ErrorKind::Refused, answer.url, said),
        };
        Err(Refusal { failure, reason })
    }

    /// As [`Client::ask`], for requests for which "not found" is a failure.
    pub fn must(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        match self.ask(path, body)? {
            Reply::Done(answer) => Ok(answer),
            Reply::NotFound => {
                Err(self.unexpected_answer(format!("{path} is answered with `not found`")))
            }
        }
    }

    /// As [`Client::must`], but requires etcd's header: counts of 0 are omitted, so that any other JSON would mean that
    /// the keys are gone.
    pub fn must_with_header(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let answer = self.must(path, body)?;
        if answer["header"].is_object() {
            Ok(answer)
        } else {
            Err(self.unexpected_answer("the answer has no header, as etcd's answers do"))
        }
    }

    /// Interprets a connection that was closed without an answer: whether the gateway closes each request with the
    /// token that it issued, and answers those without one.
    fn closed(&self, failure: Failure) -> Failure {
        if failure.closings == 0 || !self.session.has_header("Authorization") {
            return failure;
        }
        let harmless = Request::json("POST", STATUS, &json!({}));
        for _ in 0..LOOKS {
            match self.session.send(&harmless, self.context.request()) {
                Err(again) if again.closings > 0 => {}
                _ => return failure,
            }
            if !self.context.pause(PAUSE) {
                return failure;
            }
        }
        let mut bare = self.session.elsewhere(self.session.endpoints().to_vec());
        bare.remove_header("Authorization");
        match bare.send(&harmless, self.context.request()) {
            Ok(_) => {
                let cause = "the gateway closes the connection on each request with the token that it gave, and answers \
                             those without one";
                Failure::new(ErrorKind::Refused, failure.subject, cause)
            }
            Err(_) => failure,
        }
    }

    /// The failure if the gateway cannot reach its server although that answers: it is permanent.
    fn lost(&self, answer: &Answer, said: &str) -> Option<Failure> {
        let endpoint =
            (self.session.endpoints().iter()).find(|it| answer.url.starts_with(&it.to_string()))?;
        if !endpoint.is_https() {
            return None;
        }
        let server = self.session.elsewhere(vec![endpoint.clone()]);
        for _ in 0..LOOKS {
            let version = server.send(&Request::get("/version"), self.context.request());
            let again = server.send(
                &Request::json("POST", STATUS, &json!({})),
                self.context.request(),
            );
            let (version, again) = (version.ok()?, again.ok()?);
            let is_lost = Reason::of(&String::from_utf8_lossy(&again.body)) == Reason::ServerLost;
            if !version.is_success() || again.is_success() || !is_lost {
                return None;
            }
            if !self.context.pause(PAUSE) {
                return None;
            }
        }
        let cause = format!(
            "the gateway does not reach its own server ({}), which answers: with --client-cert-auth the server's \
             certificate must be for clients, too (extended key usage clientAuth)",
            excerpt(said.as_bytes())
        );
        Some(Failure::new(ErrorKind::Tls, &answer.url, cause))
    }

    /// A failure of the peer as a whole.
    pub fn failure(&self, kind: ErrorKind, cause: impl Into<String>) -> Failure {
        Failure::new(kind, self.session.address(), cause)
    }

    /// The failure of an answer that is not etcd's, or only temporarily.
    pub fn unexpected_answer(&self, cause: impl Into<String>) -> Failure {
        self.failure(ErrorKind::Protocol, cause).retryable(true)
    }
}

/// Exchanges the account for a token; `None`, with a remark, if authentication is turned off. `in_short`: within half
/// of the time, since other requests may follow.
fn authenticate(
    session: &Session<'_>,
    context: &AttemptContext<'_>,
    account: &Account,
    in_short: bool,
) -> Result<Option<String>, Failure> {
    let left = context.deadline.left().unwrap_or_default();
    let attempt_timeout = match in_short {
        true => context.attempt_timeout.min(left / 2),
        false => context.attempt_timeout,
    };
    let context = AttemptContext {
        attempt_timeout,
        ..*context
    };
    let client = Client {
        session: session.clone(),
        context: &context,
    };
    let body = json!({"name": account.user, "password": account.password});
    let reply = match client.try_ask("/v3/auth/authenticate", &body) {
        // With authentication turned off every request is allowed.
        Err(refusal) if refusal.reason == Reason::AuthenticationOff => {
            let remark = "etcd has authentication turned off: user and password were not used";
            context.events.remark(remark);
            return Ok(None);
        }
        reply => reply.map_err(|refusal| refusal.failure)?,
    };
    let Reply::Done(answer) = reply else {
        return Err(client.unexpected_answer("the server has no authentication endpoint"));
    };
    let Some(token) = answer["token"].as_str().filter(|token| !token.is_empty()) else {
        return Err(client.unexpected_answer("the answer to the login has no token"));
    };
    secrets::hide(token);
    Ok(Some(token.to_owned()))
}

/// The failure of an address whose 404 is not etcd's.
fn no_gateway(answer: &Answer) -> Failure {
    let cause = "status 404: no JSON gateway of etcd 3.4 or later answers here; is it turned off (--enable-grpc-gateway=false)?";
    Failure::new(ErrorKind::Status, &answer.url, cause)
}

/// The gRPC code and message of an error reply; the fields' names differ between versions.
fn refusal(document: &Value) -> Option<(i64, &str)> {
    let code = document.get("code")?.as_i64()?;
    let said = ["message", "error"]
        .iter()
        .find_map(|key| document.get(*key)?.as_str());
    Some((code, said.unwrap_or("no reason given")))
}
