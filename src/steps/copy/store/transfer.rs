//! Copies all files of an attempt, several at once.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use super::super::file_search::Found;
use super::super::progress::{CopyProgress, Done};
use super::super::upload::Upload;
use super::Store;
use super::multipart::THRESHOLD;
use super::put::{Transfer, UploadError};
use crate::model::error::{ErrorKind, Failure};
use crate::model::event::Copied;
use crate::step::{AttemptContext, Outcome};
use crate::sys::copy::{Bandwidth, Listed, Version};
use crate::sys::sync::Mutex;

/// How many files are sent at once.
const CONNECTIONS: usize = 8;

/// Enough for TLS; only pages that are used cost memory.
const STACK: usize = 512 << 10;

/// A thread's report.
enum TransferEvent {
    Copied(Listed, String),
    Troubled(UploadError),
    /// A multipart upload to keep.
    Kept(Version, Option<Upload>),
}

fn copy_of(file: &Listed, sha256: String) -> Copied {
    Copied {
        name: shown(file.name()),
        bytes: file.version.size,
        sha256,
    }
}

/// Copies what was found, and counts it.
pub(in super::super) fn copy(
    store: &Store,
    urls: Vec<String>,
    (found, rate): (Found, Option<u64>),
    (done, context): (&mut Done, &AttemptContext<'_>),
) -> Result<Outcome, Failure> {
    let transfer = Transfer {
        store: store.open(urls, context)?,
        context,
        bandwidth: Bandwidth::new(rate),
    };
    let uploads = std::mem::take(&mut done.uploads);
    let mut kept = uploads.clone();
    let mut progress = CopyProgress::new(context.events, done);
    progress.found(found.count, found.bytes);
    let files = found.files;
    (found.failures.into_iter()).for_each(|failure| progress.failed(failure));
    let threads = CONNECTIONS.min(files.len());
    let queue = Queue {
        files: Mutex::new(files.into()),
        uploads,
        is_over: AtomicBool::new(false),
    };
    let (sender, news) = channel();
    let mut sent = 0;
    thread::scope(|context| {
        for _ in 0..threads {
            if !queue.start(context, &transfer, sender.clone()) {
                // The threads that could be started do it; without any, the remaining files fail.
                break;
            }
        }
        drop(sender);
        for news in news {
            match news {
                TransferEvent::Copied(file, sha256) => {
                    sent += file.version.size;
                    progress.copied(copy_of(&file, sha256), file.version);
                    progress.advance(sent);
                }
                TransferEvent::Troubled(UploadError::Gone(why)) => {
                    transfer.context.events.remark(&why)
                }
                TransferEvent::Troubled(UploadError::Failed { failure, .. }) => {
                    progress.failed(failure)
                }
                TransferEvent::Kept(version, upload) => {
                    kept.retain(|it: &Upload| it.version != version);
                    kept.extend(upload);
                }
            }
        }
    });
    let left = queue.left();
    let cut = (left > 0 && !queue.is_over.load(Ordering::Relaxed)).then(|| late(&transfer));
    let ended = progress.end(cut);
    done.uploads = kept;
    ended
}

/// Why some files were not tried.
fn late(transfer: &Transfer<'_>) -> Failure {
    let (subject, context) = ("the copy", transfer.context);
    if context.cancel.is_cancelled() {
        return Failure::new(ErrorKind::TimedOut, subject, "told to stop");
    }
    let cause = match context.deadline.left() {
        None => format!(
            "did not end within the {}",
            context.deadline.reason().describe()
        ),
        Some(_) => "the system has no thread left".to_owned(),
    };
    Failure::new(ErrorKind::TimedOut, subject, cause)
}

fn shown(name: &OsStr) -> String {
    name.to_string_lossy().into_owned()
}

/// What is still to be copied.
struct Queue {
    files: Mutex<VecDeque<Listed>>,
    uploads: Vec<Upload>,
    /// Whether every file would fail in the same way.
    is_over: AtomicBool,
}

impl Queue {
    /// Starts a thread that works on it; whether there is one.
    fn start<'scope>(
        &'scope self,
        threads: &'scope thread::Scope<'scope, '_>,
        transfer: &'scope Transfer<'_>,
        sender: Sender<TransferEvent>,
    ) -> bool {
        let builder = thread::Builder::new().name("copy".into()).stack_size(STACK);
        let work = move || self.work(transfer, &sender);
        builder.spawn_scoped(threads, work).is_ok()
    }

    fn next(&self) -> Option<Listed> {
        let mut files = self.files.lock();
        files.pop_front()
    }

    fn left(&self) -> usize {
        let files = self.files.lock();
        files.len()
    }

    /// Copies one file after the other.
    fn work(&self, transfer: &Transfer<'_>, news: &Sender<TransferEvent>) {
        let context = transfer.context;
        let goes_on = || {
            let is_over = self.is_over.load(Ordering::Relaxed);
            !is_over && !context.cancel.is_cancelled() && context.deadline.left().is_some()
        };
        // Who hears of it waits until every sender is gone.
        let tell = |it: TransferEvent| {
            let _ = news.send(it);
        };
        while goes_on() {
            let Some(file) = self.next() else { return };
            match self.copy(transfer, &file, &tell) {
                Ok(sha256) => tell(TransferEvent::Copied(file, sha256)),
                Err(error) => {
                    if matches!(error, UploadError::Failed { ends: true, .. }) {
                        self.is_over.store(true, Ordering::Relaxed);
                    }
                    tell(TransferEvent::Troubled(error));
                }
            }
        }
    }

    fn copy(
        &self,
        transfer: &Transfer<'_>,
        file: &Listed,
        tell: &dyn Fn(TransferEvent),
    ) -> Result<String, UploadError> {
        if transfer.store.signer.is_none() || file.version.size <= THRESHOLD {
            return transfer.put_file(file);
        }
        let begun = self.uploads.iter().find(|it| it.version == file.version);
        let mut keep = |upload| tell(TransferEvent::Kept(file.version, upload));
        transfer.put_in_parts(file, begun.cloned(), &mut keep)
    }
}
