//! Turns unexpected statuses into failures, with the peer's message.

use serde_json::Value;

use crate::model::error::{ErrorKind, Failure};
use crate::model::secrets;
use crate::sys::http::{Answer, BODY_LIMIT};

/// How much of a peer's error message is shown.
const EXCERPT: usize = 200;

/// How much of it is processed for that, including white space: far less than the limit of a body, at whose end a
/// secret may be cut.
const LOOKED_AT: usize = 16 * EXCERPT;

/// The failure of an unexpected status: 401 and 403 are `refused`, all others `status`, of which 408, 429 and 5xx are
/// retryable.
pub fn unexpected(answer: &Answer) -> Failure {
    let status = answer.status;
    let said = match excerpt(&answer.body) {
        text if text.is_empty() => String::new(),
        text => format!(": {text}"),
    };
    let elsewhere: String = (answer.elsewhere.iter())
        .map(|failure| format!("; {failure}"))
        .collect();
    let failure =
        |kind, cause| Failure::new(kind, answer.url.clone(), format!("{cause}{elsewhere}"));
    match status {
        401 | 403 => failure(ErrorKind::Refused, format!("status {status}{said}")),
        300..=399 => {
            // Masked before it is split: a part of a secret would not be recognised.
            let location = answer.header("location").map(secrets::mask);
            let target = location
                .as_deref()
                .and_then(|location| location.split_once("://"))
                .and_then(|(_, rest)| rest.split(['/', '?', '#']).next())
                .and_then(|authority| authority.rsplit('@').next());
            let target = target.map_or(String::new(), |host| {
                format!(" to {}", excerpt(host.as_bytes()))
            });
            let cause = format!("status {status}, a redirect{target}; redirects are not followed");
            failure(ErrorKind::Status, cause)
        }
        _ => failure(ErrorKind::Status, format!("status {status}{said}"))
            .retryable(matches!(status, 408 | 429 | 500..)),
    }
}

/// Parses the JSON of an answer.
///
/// # Errors
/// `protocol`, retryable, if the body is not JSON: another server may have answered, or only a part arrived.
pub fn document(answer: &Answer) -> Result<Value, Failure> {
    if let Some(failure) = cut(answer) {
        return Err(failure);
    }
    let cause = match serde_json::from_slice(&answer.body) {
        Ok(document) => return Ok(document),
        Err(_) => "the answer is not JSON",
    };
    Err(Failure::new(ErrorKind::Protocol, answer.url.clone(), cause).retryable(true))
}

/// The failure of an answer that was truncated at [`crate::sys::http::BODY_LIMIT`]; `None` if it is complete.
pub fn cut(answer: &Answer) -> Option<Failure> {
    let cause = format!(
        "status {}, and an answer longer than {} MiB, of which the rest was not read",
        answer.status,
        BODY_LIMIT >> 20
    );
    let failure = Failure::new(ErrorKind::Protocol, answer.url.clone(), cause);
    answer.truncated.then(|| failure.retryable(true))
}

/// The beginning of what a peer said, on one line and without control characters.
pub fn excerpt(body: &[u8]) -> String {
    // Masked before it is cut: half a secret would not be recognised.
    let text = String::from_utf8_lossy(body);
    let masked = secrets::mask(&text);
    let words: String = masked
        .chars()
        .take(LOOKED_AT)
        .map(|it| if it.is_control() { ' ' } else { it })
        .scan(true, |blank, it| {
            let skip = *blank && it.is_whitespace();
            *blank = it.is_whitespace();
            Some((!skip).then_some(it))
        })
        .flatten()
        .take(EXCERPT + 1)
        .collect();
    match words.char_indices().nth(EXCERPT) {
        Some((end, _)) => format!("{}…", words[..end].trim_end()),
        None => words.trim_end().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, location: Option<&str>, body: &str) -> Answer {
        let location = location.map(|it| ("location".to_owned(), it.to_owned()));
        Answer {
            url: "http://h/".to_owned(),
            status,
            headers: location.into_iter().collect(),
            body: body.as_bytes().to_vec(),
            truncated: false,
            elsewhere: Vec::new(),
        }
    }

    #[test]
    fn a_cut_answer_is_known_as_cut() {
        let whole = answer(503, None, "{}");
        assert!(cut(&whole).is_none() && document(&whole).is_ok());
        let half = Answer {
            truncated: true,
            ..whole
        };
        let failure = document(&half).expect_err("cut");
        assert_eq!(
            (failure.kind, failure.retryable),
            (ErrorKind::Protocol, true)
        );
        assert!(
            failure
                .cause
                .starts_with("status 503, and an answer longer than 8 MiB"),
            "{failure}"
        );
    }

    #[test]
    fn statuses_are_judged() {
        for (status, kind, retryable) in [
            (401, ErrorKind::Refused, false),
            (403, ErrorKind::Refused, false),
            (404, ErrorKind::Status, false),
            (408, ErrorKind::Status, true),
            (429, ErrorKind::Status, true),
            (500, ErrorKind::Status, true),
            (503, ErrorKind::Status, true),
        ] {
            let failure = unexpected(&answer(status, None, ""));
            assert_eq!(
                (failure.kind, failure.retryable),
                (kind, retryable),
                "{status}"
            );
            assert_eq!(failure.to_string(), format!("http://h/: status {status}"));
        }
    }

    #[test]
    fn a_redirect_names_the_host_alone() {
        let failure = unexpected(&answer(302, Some("https://u:p@other:8/x?token=t"), "body"));
        assert_eq!(failure.kind, ErrorKind::Status);
        assert!(!failure.retryable);
        assert_eq!(
            failure.cause,
            "status 302, a redirect to other:8; redirects are not followed"
        );
        crate::model::secrets::hide("redirect/s3cret");
        let failure = unexpected(&answer(302, Some("https://redirect/s3cret"), ""));
        assert!(failure.cause.contains("to ********;"), "{failure}");
        assert!(
            !unexpected(&answer(307, Some("/login"), ""))
                .cause
                .contains("login")
        );
    }

    #[test]
    fn an_excerpt_is_one_short_line_without_secrets() {
        crate::model::secrets::hide("verdict-s3cret");
        let body = format!("a\r\n \x1b[1mb verdict-s3cret {}", "ä".repeat(300));
        let shown = excerpt(body.as_bytes());
        assert!(shown.starts_with("a [1mb ******** ää"), "{shown}");
        assert_eq!(shown.chars().count(), EXCERPT + 1);
        assert_eq!(excerpt(b" \n"), "");
    }
}
