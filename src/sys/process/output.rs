//! A child's output, split into masked and bounded lines; dropped bytes are counted.

use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::process::{Child, ChildStderr, ChildStdout};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::model::event::Stream;
use crate::model::secrets;
use crate::sys::threads::{self, WhenIdle};

/// The longest line, in bytes.
const LINE: usize = 64 << 10;

/// The limit of all lines of one child together, in bytes.
const STEP: usize = 1 << 20;

/// The bytes of the longest UTF-8 character.
const CHARACTER: usize = 4;

/// How many bytes are still read of a stream after its child has ended, if a process outside of the group holds it
/// open.
const LAST_WORDS: usize = 1 << 20;

/// The pipes of a child, and the output so far.
pub struct Output {
    out: Option<ChildStdout>,
    err: Option<ChildStderr>,
    buffer: Vec<u8>,
    lines: Lines,
}

impl Output {
    /// The output of `child`, whose pipes are taken from it.
    pub fn of(child: &mut Child) -> Output {
        Output {
            out: child.stdout.take(),
            err: child.stderr.take(),
            buffer: vec![0; 32 << 10],
            lines: Lines::default(),
        }
    }

    /// The pipe to poll before [`Output::read`], unless the stream has ended.
    pub fn pipe(&self, stream: Stream) -> Option<BorrowedFd<'_>> {
        match stream {
            Stream::Out => self.out.as_ref().map(|pipe| pipe.as_fd()),
            Stream::Err => self.err.as_ref().map(|pipe| pipe.as_fd()),
        }
    }

    /// Reads once from a stream that is ready, passes on complete lines, and returns the number of bytes.
    pub fn read(&mut self, stream: Stream, tell: &mut dyn FnMut(Stream, &str)) -> usize {
        let read = match (stream, &mut self.out, &mut self.err) {
            (Stream::Out, Some(pipe), _) => pipe.read(&mut self.buffer),
            (Stream::Err, _, Some(pipe)) => pipe.read(&mut self.buffer),
            _ => Ok(0),
        };
        match (read, stream) {
            (Ok(read @ 1..), _) => {
                self.lines.feed(stream, &self.buffer[..read], tell);
                return read;
            }
            (Err(error), _) if error.kind() == io::ErrorKind::Interrupted => {}
            (_, Stream::Out) => self.out = None,
            (_, Stream::Err) => self.err = None,
        }
        0
    }

    /// Reads and drops the rest on threads of their own until all writers have ended: a daemon must neither be killed
    /// by SIGPIPE nor block because of its output.
    pub fn drain(&mut self) {
        fn drop_all(mut pipe: impl io::Read + Send + 'static) {
            // Without a thread the pipe is closed, and writers get SIGPIPE.
            let _ = threads::start(move || -> WhenIdle {
                let _ = io::copy(&mut pipe, &mut io::sink());
                Box::new(|| {})
            });
        }
        self.out.take().into_iter().for_each(drop_all);
        self.err.take().into_iter().for_each(drop_all);
    }

    /// Reads and passes on what is there without waiting, and returns the total of dropped bytes.
    pub fn finish(&mut self, tell: &mut dyn FnMut(Stream, &str)) -> u64 {
        for stream in [Stream::Out, Stream::Err] {
            let mut rest = LAST_WORDS;
            while rest > 0 && self.pipe(stream).is_some_and(is_ready) {
                rest = rest.saturating_sub(self.read(stream, tell));
            }
        }
        self.lines.finish(tell)
    }
}

