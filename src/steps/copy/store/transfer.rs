//! All files of an attempt, several at once.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::super::source::Found;
use super::super::tally::{Done, Tally};
use super::super::upload::Upload;
use super::Store;
use super::multipart::THRESHOLD;
use super::put::{Transfer, Trouble};
use crate::model::error::{Failure, Word};
use crate::model::event::Copied;
use crate::step::{Effect, Scope};
use crate::sys::copy::{Listed, Pace, Version};

/// How many files are sent at once.
const CONNECTIONS: usize = 8;

/// Enough for TLS; only what is touched costs memory.
const STACK: usize = 512 << 10;

/// What a thread tells.
enum News {
    Copied(Listed, String),
    Troubled(Trouble),
    /// What is kept of an upload in parts.
    Kept(Version, Option<Upload>),
}

/// Copies what was found, and counts it.
pub(in super::super) fn copy(
    store: &Store,
    urls: Vec<String>,
    (found, rate): (Found, Option<u64>),
    (done, scope): (&mut Done, &Scope<'_>),
) -> Result<Effect, Failure> {
    let transfer = Transfer {
        store: store.open(urls, scope)?,
        scope,
        pace: Pace::new(rate),
    };
    let uploads = std::mem::take(&mut done.uploads);
    let mut kept = uploads.clone();
    let mut tally = Tally::new(scope.voice, done);
    tally.found(found.count, found.bytes);
    let files = found.files;
    (found.failures.into_iter()).for_each(|failure| tally.failed(failure));
    let threads = CONNECTIONS.min(files.len());
    let queue = Queue {
        files: Mutex::new(files.into()),
        uploads,
        is_over: AtomicBool::new(false),
    };
    let (sender, news) = channel();
    let mut sent = 0;
    thread::scope(|scope| {
        for _ in 0..threads {
            let (sender, transfer, queue) = (sender.clone(), &transfer, &queue);
            let builder = thread::Builder::new().name("copy".into()).stack_size(STACK);
            let started = builder.spawn_scoped(scope, move || queue.work(transfer, &sender));
            if started.is_err() {
                // Those that are there do it; without any, the files that are left say so.
                break;
            }
        }
        drop(sender);
        for news in news {
            match news {
                News::Copied(file, sha256) => {
                    let copy = Copied {
                        name: shown(file.name()),
                        bytes: file.version.size,
                        sha256,
                    };
                    sent += copy.bytes;
                    tally.copied(copy, file.version);
                    tally.progress(sent);
                }
                News::Troubled(Trouble::Gone(why)) => transfer.scope.voice.remark(&why),
                News::Troubled(Trouble::Failed { failure, .. }) => tally.failed(failure),
                News::Kept(version, upload) => {
                    kept.retain(|it| it.version != version);
                    kept.extend(upload);
                }
            }
        }
    });
    let left = queue.left();
    let cut = (left > 0 && !queue.is_over.load(Ordering::Relaxed)).then(|| late(&transfer));
    let ended = tally.end(cut);
    done.uploads = kept;
    ended
}

/// Why files are left that nobody has tried.
fn late(transfer: &Transfer<'_>) -> Failure {
    let (noun, scope) = ("the copy", transfer.scope);
    if scope.cancel.is_cancelled() {
        return Failure::new(Word::TimedOut, noun, "told to stop");
    }
    let cause = match scope.deadline.left() {
        None => format!("did not end within the {}", scope.deadline.reason().noun()),
        Some(_) => "the system has no thread left".to_owned(),
    };
    Failure::new(Word::TimedOut, noun, cause)
}

fn shown(name: &OsStr) -> String {
    name.to_string_lossy().into_owned()
}

/// What is still to be copied.
struct Queue {
    files: Mutex<VecDeque<Listed>>,
    uploads: Vec<Upload>,
    /// Whether no file would fare better.
    is_over: AtomicBool,
}

impl Queue {
    fn next(&self) -> Option<Listed> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.pop_front()
    }

    fn left(&self) -> usize {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.len()
    }

    /// Copies one file after the other.
    fn work(&self, transfer: &Transfer<'_>, news: &Sender<News>) {
        let scope = transfer.scope;
        let goes_on = || {
            let is_over = self.is_over.load(Ordering::Relaxed);
            !is_over && !scope.cancel.is_cancelled() && scope.deadline.left().is_some()
        };
        // Who hears of it waits until every sender is gone.
        let tell = |it: News| {
            let _ = news.send(it);
        };
        while goes_on() {
            let Some(file) = self.next() else { return };
            match self.copy(transfer, &file, &tell) {
                Ok(sha256) => tell(News::Copied(file, sha256)),
                Err(trouble) => {
                    if matches!(trouble, Trouble::Failed { ends: true, .. }) {
                        self.is_over.store(true, Ordering::Relaxed);
                    }
                    tell(News::Troubled(trouble));
                }
            }
        }
    }

    fn copy(
        &self,
        transfer: &Transfer<'_>,
        file: &Listed,
        tell: &dyn Fn(News),
    ) -> Result<String, Trouble> {
        if transfer.store.signer.is_none() || file.version.size <= THRESHOLD {
            return transfer.put_file(file);
        }
        let begun = self.uploads.iter().find(|it| it.version == file.version);
        let mut keep = |upload| tell(News::Kept(file.version, upload));
        transfer.put_in_parts(file, begun.cloned(), &mut keep)
    }
}
