//! One file, or a part of one, in one PUT.

use std::ops::Range;

use super::super::destination::address_of;
use super::{Opened, refusal};
use crate::model::error::{ErrorKind, Failure};
use crate::step::AttemptContext;
use crate::sys::copy::{Bandwidth, Feed, Listed, Unread};
use crate::sys::digest::Sha256;
use crate::sys::http::{Answer, EMPTY, Endpoint, Limits, Request};

/// Up to this size a file is sent from memory, over a connection that is kept.
const SMALL: u64 = 256 << 10;

/// Above this size the request has `Expect: 100-continue` (RFC 9110, 10.1.1): a server that refuses it would otherwise
/// close the connection in the middle, and its reason would be lost.
const ASKED: u64 = 1 << 20;

/// Why a file was not copied.
#[derive(Clone, Debug)]
pub(super) enum UploadError {
    /// It is gone, or is not a regular file any more.
    Gone(String),
    /// It could not be copied.
    Failed {
        failure: Failure,
        /// Whether the next file would fail in the same way.
        ends: bool,
    },
}

impl UploadError {
    pub(super) fn of_store(failure: Failure) -> UploadError {
        UploadError::Failed {
            failure,
            ends: true,
        }
    }

    pub(super) fn unread(file: &Listed, unread: &Unread) -> UploadError {
        let path = file.path().display().to_string();
        match unread.is_gone {
            true => UploadError::Gone(format!("{path} was left out: {unread}")),
            false => UploadError::Failed {
                failure: Failure::new(ErrorKind::Io, path, &*unread.cause)
                    .retryable(unread.retryable),
                ends: false,
            },
        }
    }

    fn answered(answer: &Answer) -> UploadError {
        let (failure, ends) = refusal(answer);
        UploadError::Failed { failure, ends }
    }
}

/// Shared by all files of an attempt.
pub(super) struct Transfer<'a> {
    pub(super) store: Opened<'a>,
    pub(super) context: &'a AttemptContext<'a>,
    pub(super) bandwidth: Bandwidth,
}

impl Transfer<'_> {
    /// The address of a file.
    pub(super) fn address(&self, file: &Listed) -> Result<Endpoint, UploadError> {
        address_of(&self.store.urls, file.name()).map_err(|cause| UploadError::Failed {
            failure: Failure::new(ErrorKind::Config, file.path().display().to_string(), cause),
            ends: false,
        })
    }

    /// Copies a file in one PUT. Returns its SHA-256.
    pub(super) fn put_file(&self, file: &Listed) -> Result<String, UploadError> {
        let endpoint = self.address(file)?;
        let (answer, sha256) = self.put(&endpoint, file, 0..file.version.size, None)?;
        match answer.is_success() {
            true => Ok(sha256),
            false => Err(UploadError::answered(&answer)),
        }
    }

    /// Copies a part of a file. Returns the answer, whatever its status, and the SHA-256 of the part. `whole` is
    /// updated with the part, if requests are signed.
    pub(super) fn put(
        &self,
        endpoint: &Endpoint,
        file: &Listed,
        part: Range<u64>,
        whole: Option<&mut Sha256>,
    ) -> Result<(Answer, String), UploadError> {
        let request = Request {
            method: "PUT".to_owned(),
            ..Request::default()
        };
        let length = part.end - part.start;
        if length <= SMALL && whole.is_none() {
            let mut feed = self.feed(file, part, true)?;
            let bytes = feed.all().map_err(|it| UploadError::unread(file, &it))?;
            let sha256 = feed.sha256();
            let request = Request {
                body: Some(bytes),
                ..request
            };
            return Ok((self.send(endpoint, request, &sha256)?, sha256));
        }
        // S3 compares the body with the digest in the signature, which is sent first.
        let announced = match &self.store.signer {
            Some(_) => {
                let mut feed = self.feed(file, part.clone(), false)?;
                let read = feed.digest(whole);
                read.map_err(|it| UploadError::unread(file, &it))?;
                feed.sha256()
            }
            None => String::new(),
        };
        let mut request = self.store.signed(request, endpoint, &announced);
        let mut header = |name: &str, value: String| request.headers.push((name.to_owned(), value));
        header("Content-Length", length.to_string());
        if length > ASKED {
            header("Expect", "100-continue".to_owned());
        }
        let mut feed = self.feed(file, part, true)?;
        let session = &self.store.session;
        let sent = session.send_as_it_is(endpoint, &request, Some(&mut feed), self.limits());
        let answer = sent.map_err(|failure| match feed.unread() {
            Some(unread) => UploadError::unread(file, unread),
            None => UploadError::of_store(failure),
        })?;
        Ok((answer, feed.sha256()))
    }

    /// Sends a request with its body, whose digest is `sha256`.
    pub(super) fn send(
        &self,
        endpoint: &Endpoint,
        request: Request,
        sha256: &str,
    ) -> Result<Answer, UploadError> {
        let request = self.store.signed(request, endpoint, sha256);
        let session = &self.store.session;
        session
            .send_as_it_is(endpoint, &request, None, self.limits())
            .map_err(UploadError::of_store)
    }

    /// As [`Transfer::send`], of a request without a body.
    pub(super) fn ask(&self, endpoint: &Endpoint, method: &str) -> Result<Answer, UploadError> {
        let request = Request {
            method: method.to_owned(),
            ..Request::default()
        };
        self.good(self.send(endpoint, request, EMPTY)?)
    }

    pub(super) fn good(&self, answer: Answer) -> Result<Answer, UploadError> {
        match answer.is_success() {
            true => Ok(answer),
            false => Err(UploadError::answered(&answer)),
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            connect: self.context.request(),
            answer: self.context.deadline,
        }
    }

    pub(super) fn feed(
        &self,
        file: &Listed,
        part: Range<u64>,
        is_paced: bool,
    ) -> Result<Feed<'_>, UploadError> {
        let until = (self.context.deadline, self.context.cancel);
        let pace = is_paced.then_some(&self.bandwidth);
        Feed::open(file, part, until, pace).map_err(|error| {
            let path = file.path().display().to_string();
            UploadError::of_store(
                Failure::new(ErrorKind::Io, path, error.to_string()).retryable(true),
            )
        })
    }
}