fn is_ready(pipe: BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::new(pipe, PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// The lines of both streams.
#[derive(Default)]
struct Lines {
    out: Pending,
    err: Pending,
    told: usize,
    full: bool,
    dropped: u64,
}

/// A line that has not ended yet.
#[derive(Default)]
struct Pending {
    kept: Vec<u8>,
    length: u64,
}

impl Lines {
    /// Adds output, and passes on every complete line.
    fn feed(&mut self, stream: Stream, mut bytes: &[u8], tell: &mut dyn FnMut(Stream, &str)) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.keep(stream, &bytes[..end]);
            self.end_line(stream, tell);
            bytes = &bytes[end + 1..];
        }
        self.keep(stream, bytes);
    }

    /// Passes on what follows the last line end, and returns the number of dropped bytes.
    fn finish(&mut self, tell: &mut dyn FnMut(Stream, &str)) -> u64 {
        for stream in [Stream::Out, Stream::Err] {
            if self.pending(stream).length > 0 {
                self.end_line(stream, tell);
            }
        }
        self.dropped
    }

    fn pending(&mut self, stream: Stream) -> &mut Pending {
        match stream {
            Stream::Out => &mut self.out,
            Stream::Err => &mut self.err,
        }
    }

    fn keep(&mut self, stream: Stream, bytes: &[u8]) {
        // Keeps enough beyond the shown part that a secret which begins in that part is complete.
        let capacity = if self.full {
            0
        } else {
            LINE + secrets::longest() + CHARACTER
        };
        let pending = self.pending(stream);
        let room = capacity.saturating_sub(pending.kept.len());
        pending
            .kept
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
        pending.length += bytes.len() as u64;
    }

    fn end_line(&mut self, stream: Stream, tell: &mut dyn FnMut(Stream, &str)) {
        let full = self.full;
        let pending = self.pending(stream);
        let length = std::mem::take(&mut pending.length);
        let line = (!full).then(|| shown(&String::from_utf8_lossy(&pending.kept)));
        pending.kept.clear();
        match line {
            Some(line) if self.told + line.len() <= STEP => {
                self.told += line.len();
                self.dropped += length.saturating_sub(LINE as u64);
                tell(stream, &line);
            }
            // Once a line did not fit, all later ones are dropped: a record with holes would mislead.
            _ => {
                self.full = true;
                self.dropped += length;
            }
        }
    }
}

/// What is shown of a line, which may be longer than [`LINE`].
fn shown(text: &str) -> String {
    let text = text.strip_suffix('\r').unwrap_or(text);
    let mut line = secrets::mask(text).into_owned();
    if text.len() > LINE {
        // The masked head equals the start of the masked whole, unless the cut went through a secret: then the two
        // differ from the secret's first byte on.
        let head = secrets::mask(&text[..boundary(text, LINE)]).into_owned();
        let same = line
            .bytes()
            .zip(head.bytes())
            .take_while(|(a, b)| a == b)
            .count();
        line.truncate(boundary(&line, same));
    }
    line.truncate(boundary(&line, LINE));
    line
}

/// The last character boundary at or before `at`.
fn boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len()))
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fed(pieces: &[&[u8]]) -> (Vec<String>, u64) {
        let (mut lines, mut told) = (Lines::default(), Vec::new());
        let mut tell = |_: Stream, line: &str| told.push(line.to_owned());
        for piece in pieces {
            lines.feed(Stream::Out, piece, &mut tell);
        }
        let dropped = lines.finish(&mut tell);
        (told, dropped)
    }

    #[test]
    fn lines_are_put_together_from_pieces_and_the_last_one_needs_no_end() {
        let (told, dropped) = fed(&[b"on", b"e\n\ntw", b"o\r\nth\xffree"]);
        assert_eq!(told, ["one", "", "two", "th\u{fffd}ree"]);
        assert_eq!(dropped, 0);
    }

    #[test]
    fn a_long_line_is_cut_between_characters_and_its_rest_counted() {
        let long = format!("x{}\nnext\n", "ä".repeat(LINE));
        let (told, dropped) = fed(&[long.as_bytes()]);
        assert_eq!(told[0].len(), LINE - 1);
        assert_eq!(told[1], "next");
        assert_eq!(dropped, (LINE + 1) as u64);
    }

    #[test]
    fn what_is_over_the_limit_of_the_step_is_counted() {
        let line = [b"y".repeat(LINE - 1), b"\n".to_vec()].concat();
        let pieces: Vec<&[u8]> = (0..20).map(|_| line.as_slice()).collect();
        let (told, dropped) = fed(&pieces);
        assert_eq!(told.len(), 16);
        assert_eq!(dropped, 4 * (LINE as u64 - 1));
    }

    #[test]
    fn a_secret_is_masked_wherever_the_line_is_cut() {
        let secret = "correct-horse-battery-staple";
        secrets::hide(secret);
        for before in LINE - secret.len() - 2..LINE + 2 {
            // The first one shrinks when it is masked, and must not pull in what the cut left of the last one.
            let line = format!(
                "{secret}{}{secret}{}",
                "z".repeat(before - secret.len()),
                "w".repeat(LINE)
            );
            let (told, _) = fed(&[line.as_bytes()]);
            assert!(!told[0].contains("cor"), "cut at {before}");
            assert!(told[0].starts_with(secrets::MASK) && told[0].len() > LINE - 100);
        }
    }
}
