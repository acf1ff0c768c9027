//! `registry = "file"`: an entry that is a file, often on a shared file system (Prometheus' file_sd, a lock directory).

use std::path::PathBuf;

use crate::config::section::{self, Field, Secrecy, Section};
use crate::failure::{Failure, Word};
use crate::registry::{self, Registration, Registry};
use crate::step::{Effect, Scope, Ties};
use crate::sys::guarded::{self, Removal, Trouble};

/// The registry's entry in the table.
pub const REGISTRY: Registry = Registry { name: "file", read };

struct Entry {
    /// `path`: the absolute path of the file, which is removed.
    path: Field<PathBuf>,
}

fn read(section: &Section<'_>) -> Option<registry::Entry> {
    let path = section.required("path", |section, key| {
        section.text(key, file, Secrecy::Public)
    })?;
    let ties = Ties {
        paths: vec![path.clone()],
        ..Ties::default()
    };
    Some(registry::Entry {
        registration: Box::new(Entry { path }),
        ties,
    })
}

fn file(text: &str) -> Result<PathBuf, String> {
    let path = section::path(text)?;
    if path.file_name().is_none() || text.ends_with('/') {
        return Err(format!("`{text}` is the path of a directory"));
    }
    Ok(path)
}

impl Registration for Entry {
    fn leave(&self, scope: &Scope<'_>) -> Result<Effect, Failure> {
        let path = self.path.get(scope.facts)?;
        let noun = path.display().to_string();
        let trouble = |trouble: Trouble| {
            let cause = trouble.to_string();
            match trouble {
                Trouble::TimedOut(_) | Trouble::Cancelled => {
                    Failure::new(Word::TimedOut, &noun, cause)
                }
                Trouble::Io(_) => Failure::new(Word::Io, &noun, cause),
            }
        };
        let removal = guarded::remove(&path, scope.request(), scope.cancel).map_err(trouble)?;
        match removal {
            Removal::NoParent => {
                let parent = path.parent().unwrap_or(&path).display();
                let cause = format!("{parent} does not exist: is the file system mounted?");
                return Err(Failure::new(Word::Io, &noun, cause).passing(true));
            }
            Removal::AlreadyGone => return Ok(Effect::AlreadyDone),
            Removal::Removed => {}
        }
        // Whoever keeps the entry alive may have written it anew.
        if guarded::remains(&path, scope.request(), scope.cancel).map_err(trouble)? {
            let cause = "was removed, and is there again";
            return Err(Failure::new(Word::Io, &noun, cause).passing(true));
        }
        Ok(Effect::Done)
    }
}
