//! A run as `farewell report --json` and `farewell status --json` print it.

use serde::Serialize;

use super::line::usec;
use super::pending::{PendingUndo, UndoState};
use super::recorded_run::Past;
use crate::model::event::Copied;
use crate::sys::clock::rfc3339;

/// One run. Every member but `reason` and `undo` is always there.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// The run's id.
    pub run: String,
    /// Why it took place.
    pub trigger: &'static str,
    /// ok, failed, cut-short; running while it runs; cut-off where the record ends before the run did.
    pub result: &'static str,
    /// Why it was cut short, or where the record ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The wall clock at its start, RFC 3339.
    pub started: String,
    /// From its start to its end, or to the last line of its record.
    pub duration_usec: u64,
    /// What it might take in all.
    pub budget_usec: u64,
    /// The steps in the plan's order.
    pub steps: Vec<Step>,
    /// What the operator was warned of.
    pub warnings: Vec<String>,
    /// What the run has left behind, where it has left anything.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub undo: Vec<Undo>,
}

/// Something that a run may have left behind.
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

/// One step of a run. Times are counted from the run's start; those of a step that was not begun are null.
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
    /// The files that it has copied, the first ones of many.
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
    /// The summary of a record; `running` where its run is in progress.
    pub fn of(past: &Past, running: bool) -> Summary {
        let progress = &past.progress;
        let (result, reason) = match progress.result {
            Some(result) => (result.as_str(), progress.reason.clone()),
            None if running => ("running", None),
            None => ("cut-off", Some(past.cut_off_at())),
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
            undo: past.pending.iter().map(Undo::of).collect(),
        }
    }
}
