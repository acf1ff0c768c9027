//! Pending undos: the intents in records, and what has been undone since.
//!
//! An intent is pending from its line in the record on, whatever became of its step, until the record says that it was
//! settled, or the file `RUN.undone` beside it that it was undone. That file has a line of JSON for each: `step`,
//! `number` and `undone` (the wall clock, RFC 3339). The record itself is never changed.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::record::line::{Entry, Line};
use super::reserved_space;
use crate::model::intent::{Datum, Intent};
use crate::model::machine::Machine;
use crate::sys::clock::{parse_rfc3339, rfc3339};
use crate::sys::files;

/// What became of an intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UndoState {
    /// It is to be undone.
    Pending,
    /// The run itself recorded that there is nothing to undo.
    Settled,
    /// It was undone, at that time.
    Undone(SystemTime),
}

/// Something that a run may have left to undo.
#[derive(Clone, Debug)]
pub struct PendingUndo {
    /// The record that contains it.
    pub record: PathBuf,
    /// The name of the step that left it.
    pub step: String,
    /// The step's kind.
    pub kind: String,
    /// Which of the step's intents.
    pub number: u32,
    /// What it is.
    pub intent: Intent,
    /// When it was intended.
    pub since: SystemTime,
    /// What became of it.
    pub state: UndoState,
}

#[derive(Serialize, Deserialize)]
struct Undone {
    step: String,
    number: u32,
    undone: String,
}

impl PendingUndo {
    /// The object that it is about. In a record of the first format, which did not have it, all data of the undo must
    /// be equal, except for a Nomad drain, where each run found another eligibility.
    pub fn thing(&self) -> String {
        let Intent {
            member,
            thing,
            what,
            ..
        } = &self.intent;
        if !thing.is_empty() {
            return thing.clone();
        }
        let node = what.get("node").and_then(Datum::text);
        match node.filter(|_| member == "nomad") {
            Some(node) => format!("node {node}"),
            None => Datum::Table(what.clone()).to_string(),
        }
    }

    /// Records that it is undone, and returns when that is on disk.
    pub fn close(&self) -> io::Result<()> {
        let path = undone(&self.record);
        let mut line = serde_json::to_vec(&Undone {
            step: self.step.clone(),
            number: self.number,
            undone: rfc3339(SystemTime::now()),
        })?;
        line.push(b'\n');
        // An incomplete last line must not damage this one.
        if read_if_there(&path)?.is_some_and(|text| !text.is_empty() && !text.ends_with('\n')) {
            line.insert(0, b'\n');
        }
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(files::NO_LINK)
            .open(&path)?;
        file.write_all(&line)?;
        file.sync_all()?;
        path.parent().map_or(Ok(()), files::sync_directory)
    }
}

/// The file that lists what of a record was undone.
pub fn undone(record: &Path) -> PathBuf {
    record.with_extension("undone")
}

/// Whether something in a record is pending, for any machine; `true` if the record cannot be read.
pub fn is_pending(record: &Path) -> bool {
    read(record).map_or(true, |(_, pending)| {
        pending.iter().any(|it| it.state == UndoState::Pending)
    })
}

/// The machine of a record, and what its run has left, in order. Incomplete lines are ignored.
pub fn read(record: &Path) -> io::Result<(Machine, Vec<PendingUndo>)> {
    let bytes = fs::read(record)?;
    let text = String::from_utf8_lossy(reserved_space::written(&bytes)).into_owned();
    let (mut machine, mut started) = (Machine::default(), SystemTime::UNIX_EPOCH);
    let mut pending: Vec<PendingUndo> = Vec::new();
    // Most runs leave nothing, and need no parsing.
    if !text.contains("\"intended\"") {
        return Ok((machine, pending));
    }
    for line in lines::<Line<'_>>(&text) {
        match line.entry {
            Entry::RunStarted {
                machine: owner,
                started: at,
                ..
            } => {
                machine = owner.into_owned();
                started = parse_rfc3339(&at).unwrap_or(started);
            }
            Entry::Intended {
                step,
                kind,
                number,
                intent,
            } => pending.push(PendingUndo {
                record: record.to_owned(),
                step: step.into_owned(),
                kind: kind.into_owned(),
                number,
                intent: intent.into_owned(),
                since: started + Duration::from_micros(line.at_usec),
                state: UndoState::Pending,
            }),
            Entry::Settled { step, number } => {
                change(&mut pending, &step, number, UndoState::Settled);
            }
            _ => {}
        }
    }
    if let Some(text) = read_if_there(&undone(record))? {
        for line in lines::<Undone>(&text) {
            let at = parse_rfc3339(&line.undone).unwrap_or(SystemTime::UNIX_EPOCH);
            change(&mut pending, &line.step, line.number, UndoState::Undone(at));
        }
    }
    Ok((machine, pending))
}

/// What became of one that was pending.
fn change(pending: &mut [PendingUndo], step: &str, number: u32, state: UndoState) {
    pending
        .iter_mut()
        .filter(|it| it.step == step && it.number == number && it.state == UndoState::Pending)
        .for_each(|it| it.state = state);
}

fn lines<'a, T: Deserialize<'a>>(text: &'a str) -> impl Iterator<Item = T> {
    text.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .filter_map(|line| serde_json::from_str(line).ok())
}

fn read_if_there(path: &Path) -> io::Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
