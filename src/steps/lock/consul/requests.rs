//! Requests for sessions and keys.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::clients::agent::Agent;
use crate::clients::http::{Session, document, excerpt, peer_ids, unexpected};
use crate::model::deadline::{Deadline, Reason};
use crate::model::error::{ErrorKind, Failure};
use crate::step::AttemptContext;
use crate::sys::http::{Answer, Request, encoded};

/// Consul at one attempt.
pub(super) struct Requests<'a> {
    pub(super) session: Session<'a>,
    pub(super) context: &'a AttemptContext<'a>,
}

/// A key as it is.
pub(super) struct Key {
    pub(super) name: String,
    /// The beginning of its value, as it can be shown.
    pub(super) value: String,
    /// The session that has acquired it; empty if none has.
    pub(super) session: String,
    created: u64,
    modified: u64,
}

impl Key {
    fn parse(value: &Value) -> Option<Key> {
        let bytes = STANDARD
            .decode(value["Value"].as_str().unwrap_or_default())
            .ok()?;
        let session = value["Session"].as_str().unwrap_or_default();
        if !session.is_empty() {
            peer_ids::uuid(session).ok()?;
        }
        Some(Key {
            name: value["Key"].as_str()?.to_owned(),
            value: String::from_utf8_lossy(&bytes).into_owned(),
            session: session.to_owned(),
            created: value["CreateIndex"].as_u64()?,
            modified: value["ModifyIndex"].as_u64()?,
        })
    }
}

/// Reasons of error replies. Consul has no codes for them, only messages (as of 1.8.7).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// The session's parameters are invalid.
    SessionInvalid,
    /// There is no such session to be renewed.
    SessionUnknown,
    /// There is no such session to acquire a key with.
    SessionGone,
    /// The ACL does not allow it.
    PermissionDenied,
    /// Anything else.
    Other,
}

impl Refusal {
    fn of(answer: &Answer) -> Refusal {
        const MESSAGES: [(&str, Refusal); 5] = [
            ("Invalid Session", Refusal::SessionInvalid),
            ("invalid session", Refusal::SessionGone),
            ("Permission denied", Refusal::PermissionDenied),
            ("permission denied", Refusal::PermissionDenied),
            ("not found", Refusal::SessionUnknown),
        ];
        let mut messages = MESSAGES.into_iter();
        let refusal = messages.find(|(text, _)| answer.says(text));
        refusal.map_or(Refusal::Other, |(_, refusal)| refusal)
    }
}

/// A key as it stands in a path.
fn path(key: &str) -> String {
    let parts: Vec<_> = key.split('/').map(encoded).collect();
    format!("/v1/kv/{}", parts.join("/"))
}

fn seconds(time: Duration) -> String {
    format!("{}s", time.as_secs())
}

impl<'a> Requests<'a> {
    pub(super) fn open(agent: &'a Agent, context: &'a AttemptContext<'a>) -> Result<Self, Failure> {
        Ok(Requests {
            session: agent.open(context)?,
            context,
        })
    }

    fn send(&self, request: &Request, deadline: Deadline) -> Result<Answer, Failure> {
        self.session.ask(request, deadline)
    }

    fn put(&self, path: String, body: &[u8]) -> Result<Answer, Failure> {
        let request = Request {
            method: "PUT".to_owned(),
            path,
            body: Some(body.to_vec()),
            ..Request::default()
        };
        self.send(&request, self.context.request())
    }

    /// A failure of the peer as a whole.
    pub(super) fn failure(&self, kind: ErrorKind, cause: impl Into<String>) -> Failure {
        Failure::new(kind, self.session.address(), cause)
    }

    /// The failure of an answer that is not Consul's, or only temporarily.
    pub(super) fn unexpected_answer(&self, cause: impl Into<String>) -> Failure {
        self.failure(ErrorKind::Protocol, cause).retryable(true)
    }

