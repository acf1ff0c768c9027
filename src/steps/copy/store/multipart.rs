//! Multipart uploads of large files; see "Uploading and copying objects using multipart upload" in Amazon's guide.

use super::super::upload::Upload;
use super::put::{Transfer, UploadError};
use super::{refusal, tagged};
use crate::model::error::{ErrorKind, Failure};
use crate::sys::copy::Listed;
use crate::sys::digest::{Sha256, hexadecimal, sha256};
use crate::sys::http::{Answer, Endpoint, Request};

/// Files above this size are sent in parts.
pub(super) const THRESHOLD: u64 = 64 << 20;

/// The size of a part, and the maximum number of parts: S3 allows 10,000.
const PART: u64 = 16 << 20;
const PARTS: u64 = 10_000;

/// The size of each part of a file but the last one.
fn part_of(size: u64) -> u64 {
    PART.max(size.div_ceil(PARTS))
}

impl Transfer<'_> {
    /// Copies a file in parts, from where an earlier attempt stopped. `keep` receives what a later attempt needs.
    pub(super) fn put_in_parts(
        &self,
        file: &Listed,
        begun: Option<Upload>,
        keep: &mut dyn FnMut(Option<Upload>),
    ) -> Result<String, UploadError> {
        let object = self.address(file)?;
        let mut upload = match begun {
            Some(upload) => upload,
            None => self.begin(file, &object)?,
        };
        keep(Some(upload.clone()));
        let ended = self.rest(file, &object, &mut upload, keep);
        match &ended {
            Ok(_) => keep(None),
            // An upload that is gone there is started again.
            Err(_) if upload.id.is_empty() => keep(None),
            Err(UploadError::Failed { failure, .. }) if failure.retryable => {}
            Err(_) => {
                // Parts without a completed upload cost money.
                let _ = self.ask(&object.with(&format!("uploadId={}", upload.id)), "DELETE");
                keep(None);
            }
        }
        ended
    }

    fn begin(&self, file: &Listed, object: &Endpoint) -> Result<Upload, UploadError> {
        let answer = self.ask(&object.with("uploads="), "POST")?;
        match tagged(&answer.body, "UploadId").filter(|it| is_id(it)) {
            Some(id) => Ok(Upload {
                version: file.version,
                id,
                parts: Vec::new(),
            }),
            None => Err(unexpected_answer(&answer, "has no UploadId")),
        }
    }

    fn rest(
        &self,
        file: &Listed,
        object: &Endpoint,
        upload: &mut Upload,
        keep: &mut dyn FnMut(Option<Upload>),
    ) -> Result<String, UploadError> {
        let mut whole = Sha256::new();
        let (size, part) = (file.version.size, part_of(file.version.size));
        let there = (upload.parts.len() as u64 * part).min(size);
        let read = self.feed(file, 0..there, false)?.digest(Some(&mut whole));
        read.map_err(|it| UploadError::unread(file, &it))?;
        loop {
            let from = upload.parts.len() as u64 * part;
            if from >= size {
                break;
            }
            let query = format!(
                "partNumber={}&uploadId={}",
                upload.parts.len() + 1,
                upload.id
            );
            let object = object.with(&query);
            let range = from..(from + part).min(size);
            let (answer, _) = self.put(&object, file, range, Some(&mut whole))?;
            if answer.status == 404 && answer.says("NoSuchUpload") {
                upload.id.clear();
                return Err(UploadError::Failed {
                    failure: refusal(&answer).0.retryable(true),
                    ends: false,
                });
            }
            let answer = self.good(answer)?;
            let Some(tag) = answer.header("etag") else {
                return Err(unexpected_answer(&answer, "has no ETag"));
            };
            upload.parts.push(tag.to_owned());
            keep(Some(upload.clone()));
        }
        self.complete(object, upload)?;
        Ok(hexadecimal(&whole.finish()))
    }

    /// Completes the upload.
    fn complete(&self, object: &Endpoint, upload: &Upload) -> Result<(), UploadError> {
        let part = |(at, tag): (usize, &String)| {
            let tag = tag
                .replace('&', "&amp;")
                .replace('<', "&lt;")
                .replace('"', "&quot;");
            format!(
                "<Part><PartNumber>{}</PartNumber><ETag>{tag}</ETag></Part>",
                at + 1
            )
        };
        let parts: String = upload.parts.iter().enumerate().map(part).collect();
        let body =
            format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>").into_bytes();
        let digest = sha256(&body);
        let request = Request {
            method: "POST".to_owned(),
            body: Some(body),
            ..Request::default()
        };
        let object = object.with(&format!("uploadId={}", upload.id));
        let answer = self.good(self.send(&object, request, &digest)?)?;
        // Amazon answers 200 before it knows the result.
        match tagged(&answer.body, "Code") {
            Some(_) => {
                let (failure, ends) = refusal(&Answer {
                    status: 500,
                    ..answer
                });
                Err(UploadError::Failed { failure, ends })
            }
            None => Ok(()),
        }
    }
}

/// Whether it can stand in a query as it is.
fn is_id(text: &str) -> bool {
    let is_plain = |it: u8| it.is_ascii_alphanumeric() || b"-._~".contains(&it);
    !text.is_empty() && text.len() < 1024 && text.bytes().all(is_plain)
}

fn unexpected_answer(answer: &Answer, what: &str) -> UploadError {
    let cause = format!("the answer (status {}) {what}", answer.status);
    UploadError::of_store(
        Failure::new(ErrorKind::Protocol, answer.url.clone(), cause).retryable(true),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_object_has_no_more_parts_than_are_taken() {
        assert_eq!(part_of(65 << 20), PART);
        let largest = 5_u64 << 40;
        assert!(largest.div_ceil(part_of(largest)) <= PARTS);
    }
}
