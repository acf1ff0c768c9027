//! One attempt's talk with etcd's JSON gateway: the token, the answers, the refusals.

use serde_json::{Value, json};

use crate::failure::{Failure, Word};
use crate::peer::{Account, Peer, Session, excerpt, unexpected};
use crate::secrets;
use crate::step::Scope;
use crate::sys::http::{Endpoint, Request};

/// An answer of etcd's own protocol: what was asked for, or its refusal.
pub enum Reply {
    /// What was asked for.
    Done(Value),
    /// The thing that was asked about is not there.
    NotFound,
}

/// etcd at one attempt.
pub struct Gateway<'a> {
    /// Its addresses, and the token.
    pub session: Session<'a>,
    /// The attempt's.
    pub scope: &'a Scope<'a>,
}

impl<'a> Gateway<'a> {
    /// Opens it at the configured addresses and at `others`, with a token where there is an account.
    ///
    /// # Errors
    /// What proving the account came to.
    pub fn open(
        peer: &'a Peer,
        scope: &'a Scope<'a>,
        others: &[Endpoint],
    ) -> Result<Self, Failure> {
        let (mut session, account) = peer.open_with_account(scope)?;
        if !others.is_empty() {
            session = session.elsewhere([session.endpoints(), others].concat());
        }
        let mut gateway = Gateway { session, scope };
        if let Some(account) = account {
            gateway.authenticate(&account)?;
        }
        Ok(gateway)
    }

    fn authenticate(&mut self, account: &Account) -> Result<(), Failure> {
        let body = json!({"name": account.user, "password": account.password});
        let reply = match self.ask("/v3/auth/authenticate", &body) {
            // With authentication turned off there is nothing to prove, and every request is let through.
            Err(failure) if failure.cause.contains("authentication is not enabled") => {
                let remark = "etcd has authentication turned off: user and password were not used";
                self.scope.voice.remark(remark);
                return Ok(());
            }
            reply => reply?,
        };
        let Reply::Done(answer) = reply else {
            return Err(self.strange("there is no authentication here"));
        };
        let Some(token) = answer["token"].as_str().filter(|token| !token.is_empty()) else {
            return Err(self.strange("the answer to the password holds no token"));
        };
        secrets::hide(token);
        self.session.set_header("Authorization", token.to_owned());
        Ok(())
    }

    /// Asks for `path`.
    ///
    /// # Errors
    /// Everything but an answer, and every refusal but "not found".
    pub fn ask(&self, path: &str, body: &Value) -> Result<Reply, Failure> {
        let request = Request::json("POST", path, body);
        let answer = self
            .session
            .send_until(&request, self.scope.request(), |answer| answer.status < 500)?;
        let document = serde_json::from_slice::<Value>(&answer.body).ok();
        if answer.is_success() {
            let Some(document) = document.filter(|it| it.is_object() && !answer.truncated) else {
                let cause = "the answer is not etcd's JSON";
                return Err(Failure::new(Word::Protocol, answer.url, cause).passing(true));
            };
            return Ok(Reply::Done(document));
        }
        // Without a code of its own the answer is not etcd's, but that of something before it, or of no gateway at all.
        let Some((code, said)) = document.as_ref().and_then(refusal) else {
            return Err(unexpected(&answer));
        };
        let said = excerpt(said.as_bytes());
        Err(match code {
            5 => return Ok(Reply::NotFound),
            // Cancelled, deadline exceeded, resource exhausted, aborted, internal, unavailable: its state of the moment.
            1 | 4 | 8 | 10 | 13 | 14 => Failure::new(Word::Status, answer.url, said).passing(true),
            // A token that was fetched just now, at a member that does not know it yet.
            16 => Failure::new(Word::Refused, answer.url, said).passing(true),
            _ if said.contains("user name is empty") => {
                let cause = format!("{said} (it wants `user` and `password`)");
                Failure::new(Word::Refused, answer.url, cause)
            }
            _ => Failure::new(Word::Refused, answer.url, said),
        })
    }

    /// As [`Gateway::ask`], where there is nothing that could be missing.
    ///
    /// # Errors
    /// As [`Gateway::ask`].
    pub fn must(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        match self.ask(path, body)? {
            Reply::Done(answer) => Ok(answer),
            Reply::NotFound => Err(self.strange(format!("{path} is answered with `not found`"))),
        }
    }

    /// As [`Gateway::must`], where a number that is 0 is left out of the answer: what is no answer of etcd would say that
    /// the keys are gone.
    ///
    /// # Errors
    /// As [`Gateway::ask`].
    pub fn must_with_header(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let answer = self.must(path, body)?;
        if answer["header"].is_object() {
            Ok(answer)
        } else {
            Err(self.strange("the answer has no header, as etcd's answers do"))
        }
    }

    /// A failure of the peer as a whole.
    pub fn failure(&self, word: Word, cause: impl Into<String>) -> Failure {
        let address = self.session.endpoints().first();
        Failure::new(
            word,
            address.map_or(String::new(), ToString::to_string),
            cause,
        )
    }

    /// An answer that etcd does not give, or not for long.
    pub fn strange(&self, cause: impl Into<String>) -> Failure {
        self.failure(Word::Protocol, cause).passing(true)
    }
}

/// The gRPC code and the message of a refusal; the fields' names differ from version to version.
fn refusal(document: &Value) -> Option<(i64, &str)> {
    let code = document.get("code")?.as_i64()?;
    let said = ["message", "error"]
        .iter()
        .find_map(|key| document.get(*key)?.as_str());
    Some((code, said.unwrap_or("no reason given")))
}