    fn json(&self, answer: &Answer) -> Result<Value, Failure> {
        match document(answer) {
            Err(failure) if !answer.truncated => Err(self.unexpected_answer(format!(
                "the answer is not Consul's JSON: {}",
                failure.cause
            ))),
            read => read,
        }
    }

    fn is_true(&self, answer: &Answer) -> Result<bool, Failure> {
        if !answer.is_success() {
            return Err(unexpected(answer));
        }
        let is_true = self.json(answer)?.as_bool();
        is_true.ok_or_else(|| self.unexpected_answer("the answer is neither true nor false"))
    }

    /// A new session.
    pub(super) fn create(&self, lock: &str, ttl: Duration) -> Result<String, Failure> {
        let asked = json!({
            "Name": format!("farewell {lock}"),
            "TTL": seconds(ttl),
            "NodeChecks": [],
            "LockDelay": "0s",
            "Behavior": "delete",
        });
        let answer = self.put(
            "/v1/session/create".to_owned(),
            asked.to_string().as_bytes(),
        )?;
        if !answer.is_success() {
            let failure = unexpected(&answer);
            // 1.8 rejects an invalid TTL like this; it is permanent.
            let is_final = Refusal::of(&answer) == Refusal::SessionInvalid;
            let retryable = failure.retryable && !is_final;
            return Err(failure.retryable(retryable));
        }
        match self.json(&answer)?["ID"].as_str() {
            Some(id) if peer_ids::uuid(id).is_ok() => Ok(id.to_owned()),
            _ => Err(self.unexpected_answer("the answer names no session")),
        }
    }

    /// Whether the session still existed.
    pub(super) fn renew(&self, session: &str) -> Result<bool, Failure> {
        let answer = self.put(format!("/v1/session/renew/{session}"), b"")?;
        match answer.status {
            404 if Refusal::of(&answer) == Refusal::SessionUnknown => Ok(false),
            _ if !answer.is_success() => Err(unexpected(&answer)),
            _ => match self.json(&answer)?.as_array() {
                Some(sessions) => Ok(!sessions.is_empty()),
                None => Err(self.unexpected_answer("the answer lists no sessions")),
            },
        }
    }

    /// Ends a session, and every key that it has; one that is gone already is fine.
    pub(super) fn destroy(&self, session: &str) -> Result<(), Failure> {
        let answer = self.put(format!("/v1/session/destroy/{session}"), b"")?;
        self.is_true(&answer).map(drop)
    }

    /// Whether the session has the key now; an expired session cannot acquire it.
    pub(super) fn acquire(&self, key: &str, session: &str, value: &str) -> Result<bool, Failure> {
        let answer = self.put(format!("{}?acquire={session}", path(key)), value.as_bytes())?;
        if answer.status == 500 && Refusal::of(&answer) == Refusal::SessionGone {
            return Ok(false);
        }
        self.is_true(&answer)
    }

    /// Whether the session had the key until now.
    pub(super) fn release(&self, key: &str, session: &str) -> Result<bool, Failure> {
        let answer = self.put(format!("{}?release={session}", path(key)), b"")?;
        self.is_true(&answer)
    }

    /// Moves a key from one session to another; `false` if the first one does not have it.
    pub(super) fn hand_over(
        &self,
        key: &str,
        from: &str,
        to: &str,
        value: &str,
    ) -> Result<bool, Failure> {
        let value = STANDARD.encode(value);
        let operation = |verb: &str, session: &str| json!({"KV": {"Verb": verb, "Key": key, "Session": session, "Value": value}});
        let asked = json!([operation("unlock", from), operation("lock", to)]);
        let answer = self.put("/v1/txn".to_owned(), asked.to_string().as_bytes())?;
        match answer.status {
            409 if Refusal::of(&answer) == Refusal::PermissionDenied => {
                Err(self.failure(ErrorKind::Refused, self.said(&answer)))
            }
            409 => Ok(false),
            _ if answer.is_success() => Ok(true),
            _ => Err(unexpected(&answer)),
        }
    }

