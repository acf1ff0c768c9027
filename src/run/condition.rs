//! `if-path` and `if-unit`: whether a step has anything to do on this machine.

use crate::config::facts::Facts;
use crate::deadline::Deadline;
use crate::failure::Failure;
use crate::plan::sequence::Step;
use crate::sys::cancel::Cancel;

/// Why the step is skipped; `None` when it is to run.
///
/// # Errors
/// When a fact in a condition cannot be had.
pub fn unmet(
    step: &Step,
    facts: &Facts,
    deadline: Deadline,
    cancel: &Cancel,
) -> Result<Option<String>, Failure> {
    let _ = (step, facts, deadline, cancel);
    Ok(None)
}
