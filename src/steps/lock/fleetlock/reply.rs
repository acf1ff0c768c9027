//! Interprets the servers' answers.

use serde_json::Value;

use crate::clients::http::{excerpt, unexpected};
use crate::model::error::{ErrorKind, Failure};
use crate::sys::http::Answer;

/// An answer of the protocol.
#[derive(Debug)]
pub(super) enum Reply {
    /// Success.
    Granted,
    /// Another member holds the slot, or all are held; with the peer's message.
    Locked(String),
    /// Two requests collided in airlock's store, and this one had no effect. Retryable as a failure.
    Conflict(Box<Failure>),
}

/// Judges an answer.
pub(super) fn judge(answer: &Answer) -> Result<Reply, Failure> {
    let (kind, really_said) = error(answer);
    let said = excerpt(really_said.as_bytes());
    let says = |words| really_said.contains(words);
    let failure =
        |said: String| Failure::new(ErrorKind::Status, answer.url.clone(), said).retryable(true);
    match (answer.status, kind.as_str()) {
        _ if answer.is_success() => Ok(Reply::Granted),
        // It was free, and the write failed, or its result is unknown.
        (423, _) if really_said.trim_end().ends_with("held by") => Err(failure(said)),
        (423, _) => Ok(Reply::Locked(said)),
        // airlock's kind for a full semaphore, for a concurrent change, and for an unknown result of its store.
        (500, "failed_lock") if says("currently locked") => Ok(Reply::Locked(said)),
        (500, "failed_lock") if says("conflict") => Ok(Reply::Conflict(Box::new(failure(said)))),
        (500, _) if says("uncordoning") => {
            let cause = format!(
                "{said}: no Kubernetes node has this id, so that the slot stays held until an administrator frees it"
            );
            Err(failure(cause))
        }
        (400..=499, _) if !kind.is_empty() && !matches!(answer.status, 408 | 429) => {
            let kind = excerpt(kind.as_bytes());
            let cause = format!("status {}: {kind}: {said}", answer.status);
            Err(Failure::new(ErrorKind::Refused, answer.url.clone(), cause))
        }
        (400 | 405, _) => Err(Failure {
            kind: ErrorKind::Refused,
            ..unexpected(answer)
        }),
        _ => Err(unexpected(answer)),
    }
}

/// Judges the answer to a request without the protocol's header.
pub(super) fn of_rehearsal(answer: &Answer) -> Result<(), Failure> {
    let (kind, _) = error(answer);
    match answer.status {
        400 if !kind.is_empty() => Ok(()),
        _ if answer.is_success() => {
            let cause = "this is not a FleetLock server: it does not ask for the protocol's header";
            Err(Failure::new(ErrorKind::Protocol, answer.url.clone(), cause))
        }
        _ => Err(unexpected(answer)),
    }
}

/// The kind and message of an error, whatever its Content-Type; both may be missing.
fn error(answer: &Answer) -> (String, String) {
    let document = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
    let text = |key: &str| document[key].as_str().unwrap_or_default().to_owned();
    match (text("kind"), text("value")) {
        (kind, said) if !said.is_empty() => (kind, said),
        (kind, _) => (kind, String::from_utf8_lossy(&answer.body).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, body: &str) -> Result<Reply, Failure> {
        judge(&Answer {
            url: "http://h/v1/pre-reboot".to_owned(),
            status,
            headers: Vec::new(),
            body: body.as_bytes().to_vec(),
            truncated: false,
            elsewhere: Vec::new(),
        })
    }

    #[test]
    fn the_replies_of_both_servers_are_judged() {
        for (status, body) in [(200, ""), (200, "retained reboot lease"), (204, "")] {
            assert!(matches!(judged(status, body), Ok(Reply::Granted)));
        }
        let held = r#"{"kind":"lock_held","value":"reboot lease lock unavailable, held by a"}"#;
        let full =
            "{\"kind\":\"failed_lock\",\"value\":\"all 1 semaphore slots currently locked\"}\n";
        for (status, body, said) in [
            (423, held, "held by a"),
            (500, full, "all 1 semaphore"),
            (423, "x", "x"),
        ] {
            match judged(status, body) {
                Ok(Reply::Locked(words)) => assert!(words.contains(said), "{words}"),
                other => panic!("{other:?}"),
            }
        }
        let conflict =
            r#"{"kind":"failed_lock","value":"conflict on semaphore detected, aborting"}"#;
        assert!(matches!(judged(500, conflict), Ok(Reply::Conflict(_))));
        for (status, body, kind, retryable) in [
            (
                500,
                r#"{"kind":"failed_sem_init","value":"x"}"#,
                ErrorKind::Status,
                true,
            ),
            (500, "[]", ErrorKind::Status, true),
            (
                500,
                r#"{"kind":"failed_lock","value":"context deadline exceeded"}"#,
                ErrorKind::Status,
                true,
            ),
            (
                423,
                r#"{"kind":"lock_held","value":"reboot lease lock unavailable, held by "}"#,
                ErrorKind::Status,
                true,
            ),
            (503, "", ErrorKind::Status, true),
            (
                429,
                r#"{"kind":"slow","value":"x"}"#,
                ErrorKind::Status,
                true,
            ),
            (
                400,
                r#"{"kind":"unknown_group","value":"x"}"#,
                ErrorKind::Refused,
                false,
            ),
            (405, "", ErrorKind::Refused, false),
            (401, "", ErrorKind::Refused, false),
            (404, "", ErrorKind::Status, false),
            (302, "", ErrorKind::Status, false),
        ] {
            let failure = judged(status, body).expect_err("no slot");
            assert_eq!(
                (failure.kind, failure.retryable),
                (kind, retryable),
                "{status} {body}"
            );
        }
    }
}
