//! What is wrong with a configuration, and where.

use std::fmt;
use std::path::PathBuf;

use crate::text::sanitize::plain;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It can run, but is probably not what is meant.
    Warning,
    /// It cannot run.
    Error,
}

/// One problem, displayed as `FILE:LINE: step "NAME": key "KEY": MESSAGE`, on one line and without terminal escapes:
/// names and keys come from the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    pub file: PathBuf,
    /// The line in it, from 1; 0 for the file as a whole.
    pub line: usize,
    /// The step, by its name or else by its number in the file.
    pub step: Option<String>,
    /// The full key: `until.status`.
    pub key: Option<String>,
    /// What is wrong and, if known, what would be right.
    pub message: String,
}

impl Problem {
    /// The problem without its severity, for callers that show it in another way.
    pub fn sentence(&self) -> String {
        self.print("")
    }

    fn print(&self, severity: &str) -> String {
        let mut text = self.file.display().to_string();
        if self.line > 0 {
            text += &format!(":{}", self.line);
        }
        text += &format!(": {severity}");
        if let Some(step) = &self.step {
            text += &format!("step {step}: ");
        }
        if let Some(key) = &self.key {
            text += &format!("key \"{key}\": ");
        }
        plain(&(text + &self.message)).into_owned()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning: ",
            Severity::Error => "",
        };
        out.write_str(&self.print(severity))
    }
}
