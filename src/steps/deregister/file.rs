//! `file`: removes an entry that is a file, often on a shared file system (Prometheus' file_sd, a lock directory).

use std::path::{Path, PathBuf};

use crate::config::section::{self, Field, Secrecy, Section};
use crate::model::error::{ErrorKind, Failure};
use crate::step::{Action, AttemptContext, AttemptPolicy, Dependencies, Member, Outcome, StepSpec};
use crate::sys::mounts::Mounts;
use crate::sys::probe::{self, ProbeError, Removal};

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

fn read(section: &Section<'_>) -> Option<StepSpec> {
    let path = section.required("path", |section, key| {
        section.text(key, file, Secrecy::Public)
    })?;
    let dependencies = Dependencies {
        paths: vec![path.clone()],
        ..Dependencies::default()
    };
    Some(StepSpec {
        dependencies,
        ..StepSpec::new(Entry { path }, AttemptPolicy::Retried)
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
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let path = self.path.get(context.facts)?;
        let error = |error| failed(&path, &error);
        let removal = probe::remove(&path, context.request(), context.cancel).map_err(error)?;
        match removal {
            Removal::NoParent => return Err(no_directory(&path)),
            Removal::AlreadyGone => return Ok(Outcome::AlreadyDone),
            Removal::Removed => {}
        }
        // The writer of the entry may have created it again.
        if probe::remains(&path, context.request(), context.cancel).map_err(error)? {
            let cause = "was removed, and is there again";
            return Err(
                Failure::new(ErrorKind::Io, path.display().to_string(), cause).retryable(true),
            );
        }
        Ok(Outcome::Done)
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let path = self.path.get(context.facts)?;
        let prospect = probe::prospect(&path, context.request(), context.cancel)
            .map_err(|error| failed(&path, &error))?;
        let there = match prospect.removal {
            Removal::NoParent => return Err(no_directory(&path)),
            Removal::AlreadyGone => {
                context.warn_of_absence(&path.display().to_string(), "`path`");
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

fn failed(path: &Path, error: &ProbeError) -> Failure {
    error.failure(path.display().to_string())
}

fn no_directory(path: &Path) -> Failure {
    let parent = path.parent().unwrap_or(path).display();
    let cause = format!("{parent} does not exist: is the file system mounted?");
    Failure::new(ErrorKind::Io, path.display().to_string(), cause).retryable(true)
}
