//! `file`: removes an entry that is a file, often on a shared file system (Prometheus' file_sd, a lock directory).

use std::path::{Path, PathBuf};

use crate::config::section::{self, Field, Secrecy, Section};
use crate::model::error::{Failure, Word};
use crate::step::{Action, Blueprint, Effect, Member, Pace, Scope, Ties};
use crate::sys::mounts::Mounts;
use crate::sys::probe::{self, Removal, Trouble};

/// The registry's entry in the table. Its keys:
///
/// - `path` (path; required): the file, which is removed
pub const MEMBER: Member = Member {
    name: "file",
    read,
    undo: None,
};

struct Entry {
    path: Field<PathBuf>,
}

fn read(section: &Section<'_>) -> Option<Blueprint> {
    let path = section.required("path", |section, key| {
        section.text(key, file, Secrecy::Public)
    })?;
    let ties = Ties {
        paths: vec![path.clone()],
        ..Ties::default()
    };
    Some(Blueprint {
        ties,
        ..Blueprint::new(Entry { path }, Pace::Retried)
    })
}

fn file(text: &str) -> Result<PathBuf, String> {
    let path = section::path(text)?;
    if path.file_name().is_none() || text.ends_with('/') {
        return Err(format!("`{text}` is the path of a directory"));
    }
    Ok(path)
}

impl Action for Entry {
    fn attempt(&self, scope: &Scope<'_>) -> Result<Effect, Failure> {
        let path = self.path.get(scope.facts)?;
        let trouble = |trouble| failed(&path, trouble);
        let removal = probe::remove(&path, scope.request(), scope.cancel).map_err(trouble)?;
        match removal {
            Removal::NoParent => return Err(no_directory(&path)),
            Removal::AlreadyGone => return Ok(Effect::AlreadyDone),
            Removal::Removed => {}
        }
        // Whoever keeps the entry alive may have written it anew.
        if probe::remains(&path, scope.request(), scope.cancel).map_err(trouble)? {
            let cause = "was removed, and is there again";
            return Err(Failure::new(Word::Io, path.display().to_string(), cause).passing(true));
        }
        Ok(Effect::Done)
    }

    fn rehearse(&self, scope: &Scope<'_>) -> Result<String, Failure> {
        let path = self.path.get(scope.facts)?;
        let prospect = probe::prospect(&path, scope.request(), scope.cancel)
            .map_err(|trouble| failed(&path, trouble))?;
        let there = match prospect.removal {
            Removal::NoParent => return Err(no_directory(&path)),
            Removal::AlreadyGone => {
                scope.warn_of_absence(&path.display().to_string(), "`path`");
                "is not there: nothing to leave yet"
            }
            Removal::Removed => "is there and can be removed",
        };
        let mounts = Mounts::read().unwrap_or_default();
        let on = mounts.with_id(prospect.mount).map(ToString::to_string);
        let on = on.unwrap_or_else(|| "a mount that nothing is known of".to_owned());
        let path = path.display();
        Ok(format!(
            "{path} {there}; its directory can be written and is on {on}"
        ))
    }
}

fn failed(path: &Path, trouble: Trouble) -> Failure {
    let word = match trouble {
        Trouble::TimedOut(_) | Trouble::Cancelled => Word::TimedOut,
        Trouble::Io(_) => Word::Io,
    };
    Failure::new(word, path.display().to_string(), trouble.to_string())
}

fn no_directory(path: &Path) -> Failure {
    let parent = path.parent().unwrap_or(path).display();
    let cause = format!("{parent} does not exist: is the file system mounted?");
    Failure::new(Word::Io, path.display().to_string(), cause).passing(true)
}
