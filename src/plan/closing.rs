//! The end of a sequence that no file says: what steps hold is given back as the run's last act.

use std::path::PathBuf;
use std::time::Duration;

use super::sequence::{Draft, OnFailure, Step, attempt_timeout};
use crate::config::problem::{Problem, Severity};
use crate::step::{Pace, Ties};

/// What a closing may take. It is paid from the reserve.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Appends the closings that steps owe, side by side behind all other steps.
pub fn append(steps: &mut Vec<Step>) {
    let others: Vec<usize> = (0..steps.len()).collect();
    let closings: Vec<Step> = steps.iter().filter_map(|it| closing(it, &others)).collect();
    steps.extend(closings);
}

fn closing(step: &Step, others: &[usize]) -> Option<Step> {
    let aftermath = step.aftermath.as_ref()?;
    Some(Step {
        // No step of a file can have this name, for there is a space in it.
        name: format!("release {}", step.name),
        kind: step.kind,
        after: others.to_vec(),
        timeout: TIMEOUT,
        attempt_timeout: attempt_timeout(TIMEOUT),
        attempts: None,
        on_failure: OnFailure::Continue,
        when: step.when.clone(),
        if_path: None,
        if_unit: None,
        always: true,
        needs: Vec::new(),
        action: aftermath.closing.clone(),
        pace: Pace::Retried,
        grace: Duration::ZERO,
        ties: Ties::default(),
        may_stop: false,
        aftermath: None,
        is_permanent: false,
        is_closing: true,
    })
}

/// Warns of locks that are given back while the application still runs: systemd stops it only after farewell, beside
/// that of the next member, which has the lock by then.
pub fn warn(drafts: &[Draft], problems: &mut Vec<Problem>) {
    let steps = || drafts.iter().filter_map(|it| it.step.as_ref());
    if drafts.iter().any(|it| it.step.is_none()) || steps().any(|step| step.may_stop) {
        return;
    }
    for draft in drafts {
        if draft.step.as_ref().is_none_or(|it| it.aftermath.is_none()) {
            continue;
        }
        problems.push(Problem {
            severity: Severity::Warning,
            file: PathBuf::from(&draft.file),
            line: draft.lines[0],
            step: Some(format!("\"{}\"", draft.name)),
            key: None,
            message: "no step stops the application, so that it still runs when this lock is released and the next \
                      member gets it: add a stop-unit step behind it"
                .to_owned(),
        });
    }
}