    /// The error of a transaction that was rejected.
    fn said(&self, answer: &Answer) -> String {
        let errors = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
        let errors = errors["Errors"].as_array().map_or(&[][..], Vec::as_slice);
        let said: Vec<_> = errors.iter().filter_map(|it| it["What"].as_str()).collect();
        excerpt(said.join("; ").as_bytes())
    }

    /// Checks whether a key may be written, with a transaction that never commits: Consul checks permissions first.
    pub(super) fn may_write(&self, key: &str) -> Result<(), Failure> {
        let never = json!({"KV": {"Verb": "check-index", "Key": key, "Index": u32::MAX}});
        let set = json!({"KV": {"Verb": "set", "Key": key, "Value": ""}});
        let asked = json!([never, set]).to_string();
        let answer = self.put("/v1/txn".to_owned(), asked.as_bytes())?;
        match answer.status {
            409 => match (Refusal::of(&answer), self.said(&answer)) {
                (Refusal::PermissionDenied, said) => Err(self.failure(ErrorKind::Refused, said)),
                (_, said) if said.is_empty() => Err(unexpected(&answer)),
                _ => Ok(()),
            },
            _ if answer.is_success() => {
                Err(self.unexpected_answer("what cannot be true was taken for true"))
            }
            _ => Err(unexpected(&answer)),
        }
    }

    fn keys(&self, path: String, deadline: Deadline) -> Result<Vec<Key>, Failure> {
        let answer = self.send(&Request::get(path), deadline)?;
        // Consul's own, and not that of a wrong address.
        if answer.status == 404 && answer.header("x-consul-index").is_some() {
            return Ok(Vec::new());
        }
        if !answer.is_success() {
            return Err(unexpected(&answer));
        }
        let document = self.json(&answer)?;
        let keys = document.as_array().map(|it| it.iter().map(Key::parse));
        let keys: Option<Vec<_>> = keys.and_then(Iterator::collect);
        keys.ok_or_else(|| self.unexpected_answer("the answer lists something other than a key"))
    }

    /// A key as it is now.
    pub(super) fn find(&self, key: &str) -> Result<Option<Key>, Failure> {
        let keys = self.keys(format!("{}?consistent", path(key)), self.context.request())?;
        Ok(keys.into_iter().next())
    }

    /// A key with the session that has it; `None` if none has.
    pub(super) fn holding(&self, key: &str) -> Result<Option<Key>, Failure> {
        Ok(self.find(key)?.filter(|it| !it.session.is_empty()))
    }

    /// The contenders, in order.
    pub(super) fn contenders(&self, lock: &str) -> Result<Vec<Key>, Failure> {
        let asked = format!("{}/?recurse&consistent", path(lock));
        let mut keys = self.keys(asked, self.context.request())?;
        // Others may have keys below, too.
        let is_contender = |it: &Key| {
            let session = it
                .name
                .strip_prefix(lock)
                .and_then(|it| it.strip_prefix('/'));
            session == Some(it.session.as_str())
        };
        keys.retain(is_contender);
        keys.sort_unstable_by_key(|it| it.created);
        Ok(keys)
    }

    /// Waits until the key is changed or deleted, for `time` at most; Consul takes a little longer at times. Returns
    /// whether it was.
    pub(super) fn watch(&self, key: &Key, time: Duration) -> Result<bool, Failure> {
        let (index, millis) = (key.modified, time.as_millis().max(1));
        let asked = format!("{}?index={index}&wait={millis}ms", path(&key.name));
        let patience = time.mul_f64(17.0 / 16.0) + Duration::from_secs(1);
        let deadline = Deadline::after(patience, Reason::Attempt);
        let found = self.keys(asked, self.context.deadline.earlier(deadline))?;
        Ok(found.first().is_none_or(|it| it.modified != key.modified))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_safe_in_a_path() {
        assert_eq!(path("a b/ä?x"), "/v1/kv/a%20b/%C3%A4%3Fx");
    }
}
