//! Collects problems while the tables of one step are read.

use std::cell::RefCell;
use std::path::Path;

use super::field::Check;
use crate::config::credential_hosts::Hosts;
use crate::config::facts::Facts;
use crate::config::problem::{Problem, Severity};
use crate::config::template::Fact;

/// Collects problems and checks while the tables of one step (or of `[farewell]`) are read.
pub struct Reading<'a> {
    pub(super) file: &'a Path,
    step: Option<String>,
    /// Facts for strings that the plan itself needs; `None` on a build machine, where they are not known yet.
    pub(super) facts: Option<&'a Facts>,
    pub(super) credential_hosts: Hosts,
    found: RefCell<Found>,
}

#[derive(Default)]
struct Found {
    problems: Vec<Problem>,
    checks: Vec<Check>,
    captured: Vec<CapturedUse>,
}

/// A place where something stands that another step is to capture.
#[derive(Clone, Debug)]
pub struct CapturedUse {
    /// The fact.
    pub fact: Fact,
    /// Its line.
    pub line: usize,
    /// Its key.
    pub key: String,
    /// Whether others can see it there.
    pub is_public: bool,
}

impl<'a> Reading<'a> {
    /// A reading of a step, or of `[farewell]` if `step` is `None`.
    pub fn new(file: &'a Path, step: Option<String>, facts: Option<&'a Facts>) -> Self {
        Reading {
            file,
            step,
            facts,
            credential_hosts: Hosts::default(),
            found: RefCell::default(),
        }
    }

    /// Adds the hosts in `[farewell]` to which credentials may be sent.
    pub fn with_credential_hosts(self, hosts: &Hosts) -> Self {
        Reading {
            credential_hosts: hosts.clone(),
            ..self
        }
    }

    /// Reports something wrong with the whole step.
    pub fn problem(&self, line: usize, key: Option<String>, message: impl Into<String>) {
        self.report(Severity::Error, line, key, message.into());
    }

    /// Reports something that can run, but is probably not what is meant.
    pub(super) fn warning(&self, line: usize, key: String, message: String) {
        self.report(Severity::Warning, line, Some(key), message);
    }

    fn report(&self, severity: Severity, line: usize, key: Option<String>, message: String) {
        self.found.borrow_mut().problems.push(Problem {
            severity,
            file: self.file.to_owned(),
            line,
            step: self.step.clone(),
            key,
            message,
        });
    }

    /// Removes a problem with a key, for which there is a better explanation.
    pub(super) fn retract(&self, key: &str, message: &str) {
        self.found
            .borrow_mut()
            .problems
            .retain(|problem| problem.key.as_deref() != Some(key) || problem.message != message);
    }

    /// Adds a check for later.
    pub(super) fn check(&self, check: Check) {
        self.found.borrow_mut().checks.push(check);
    }

    pub(super) fn uses_captured(&self, captured: CapturedUse) {
        self.found.borrow_mut().captured.push(captured);
    }

    /// What other steps are to capture for this one, so far.
    pub fn captured(&self) -> Vec<CapturedUse> {
        self.found.borrow().captured.clone()
    }

    /// The problems so far, and the checks to run when the facts are known.
    pub fn finish(self) -> (Vec<Problem>, Vec<Check>) {
        let found = self.found.into_inner();
        (found.problems, found.checks)
    }
}
