//! What is wrong with a configuration, and where.

use std::fmt;
use std::path::PathBuf;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It can be run, but is probably not what is meant.
    Warning,
    /// It cannot be run.
    Error,
}

/// One thing that is wrong, displayed as `FILE:LINE: step "NAME": key "KEY": MESSAGE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The file.
    pub file: PathBuf,
    /// The line in it, from 1; 0 where it is the file as a whole.
    pub line: usize,
    /// The step, by its name or else by its number in the file.
    pub step: Option<String>,
    /// The key, with those of the tables around it: `until.status`.
    pub key: Option<String>,
    /// What is wrong and, where it is known, what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.file.display())?;
        if self.line > 0 {
            write!(out, ":{}", self.line)?;
        }
        write!(out, ": ")?;
        if self.severity == Severity::Warning {
            write!(out, "warning: ")?;
        }
        if let Some(step) = &self.step {
            write!(out, "step {step}: ")?;
        }
        if let Some(key) = &self.key {
            write!(out, "key \"{key}\": ")?;
        }
        out.write_str(&self.message)
    }
}
