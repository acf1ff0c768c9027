//! Pending undos in all records of a store.

use std::io;
use std::path::PathBuf;

use super::pending::{PendingUndo, UndoState, read};
use super::state_dir::Store;
use crate::model::machine::{Machine, Relation};

/// The pending undos in all records of a store.
#[derive(Debug, Default)]
pub struct Survey {
    /// What this machine has left, oldest first.
    pub pending: Vec<PendingUndo>,
    /// What another machine has left, whose disk was copied to this one: not to be undone here.
    pub foreign: Vec<PendingUndo>,
    /// What was left under this machine's id on other hardware, or on an unknown machine: a person must decide whether
    /// it is to be undone here.
    pub moved: Vec<(PendingUndo, Machine)>,
    /// Records that cannot be read, and why. Something may be pending in them.
    pub unreadable: Vec<(PathBuf, io::Error)>,
}

impl Survey {
    /// Reads the records of a store.
    ///
    /// # Errors
    /// If the store cannot be read, or others could have written it; a missing one has no records.
    pub fn of(store: &Store, machine: &Machine) -> io::Result<Survey> {
        // A file that others could have written is not trusted.
        store.examine()?;
        let mut survey = Survey::default();
        for id in store.ids()? {
            let path = store.path(&id);
            match read(&path) {
                Ok((owner, pending)) => {
                    let pending = pending
                        .into_iter()
                        .filter(|it| it.state == UndoState::Pending);
                    match owner.relation(machine) {
                        Relation::Same => survey.pending.extend(pending),
                        Relation::Another => survey.foreign.extend(pending),
                        Relation::Moved | Relation::Unknown => {
                            survey.moved.extend(pending.map(|it| (it, owner.clone())));
                        }
                    }
                }
                // It was pruned since the directory was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => survey.unreadable.push((path, error)),
            }
        }
        Ok(survey)
    }
}
