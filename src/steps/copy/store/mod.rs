//! Copying to a store that takes files by PUT, plain or with the signatures of S3.

mod multipart;
mod put;
mod transfer;

use std::time::SystemTime;

use super::destination::{self, Destination};
use super::progress::{files, size};
use crate::clients::http::{Peer, Session, excerpt, parameters, unexpected};
use crate::config::section::{Field, Secrecy, Section, plain};
use crate::model::error::{ErrorKind, Failure};
use crate::model::secrets;
use crate::step::AttemptContext;
use crate::sys::clock;
use crate::sys::http::{Answer, EMPTY, Endpoint, Request, Signer};

pub(super) use transfer::copy;

/// The object that a rehearsal requests, which does not exist.
const NO_OBJECT: &str = ".farewell-rehearsal";

/// The configuration besides the addresses.
pub(super) struct Store {
    peer: Peer,
    s3: Option<S3>,
}

/// Who signs.
struct S3 {
    region: Field<String>,
    access_key_id: Field<String>,
    secret_access_key: Field<String>,
    session_token: Option<Field<String>>,
}

impl Store {
    /// Reads what stands beside `to`.
    pub(super) fn read(section: &Section<'_>, to: &[Field<Destination>]) -> Option<Store> {
        let addresses = to
            .iter()
            .map(|it| it.taken_as(destination::address))
            .collect();
        let peer = Peer::read_beside(section, "to", addresses);
        let s3 = section.table("s3").map(|it| S3::read(&it));
        if section.has("s3") && section.has("user") {
            section.problem(
                "user",
                "a request is signed by `s3`, and cannot have a user",
            );
        }
        Some(Store {
            peer: peer?,
            s3: match s3 {
                Some(s3) => Some(s3?),
                None => None,
            },
        })
    }

    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Everything ready for one attempt.
    fn open<'a>(
        &'a self,
        urls: Vec<String>,
        context: &AttemptContext<'a>,
    ) -> Result<Opened<'a>, Failure> {
        for url in &urls {
            hide_query(url);
        }
        Ok(Opened {
            session: self.peer.open(context)?,
            urls,
            signer: match &self.s3 {
                Some(s3) => Some(s3.signer(context)?),
                None => None,
            },
        })
    }

    /// Checks whether the store can be reached and knows the key, and reports what would be copied.
    pub(super) fn rehearse(
        &self,
        urls: Vec<String>,
        (count, bytes): (usize, u64),
        context: &AttemptContext<'_>,
    ) -> Result<String, Failure> {
        let store = self.open(urls, context)?;
        let found = format!("{} now, {}", files(count), size(bytes));
        let said = match &store.signer {
            Some(_) => store.ask_for_nothing(context)?,
            None => store.ask_for_options(context)?,
        };
        Ok(format!("{found}; {said}"))
    }
}

impl S3 {
    fn read(section: &Section<'_>) -> Option<S3> {
        let required =
            |key, secrecy| section.required(key, |section, key| section.text(key, filled, secrecy));
        let region = required("region", Secrecy::Public);
        let access_key_id = required("access-key-id", Secrecy::MayHold);
        let secret_access_key = required("secret-access-key", Secrecy::Secret);
        let session_token = section.text("session-token", plain, Secrecy::Secret);
        section.finish();
        Some(S3 {
            region: region?,
            access_key_id: access_key_id?,
            secret_access_key: secret_access_key?,
            session_token,
        })
    }

    fn signer(&self, context: &AttemptContext<'_>) -> Result<Signer, Failure> {
        Ok(Signer {
            region: self.region.get(context.facts)?,
            access_key_id: self.access_key_id.get(context.facts)?,
            secret_access_key: self.secret_access_key.get(context.facts)?,
            session_token: match &self.session_token {
                Some(token) => Some(token.get(context.facts)?),
                None => None,
            },
        })
    }
}

fn filled(text: &str) -> Result<String, String> {
    match text.is_empty() || text.contains(|it: char| it.is_whitespace() || it.is_control()) {
        true => Err("must not be empty or have white space in it".to_owned()),
        false => Ok(text.to_owned()),
    }
}

/// A shorter value is not a signature, and would mask common words.
const SHORTEST: usize = 16;

/// A presigned URL has its key in its query, which is masked.
fn hide_query(url: &str) {
    let keys = parameters(url).filter(|(_, value)| value.len() >= SHORTEST);
    keys.for_each(|(_, value)| secrets::hide(value));
}

