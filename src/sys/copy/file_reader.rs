//! Reads a file on a thread of its own, which is abandoned if the file's mount does not answer.

use std::fmt;
use std::io::{self, Read, Seek as _, SeekFrom, Write};
use std::ops::Range;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use super::bandwidth::Bandwidth;
use super::destination::CopyError;
use super::directory_walk::open_source;
use super::{CHUNK, Listed};
use crate::model::deadline::Deadline;
use crate::sys::cancel::Cancel;
use crate::sys::digest::{Sha256, hexadecimal};
use crate::sys::threads;

/// How many pieces are read ahead.
const AHEAD: usize = 2;

/// How often a wait for a piece checks for cancellation.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Why a file could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// Why, in words.
    pub cause: String,
    /// Whether another attempt may succeed.
    pub retryable: bool,
    /// Whether the file is gone, or became something that is not copied.
    pub is_gone: bool,
}

impl Unread {
    fn of(fault: &CopyError) -> Unread {
        Unread {
            cause: fault.to_string(),
            retryable: fault.retryable(),
            is_gone: fault.is_gone(),
        }
    }

    fn retryable(cause: impl Into<String>) -> Unread {
        Unread {
            cause: cause.into(),
            retryable: true,
            is_gone: false,
        }
    }
}

impl fmt::Display for Unread {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.cause)
    }
}

/// A part of a file, to be read once.
pub struct Feed<'a> {
    pieces: Receiver<Result<Vec<u8>, Unread>>,
    piece: Vec<u8>,
    /// How much of `piece` was consumed.
    taken: usize,
    /// How much of the part has not been received yet.
    left: u64,
    digest: Sha256,
    deadline: Deadline,
    cancel: &'a Cancel,
    pace: Option<&'a Bandwidth>,
    unread: Option<Unread>,
}

impl<'a> Feed<'a> {
    /// Starts to read the bytes `part` of a file, at most at the rate of `pace`.
    ///
    /// # Errors
    /// If no thread can be started. Errors of the file are returned by the reading methods.
    pub fn open(
        file: &Listed,
        part: Range<u64>,
        (deadline, cancel): (Deadline, &'a Cancel),
        pace: Option<&'a Bandwidth>,
    ) -> io::Result<Feed<'a>> {
        let (sender, pieces) = sync_channel(AHEAD);
        let (file, left) = (file.clone(), part.end.saturating_sub(part.start));
        threads::start(move || -> threads::WhenIdle {
            if let Err(fault) = read(&file, part, &sender) {
                // Without a receiver nobody needs it.
                let _ = sender.send(Err(Unread::of(&fault)));
            }
            Box::new(|| {})
        })?;
        Ok(Feed {
            pieces,
            piece: Vec::new(),
            taken: 0,
            left,
            digest: Sha256::new(),
            deadline,
            cancel,
            pace,
            unread: None,
        })
    }

    /// Why reading failed, if it did.
    pub fn unread(&self) -> Option<&Unread> {
        self.unread.as_ref()
    }

    /// Reads all of it.
    pub fn all(&mut self) -> Result<Vec<u8>, Unread> {
        let mut bytes = Vec::with_capacity(usize::try_from(self.left).unwrap_or_default());
        let read = self.read_to_end(&mut bytes);
        self.ended(read.map(|_| bytes))
    }

    /// Reads all of it for its digest, and adds it to that of a larger part.
    pub fn digest(&mut self, whole: Option<&mut Sha256>) -> Result<(), Unread> {
        let read = io::copy(self, &mut Digested(whole));
        self.ended(read.map(drop))
    }

    fn ended<T>(&self, read: io::Result<T>) -> Result<T, Unread> {
        read.map_err(|error| {
            let unread = self.unread.clone();
            unread.unwrap_or_else(|| Unread::retryable(error.to_string()))
        })
    }

    /// The SHA-256 of what was read, in hexadecimal.
    pub fn sha256(self) -> String {
        hexadecimal(&self.digest.finish())
    }

    fn next(&mut self) -> Result<(), Unread> {
        loop {
            if self.cancel.is_cancelled() {
                return Err(Unread::retryable("told to stop"));
            }
            let Some(left) = self.deadline.left() else {
                let subject = self.deadline.reason().describe();
                return Err(Unread::retryable(format!(
                    "was not read within the {subject}"
                )));
            };
            match self.pieces.recv_timeout(left.min(POLL_INTERVAL)) {
                Ok(piece) => {
                    (self.piece, self.taken) = (piece?, 0);
                    return Ok(());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Unread::retryable("the thread that read it has failed"));
                }
            }
        }
    }
}

/// Takes bytes for a digest, if there is one.
struct Digested<'a>(Option<&'a mut Sha256>);

impl Write for Digested<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(digest) = &mut self.0 {
            digest.update(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Feed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        if self.taken == self.piece.len()
            && let Err(unread) = self.next()
        {
            let error = io::Error::other(unread.cause.clone());
            self.unread = Some(unread);
            return Err(error);
        }
        let new = &self.piece[self.taken..];
        let length = new.len().min(buffer.len());
        buffer[..length].copy_from_slice(&new[..length]);
        self.digest.update(&new[..length]);
        self.taken += length;
        self.left -= length as u64;
        let due = self.pace.map_or(Duration::ZERO, |it| it.count(length));
        if !due.is_zero() {
            let end = Deadline::after(due, self.deadline.reason());
            let _ = self.cancel.sleep_until(self.deadline.earlier(end));
        }
        Ok(length)
    }
}

/// Reads the part and sends it in pieces, until the receiver is gone.
fn read(
    file: &Listed,
    part: Range<u64>,
    pieces: &SyncSender<Result<Vec<u8>, Unread>>,
) -> Result<(), CopyError> {
    let source = file.source();
    let directory = source.open_parent().map_err(CopyError::of_source)?;
    let name = source.name.file_name().unwrap_or_default();
    let mut reading = open_source(&directory, name).map_err(CopyError::of_source)?;
    let from = SeekFrom::Start(part.start);
    reading.seek(from).map_err(CopyError::of_source)?;
    let mut left = part.end.saturating_sub(part.start);
    while left > 0 {
        let length = (CHUNK as u64).min(left);
        let mut piece = Vec::new();
        let read = (&mut reading).take(length).read_to_end(&mut piece);
        if (read.map_err(CopyError::of_source)? as u64) < length {
            return Err(CopyError::Shrank);
        }
        left -= length;
        if pieces.send(Ok(piece)).is_err() {
            return Ok(());
        }
    }
    Ok(())
}
