//! A record read back, whole or cut off.

use std::io;
use std::path::Path;

use super::pending::{self, PendingUndo};
use super::reader::Reader;
use super::reserved_space;
use crate::model::event::Event;
use crate::view::progress::Progress;

/// A run as its record tells it.
#[derive(Debug)]
pub struct Past {
    /// The run as far as the record goes.
    pub progress: Progress,
    /// Where the record is torn: a line, from 1, of which only a part was written.
    pub torn: Option<usize>,
    /// What it has left, and what became of that.
    pub pending: Vec<PendingUndo>,
}

impl Past {
    /// Whether the record ends before its run did.
    pub fn is_cut_off(&self) -> bool {
        self.progress.result.is_none()
    }

    /// Where the record ends, in one sentence: after which line, when, and what was running then.
    pub fn cut_off_at(&self) -> String {
        let at = self.progress.at.as_secs_f64();
        let torn = self
            .torn
            .map_or_else(String::new, |line| format!(" in the middle of line {line}"));
        let running: Vec<_> = self
            .progress
            .running()
            .map(|(_, step)| step.name.as_str())
            .collect();
        let running = match running.as_slice() {
            [] => "while no step was running".to_owned(),
            names => format!("while {} ran", names.join(", ")),
        };
        format!("the record ends{torn} after {at:.3} s, {running}")
    }
}

/// Reads a record up to its end, or up to the first line that is not whole: what was written before it is true.
///
/// # Errors
/// What the system says; `InvalidData` when not even the first line is whole.
pub fn read(path: &Path) -> io::Result<Past> {
    let (events, torn) = events(path)?;
    let mut events = events.iter();
    let nothing = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "the record ends before its first line does",
        )
    };
    let mut progress = events
        .next()
        .and_then(Progress::begin)
        .ok_or_else(nothing)?;
    events.for_each(|event| progress.apply(event));
    let (_, pending) = pending::read(path)?;
    Ok(Past {
        progress,
        torn,
        pending,
    })
}

/// The events of a record in order, and the line, from 1, that is not whole.
///
/// # Errors
/// The error of the system call.
pub fn events(path: &Path) -> io::Result<(Vec<Event>, Option<usize>)> {
    let bytes = std::fs::read(path)?;
    let text = String::from_utf8_lossy(reserved_space::written(&bytes));
    let (mut reader, mut events) = (Reader::default(), Vec::new());
    for (number, line) in text.split_inclusive('\n').enumerate() {
        match reader.event(line) {
            Ok(event) if line.ends_with('\n') => events.extend(event),
            _ => return Ok((events, Some(number + 1))),
        }
    }
    Ok((events, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = concat!(
        r#"{"at_usec":0,"event":"run-started","run":"r","trigger":"stop","started":"2026-11-23T10:00:00Z","steps":[{"name":"a","kind":"wait"},{"name":"b","kind":"wait"}]}"#,
        "\n",
        r#"{"at_usec":5,"event":"step-started","step":"a","left_usec":7}"#,
        "\n",
        r#"{"at_usec":1500000,"event":"step-finished","step":"a","state":"done","attempts":1,"duration_usec":9}"#,
        "\n",
        r#"{"at_usec":1500009,"event":"step-started","step":"b","left_usec":7}"#,
        "\n",
    );

    #[test]
    fn a_record_is_read_wherever_it_is_cut() {
        let path = std::env::temp_dir().join(format!("farewell-past-{}.jsonl", std::process::id()));
        for length in 0..=LINES.len() {
            std::fs::write(&path, &LINES[..length]).expect("written");
            let whole = LINES[..length].matches('\n').count();
            let past = read(&path);
            assert_eq!(past.is_ok(), whole > 0, "{length}");
            let Ok(past) = past else { continue };
            assert!(past.is_cut_off());
            assert_eq!(
                past.torn.is_some(),
                !LINES[..length].ends_with('\n'),
                "{length}"
            );
            let done = past.progress.steps[0].state == crate::model::event::State::Done;
            assert_eq!(done, whole >= 3, "{length}");
        }
        let past = read(&path).expect("whole");
        assert_eq!(
            past.cut_off_at(),
            "the record ends after 1.500 s, while b ran"
        );
        std::fs::remove_file(&path).expect("removed");
    }
}