/// A store for one attempt.
struct Opened<'a> {
    session: Session<'a>,
    urls: Vec<String>,
    signer: Option<Signer>,
}

impl Opened<'_> {
    /// The request as sent to `endpoint`, signed if configured; `sha256` is the digest of its body.
    fn signed(&self, request: Request, endpoint: &Endpoint, sha256: &str) -> Request {
        let mut request = match self.session.endpoints() {
            [base, ..] => self.session.completed(&request, base),
            [] => request,
        };
        if let Some(signer) = &self.signer {
            let time = clock::basic(SystemTime::now());
            signer.sign(&mut request, endpoint, sha256, &time);
        }
        request
    }

    /// The address of a file that never exists, beside the copies.
    fn no_object(&self) -> Result<Endpoint, Failure> {
        let url = self.urls.first().map(std::slice::from_ref);
        destination::address_of(url.unwrap_or_default(), NO_OBJECT.as_ref())
            .map_err(|cause| Failure::new(ErrorKind::Config, "key \"to\"", cause))
    }

    /// Requests a missing object from S3: missing read permission is reported only after the signature was verified.
    fn ask_for_nothing(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let endpoint = self.no_object()?;
        let request = self.signed(Request::get(""), &endpoint, EMPTY);
        let answer =
            self.session
                .send_as_it_is(&endpoint, &request, None, context.request().into())?;
        let code = tagged(&answer.body, "Code").unwrap_or_default();
        match (answer.status, code.as_str()) {
            (200..=299, _) | (404, "NoSuchKey") => Ok(format!(
                "{} exists and knows the key; whether it accepts files is not known",
                endpoint.authority()
            )),
            (403, "AccessDenied") => Ok(format!(
                "{} exists and knows the key, which may not read; whether it accepts files is not known",
                endpoint.authority()
            )),
            _ => Err(unexpected(&answer)),
        }
    }

    fn ask_for_options(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let endpoint = self.no_object()?;
        let options = Request {
            method: "OPTIONS".to_owned(),
            ..Request::default()
        };
        let request = self.signed(options, &endpoint, EMPTY);
        let answer =
            self.session
                .send_as_it_is(&endpoint, &request, None, context.request().into())?;
        match answer.status {
            // A presigned address is for a PUT alone.
            401 | 403 if self.urls.iter().all(|it| !it.contains('?')) => Err(unexpected(&answer)),
            status if status < 500 || status == 501 => Ok(format!(
                "OPTIONS {} answered {status}, so it can be reached; whether it accepts files is not known",
                answer.url
            )),
            _ => Err(unexpected(&answer)),
        }
    }
}

/// The content of the first element of this name in an answer of S3.
fn tagged(body: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (inner, _) = rest.split_once(&format!("</{name}>"))?;
    let plain = [
        ("&quot;", "\""),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&#34;", "\""),
        ("&amp;", "&"),
    ];
    Some(
        plain
            .iter()
            .fold(inner.to_owned(), |text, (from, to)| text.replace(from, to)),
    )
}

/// The failure of an answer without a success status, and whether it would affect other files.
fn refusal(answer: &Answer) -> (Failure, bool) {
    let failure = unexpected(answer);
    let is_of_file = matches!(answer.status, 400 | 409 | 411..=414 | 422);
    let failure = match tagged(&answer.body, "Code") {
        Some(code) => {
            let message = tagged(&answer.body, "Message").unwrap_or_default();
            let cause = format!("status {}: {code}: {message}", answer.status);
            let cause = cause.trim_end_matches([':', ' ']);
            let retryable =
                failure.retryable || matches!(code.as_str(), "RequestTimeout" | "SlowDown");
            Failure::new(failure.kind, failure.subject, excerpt(cause.as_bytes()))
                .retryable(retryable)
        }
        // Insufficient Storage (RFC 4918) is permanent for this purpose.
        None if answer.status == 507 => Failure {
            kind: ErrorKind::Io,
            retryable: false,
            ..failure
        },
        None => failure,
    };
    (failure, !is_of_file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_s3_says_is_taken_out_of_its_tags() {
        let body = b"<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Message>a &amp; b</Message></Error>";
        assert_eq!(tagged(body, "Code").as_deref(), Some("NoSuchKey"));
        assert_eq!(tagged(body, "Message").as_deref(), Some("a & b"));
        assert_eq!(tagged(body, "UploadId"), None);
    }
}
