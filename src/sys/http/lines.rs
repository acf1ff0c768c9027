//! Streaming answers, read line by line.

use std::io::{BufRead as _, BufReader, Read as _};
use std::time::Duration;

use ureq::Body;

use super::{Answer, BODY_LIMIT, TlsFiles, errors, exchange};
use crate::model::error::{ErrorKind, Failure};

/// What to do after a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The next line.
    Continue,
    /// Stop: the connection is dropped.
    Stop,
}

/// How a streaming answer ended.
#[derive(Debug)]
pub enum StreamEnd {
    /// The caller stopped it.
    Stopped,
    /// The peer ended it.
    Ended,
    /// The deadline was reached.
    Elapsed,
    /// An answer without a success status, read completely.
    Refused(Answer),
}

/// Reads the lines of a body; a line must be shorter than [`BODY_LIMIT`].
pub(super) fn read(
    answer: Answer,
    body: Body,
    tls: &TlsFiles,
    left: Duration,
    hear: &mut dyn FnMut(&[u8]) -> Flow,
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
                Flow::Continue => {}
                Flow::Stop => return Ok(StreamEnd::Stopped),
            },
            Ok(_) if line.len() < BODY_LIMIT => return Ok(StreamEnd::Ended),
            Ok(_) => {
                let cause = "the answer has a line that is too long";
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
