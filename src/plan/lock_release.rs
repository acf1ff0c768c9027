//! The implicit last steps of a plan, which release locks.

use std::path::PathBuf;
use std::time::Duration;

use super::step::Step;
use super::steps::Draft;
use crate::config::problem::{Problem, Severity};
use crate::model::trigger::Trigger;

/// The time limit of a release. It comes out of the reserve.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Appends the releases, side by side after all other steps.
pub fn append(steps: &mut Vec<Step>) {
    let others: Vec<usize> = (0..steps.len()).collect();
    let releases: Vec<Step> = steps.iter().filter_map(|it| release(it, &others)).collect();
    steps.extend(releases);
}

fn release(step: &Step, others: &[usize]) -> Option<Step> {
    let held = step.held.as_ref()?;
    // No step of a file can have this name: it contains a space.
    let name = format!("release {}", step.name);
    Some(Step {
        after: others.to_vec(),
        when: step.when.clone(),
        always: true,
        is_release: true,
        ..Step::new(name, step.kind, held.release.clone(), TIMEOUT)
    })
}

/// Warns of locks that are released while the application still runs: systemd stops it only after farewell, beside
/// that of the next member, which has the lock by then.
pub fn warn(drafts: &[Draft], problems: &mut Vec<Problem>) {
    let steps = || drafts.iter().filter_map(|it| it.step.as_ref());
    if drafts.iter().any(|it| it.step.is_none()) {
        return;
    }
    let may_stop = |trigger| steps().any(|step| step.may_stop && step.when.contains(&trigger));
    for draft in drafts {
        let Some(lock) = draft.step.as_ref().filter(|it| it.held.is_some()) else {
            continue;
        };
        // On the others it is held over the boot.
        let releasing = lock.when.iter().copied().filter(|it| !it.restarts());
        let running: Vec<&str> = releasing
            .filter(|trigger| !may_stop(*trigger))
            .map(Trigger::as_str)
            .collect();
        if running.is_empty() {
            continue;
        }
        let when = if steps().any(|step| step.may_stop) {
            format!(" on {}", running.join(", "))
        } else {
            String::new()
        };
        problems.push(Problem {
            severity: Severity::Warning,
            file: PathBuf::from(&draft.file),
            line: draft.lines[0],
            step: Some(format!("\"{}\"", draft.name)),
            key: None,
            message: format!(
                "no step stops the application{when}, so that it still runs when this lock is released, and the next \
                 member gets it: add a stop-unit step after it"
            ),
        });
    }
}
