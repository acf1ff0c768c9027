//! Turns the client's errors into failures.

use std::io;
use std::time::Duration;

use super::connector::Unconnected;
use super::{TlsFiles, tls_error};
use crate::model::error::{ErrorKind, Failure};

/// Whether the peer closed the connection before its answer, as it may do with an idle one.
pub(super) fn is_closed(error: &ureq::Error) -> bool {
    matches!(error, ureq::Error::Io(error) if is_close(error))
}

pub(super) fn is_close(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected
    )
}

/// The failure of a connection that was closed or reset before the answer.
pub(super) fn closed(url: &str, cause: Option<String>) -> Failure {
    let cause = cause.unwrap_or_else(|| "the connection was closed before the answer".to_owned());
    Failure {
        closings: 1,
        ..Failure::new(ErrorKind::Unreachable, url, cause)
    }
}

/// The failure of a request before the head of the answer was complete; `is_sent` if any part of the request was sent.
pub(super) fn before_head(
    error: ureq::Error,
    url: &str,
    tls: &TlsFiles,
    (allowed, is_sent): (Duration, bool),
) -> Failure {
    use ureq::Error;
    let unreachable = |cause: String| Failure::new(ErrorKind::Unreachable, url, cause);
    match error {
        Error::Timeout(ureq::Timeout::Resolve) => {
            let cause = format!("its name was not resolved within {}", seconds(allowed));
            Failure::new(ErrorKind::TimedOut, url, cause)
        }
        Error::Timeout(_) => {
            let what = if is_sent { "answer" } else { "connection" };
            let cause = format!("no {what} within {}", seconds(allowed));
            Failure::new(ErrorKind::TimedOut, url, cause)
        }
        Error::Io(error) => match tls_error::within(&error, tls) {
            Some(cause) => Failure::new(ErrorKind::Tls, url, cause),
            None => match error.kind() {
                io::ErrorKind::UnexpectedEof => closed(url, None),
                io::ErrorKind::ConnectionReset => closed(url, Some(error.to_string())),
                _ => unreachable(error.to_string()),
            },
        },
        Error::Tls(cause) => Failure::new(ErrorKind::Tls, url, cause),
        Error::Other(error) => match error.downcast_ref::<Unconnected>() {
            Some(Unconnected { cause, is_late }) => {
                let kind = if *is_late {
                    ErrorKind::TimedOut
                } else {
                    ErrorKind::Unreachable
                };
                Failure::new(kind, url, cause)
            }
            None => unreachable(error.to_string()),
        },
        Error::HostNotFound | Error::ConnectionFailed => unreachable(error.to_string()),
        Error::BadUri(_) | Error::Http(_) => {
            Failure::new(ErrorKind::Config, url, "is not a valid URL for a request")
        }
        error => {
            let cause = format!("the answer is not HTTP ({error})");
            Failure::new(ErrorKind::Protocol, url, cause)
        }
    }
}

/// The failure between the head and the end of the body.
pub(super) fn in_body(error: io::Error, url: &str, tls: &TlsFiles, allowed: Duration) -> Failure {
    if let Some(ureq::Error::Timeout(_)) = error.get_ref().and_then(|it| it.downcast_ref()) {
        let cause = format!("the answer did not end within {}", seconds(allowed));
        return Failure::new(ErrorKind::TimedOut, url, cause);
    }
    if let Some(cause) = tls_error::within(&error, tls) {
        return Failure::new(ErrorKind::Tls, url, cause);
    }
    let cause = if is_close(&error) {
        "the answer is incomplete".to_owned()
    } else {
        format!("the answer is incomplete ({error})")
    };
    Failure::new(ErrorKind::Protocol, url, cause).retryable(true)
}

fn seconds(time: Duration) -> String {
    let millis = time.as_millis();
    if millis < 1000 {
        format!("{millis} ms")
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}
