//! Reads a record, complete or cut off, and summarises it for `farewell report --json` and `farewell status --json`.

use std::io;
use std::path::Path;

use serde::Serialize;

use super::pending::{self, PendingUndo, UndoState};
use super::record::{Reader, usec};
use super::reserved_space;
use crate::model::event::{Copied, Event};
use crate::sys::clock::rfc3339;
use crate::view::progress::Progress;

/// A run as its record shows it.
#[derive(Debug)]
pub struct RecordedRun {
    /// The run up to the end of the record.
    pub progress: Progress,
    /// The line, from 1, that is incomplete, if there is one.
    pub torn: Option<usize>,
    /// What it has left to undo, and what became of that.
    pub pending: Vec<PendingUndo>,
}

impl RecordedRun {
    /// Whether the record ends before its run did.
    pub fn is_cut_off(&self) -> bool {
        self.progress.result.is_none()
    }

    /// One sentence about where the record ends: in which line, when, and what was running.
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

/// Reads a record up to its end, or up to the first incomplete line.
///
/// # Errors
/// Any I/O error; `InvalidData` if not even the first line is complete.
pub fn read(path: &Path) -> io::Result<RecordedRun> {
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
    Ok(RecordedRun {
        progress,
        torn,
        pending,
    })
}

/// The events of a record in order, and the number of an incomplete line, from 1.
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

/// One run. Every member but `reason` and `undo` is always there.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// The run's id.
    pub run: String,
    /// Why it took place.
    pub trigger: &'static str,
    /// ok, failed, cut-short; running while it runs; cut-off if the record ends before the run did.
    pub result: &'static str,
    /// Why it was cut short, or where the record ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The wall clock at its start, RFC 3339.
    pub started: String,
    /// From its start to its end, or to the last line of its record.
    pub duration_usec: u64,
    /// Its budget.
    pub budget_usec: u64,
    /// The steps in the plan's order.
    pub steps: Vec<Step>,
    /// Warnings for the operator.
    pub warnings: Vec<String>,
    /// What the run has left to undo, if anything.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub undo: Vec<Undo>,
}

/// Something that a run may have left to undo.
#[derive(Debug, Serialize)]
pub struct Undo {
    /// The step that left it.
    pub step: String,
    /// What it is, for people.
    pub noun: String,
    /// pending, settled (by the run itself) or undone.
    pub state: &'static str,
    /// When it was undone, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

impl Undo {
    fn of(pending: &PendingUndo) -> Undo {
        let (state, at) = match pending.state {
            UndoState::Pending => ("pending", None),
            UndoState::Settled => ("settled", None),
            UndoState::Undone(at) => ("undone", Some(rfc3339(at))),
        };
        Undo {
            step: pending.step.clone(),
            noun: pending.intent.subject.clone(),
            state,
            at,
        }
    }
}

/// One step of a run. Times count from the run's start; those of a step that did not begin are null.
#[derive(Debug, Serialize)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// pending, running, done, already-done, skipped, failed, timed-out or cancelled.
    pub state: &'static str,
    /// Attempts made.
    pub attempts: u32,
    /// When it began.
    pub started_usec: Option<u64>,
    /// How long it ran.
    pub duration_usec: Option<u64>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Error>,
    /// Why it was skipped or cancelled, or a remark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The files that it has copied; of many only the first ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub copied: Vec<Copied>,
}

/// Why a step failed.
#[derive(Debug, Serialize)]
pub struct Error {
    /// The machine word.
    pub word: &'static str,
    /// One sentence.
    pub message: String,
}

impl Summary {
    /// The summary of a record; `running` if its run is in progress.
    pub fn of(recorded: &RecordedRun, running: bool) -> Summary {
        let progress = &recorded.progress;
        let (result, reason) = match progress.result {
            Some(result) => (result.as_str(), progress.reason.clone()),
            None if running => ("running", None),
            None => ("cut-off", Some(recorded.cut_off_at())),
        };
        let steps = progress.steps.iter().map(|step| Step {
            name: step.name.clone(),
            kind: step.kind.clone(),
            state: step.state.as_str(),
            attempts: step.attempts,
            started_usec: step.started.map(usec),
            duration_usec: step.took.map(usec),
            error: step.failure.as_ref().map(|failure| Error {
                word: failure.kind.as_str(),
                message: failure.to_string(),
            }),
            reason: step.reason.clone(),
            copied: step.copied.clone(),
        });
        Summary {
            run: progress.run.clone(),
            trigger: progress.trigger.as_str(),
            result,
            reason,
            started: rfc3339(progress.started),
            duration_usec: usec(progress.at),
            budget_usec: usec(progress.budget),
            steps: steps.collect(),
            warnings: progress.warnings.clone(),
            undo: recorded.pending.iter().map(Undo::of).collect(),
        }
    }
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
