//! What an attempt has copied, for people and the record.

use std::time::{Duration, Instant};

use super::upload::Upload;
use crate::model::error::{ErrorKind, Failure};
use crate::model::event::Copied;
use crate::step::{Outcome, StepEvents};
use crate::sys::copy::Version;

/// How many files of one step the record lists.
const LISTED: usize = 1000;

/// The time between two progress reports, each of which is a line of the record.
const EVERY: Duration = Duration::from_secs(1);

/// What all attempts of a step have copied.
#[derive(Clone, Default)]
pub(super) struct Done {
    /// The versions of the files.
    pub(super) versions: Vec<Version>,
    /// The tokens of attempts that have not ended by themselves.
    pub(super) cut: Vec<String>,
    /// Multipart uploads that a later attempt continues.
    pub(super) uploads: Vec<Upload>,
    listed: usize,
    bytes: u64,
}

/// The count of one attempt.
pub(super) struct CopyProgress<'a> {
    events: &'a dyn StepEvents,
    done: &'a mut Done,
    /// All files and their bytes, once they are known.
    found: Option<(usize, u64)>,
    copied: usize,
    bytes: u64,
    told: Option<Instant>,
    failed: usize,
    first: Option<Failure>,
}

impl<'a> CopyProgress<'a> {
    pub(super) fn new(events: &'a dyn StepEvents, done: &'a mut Done) -> CopyProgress<'a> {
        CopyProgress {
            events,
            done,
            found: None,
            copied: 0,
            bytes: 0,
            told: None,
            failed: 0,
            first: None,
        }
    }

    /// Sets what this attempt will copy.
    pub(super) fn found(&mut self, files: usize, bytes: u64) {
        self.found = Some((files, bytes));
        self.tell(0);
    }

    /// Counts bytes written, also of incomplete files.
    pub(super) fn advance(&mut self, bytes: u64) {
        if self.told.is_none_or(|told| told.elapsed() >= EVERY) {
            self.tell(bytes);
        }
    }

    fn tell(&mut self, bytes: u64) {
        self.told = Some(Instant::now());
        let (_, all) = self.found.unwrap_or_default();
        let before = self.done.bytes.saturating_sub(self.bytes);
        let (bytes, all) = (before + bytes, (before + all).max(before + bytes));
        self.events
            .waiting(&format!("the copy, {} of {}", size(bytes), size(all)));
    }

    /// A file was copied.
    pub(super) fn copied(&mut self, copy: Copied, version: Version) {
        self.copied += 1;
        self.bytes += copy.bytes;
        self.done.bytes += copy.bytes;
        self.done.versions.push(version);
        self.done.listed += 1;
        if self.done.listed <= LISTED {
            self.events.copied(copy);
        }
    }

    /// A file, or everything, could not be copied.
    pub(super) fn failed(&mut self, failure: Failure) {
        self.failed += 1;
        match &mut self.first {
            Some(first) => first.retryable |= failure.retryable,
            None => self.first = Some(failure),
        }
    }

    /// The attempt has left nothing unfinished, and removed what earlier ones had.
    pub(super) fn ended(&mut self) {
        self.done.cut.clear();
    }

    /// The result of the attempt; `cut` is why it did not finish.
    pub(super) fn end(mut self, cut: Option<Failure>) -> Result<Outcome, Failure> {
        let listed = self.done.listed;
        if listed > LISTED {
            let remark = format!("the record lists the first {LISTED} of {listed} files");
            self.events.remark(&remark);
        }
        if let Some(failure) = cut.as_ref().or(self.first.as_ref()) {
            return Err(self.partial(failure.clone()));
        }
        let all = self.done.versions.len();
        if all == 0 {
            return Ok(Outcome::AlreadyDone);
        }
        self.told = None;
        let remark = format!("{} copied, {}", files(all), size(self.done.bytes));
        self.events.remark(&remark);
        Ok(Outcome::Done)
    }

    /// The failure, with what was copied all the same.
    fn partial(&self, failure: Failure) -> Failure {
        let (left, bytes) = self.found.unwrap_or_default();
        let before = self.done.versions.len() - self.copied;
        let all = before + left;
        if all == 0 {
            return failure;
        }
        let of = self.done.bytes - self.bytes + bytes;
        let mut cause = format!(
            "{}; {} of {} copied, {} of {}",
            failure.cause,
            self.done.versions.len(),
            files(all),
            size(self.done.bytes),
            size(of.max(self.done.bytes)),
        );
        if self.failed > 1 {
            cause += &format!("; {} failed, this one first", files(self.failed));
        }
        Failure { cause, ..failure }
    }
}

/// The failure of one file.
pub(super) fn failure(path: &str, cause: &str, retryable: bool) -> Failure {
    Failure::new(ErrorKind::Io, path, cause).retryable(retryable)
}

/// `1 file`, `40 files`.
pub(super) fn files(count: usize) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} file{plural}")
}

/// Bytes as people read them: `512 bytes`, `3.4 MiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        let plural = if bytes == 1 { "" } else { "s" };
        return format!("{bytes} byte{plural}");
    }
    let mut amount = bytes as f64 / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next().copied().unwrap_or_default();
    for next in units {
        if amount < 1023.95 {
            break;
        }
        amount /= 1024.0;
        unit = next;
    }
    format!("{amount:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_by_people() {
        for (bytes, expected) in [
            (0, "0 bytes"),
            (1, "1 byte"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (5 << 30, "5.0 GiB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
    }
}
