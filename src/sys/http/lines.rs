//! Answers that go on and on, heard line by line.

use std::io::{BufRead as _, BufReader, Read as _};
use std::time::Duration;

use ureq::Body;

use super::{Answer, BODY_LIMIT, TlsFiles, errors, exchange};
use crate::model::error::{ErrorKind, Failure};

/// What whoever hears a line wants then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The next line.
    More,
    /// No more: the connection is dropped.
    Enough,
}

/// How the hearing of an answer ended.
#[derive(Debug)]
pub enum StreamEnd {
    /// Enough was heard.
    Enough,
    /// The peer ended it.
    Ended,
    /// The deadline was reached.
    Elapsed,
    /// The answer is no success; this is the whole of it.
    Refused(Answer),
}

/// Reads the lines of a body; one that is longer than what is read of a body at all is no line.
pub(super) fn read(
    answer: Answer,
    body: Body,
    tls: &TlsFiles,
    left: Duration,
    hear: &mut dyn FnMut(&[u8]) -> Next,
) -> Result<StreamEnd, Failure> {
    if !answer.is_success() {
        return exchange::whole(answer, body, tls, left)
            .map(StreamEnd::Refused)
            .map_err(|unanswered| unanswered.failure);
    }
    let mut reader = BufReader::new(body.into_with_config().limit(u64::MAX).reader());
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut reader)
            .take(BODY_LIMIT as u64)
            .read_until(b'\n', &mut line);
        match read {
            Ok(0) => return Ok(StreamEnd::Ended),
            Ok(_) if line.ends_with(b"\n") => match hear(&line) {
                Next::More => {}
                Next::Enough => return Ok(StreamEnd::Enough),
            },
            Ok(_) if line.len() < BODY_LIMIT => return Ok(StreamEnd::Ended),
            Ok(_) => {
                let cause = "the answer has a line without an end";
                return Err(Failure::new(ErrorKind::Protocol, answer.url, cause).retryable(true));
            }
            Err(error) => {
                let failure = errors::in_body(error, &answer.url, tls, left);
                return match failure.kind {
                    ErrorKind::TimedOut => Ok(StreamEnd::Elapsed),
                    _ => Err(failure),
                };
            }
        }
    }
}
