//! The configuration file of a balancer that has no API to change it.

use std::io;
use std::path::{Path, PathBuf};

use crate::model::error::{ErrorKind, Failure};
use crate::step::AttemptContext;
use crate::sys::edited_file::{EditedFile, Reading};
use crate::sys::probe::{self, Removal};

/// The path of the file, and the failures that are about it.
pub(super) struct ConfigFile(pub(super) PathBuf);

impl ConfigFile {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn failed(&self, kind: ErrorKind, cause: impl ToString) -> Failure {
        Failure::new(kind, self.0.display().to_string(), cause.to_string())
    }

    pub(super) fn refused(&self, cause: impl ToString) -> Failure {
        self.failed(ErrorKind::Refused, cause)
    }

    fn missing(&self) -> Failure {
        self.failed(ErrorKind::Io, "there is no such file")
    }

    /// The failure to replace the file; retryable if another program has changed it in between.
    pub(super) fn not_written(&self, error: &io::Error) -> Failure {
        let passes = error.kind() == io::ErrorKind::ResourceBusy;
        self.failed(ErrorKind::Io, error).retryable(passes)
    }

    /// Reads the file; `None` if it does not exist.
    pub(super) fn read(&self) -> Result<Option<(EditedFile, Reading)>, Failure> {
        let io = |error| self.failed(ErrorKind::Io, error);
        let file = EditedFile::at(&self.0).map_err(io)?;
        let reading = file.read().map_err(io)?;
        Ok(reading.map(|reading| (file, reading)))
    }

    /// Reads the file, which must exist.
    pub(super) fn must_read(&self) -> Result<(EditedFile, Reading), Failure> {
        self.read()?.ok_or_else(|| self.missing())
    }

    /// Checks that the file can be replaced in its directory.
    pub(super) fn check_replaceable(&self, context: &AttemptContext<'_>) -> Result<(), Failure> {
        let prospect = probe::prospect(&self.0, context.request(), context.cancel);
        let prospect = prospect.map_err(|it| it.failure(self.0.display().to_string()))?;
        match prospect.removal {
            Removal::Removed => Ok(()),
            Removal::AlreadyGone | Removal::NoParent => Err(self.missing()),
        }
    }
}
