//! `if-path` and `if-unit`: whether a step has anything to do on this machine.

use std::time::Duration;

use crate::config::facts::Facts;
use crate::model::deadline::{Deadline, Reason};
use crate::model::error::Failure;
use crate::plan::step::Step;
use crate::sys::cancel::Cancel;
use crate::sys::probe;
use crate::sys::systemd::{self, Manager};

/// How long a check may take; the rest of the step's time is for the step itself.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why the step is skipped; `None` when it is to run.
///
/// # Errors
/// If a fact in a condition cannot be resolved, or the path's file system does not answer.
pub fn unmet(
    step: &Step,
    facts: &Facts,
    deadline: Deadline,
    cancel: &Cancel,
) -> Result<Option<String>, Failure> {
    let deadline = deadline.earlier(Deadline::after(PATIENCE, Reason::Attempt));
    if let Some(path) = &step.if_path {
        let path = path.get(facts)?;
        let subject = format!("if-path {}", path.display());
        let exists = probe::exists(&path, deadline, cancel);
        let exists = exists.map_err(|error| error.failure(subject))?;
        if !exists {
            return Ok(Some(format!("{} does not exist", path.display())));
        }
    }
    let Some(unit) = &step.if_unit else {
        return Ok(None);
    };
    let unit = unit.get(facts)?;
    if !systemd::is_booted() {
        return Ok(Some(format!(
            "systemd is not running on this machine, so {unit} is not loaded"
        )));
    }
    let found = Manager::connect(deadline).and_then(|manager| manager.unit(&unit, deadline));
    match found {
        Ok(state) if state.load != "loaded" || state.active == "inactive" => {
            Ok(Some(format!("{unit} is {}, {}", state.load, state.active)))
        }
        Ok(_) => Ok(None),
        Err(cause) => {
            // An unnecessary step is better than a member that did not leave.
            log::warn!(
                "step {} runs without knowing whether {unit} is active: {cause}",
                step.name
            );
            Ok(None)
        }
    }
}
