//! `${step:STEP.NAME}`: that the step exists, captures it, and has ended before.

use super::steps::Draft;
use crate::config::problem::{Problem, Severity};
use crate::config::section::CapturedUse;
use crate::config::suggestion::did_you_mean;
use crate::config::template::Fact;

/// Reports every use of what another step captures that comes to nothing. `after`: for each draft, those that it waits for.
pub fn check(drafts: &[Draft], after: &[Vec<usize>], problems: &mut Vec<Problem>) {
    for (at, draft) in drafts.iter().enumerate() {
        for captured in &draft.captured {
            problems.extend(problem(drafts, after, at, captured));
        }
    }
}

fn problem(
    drafts: &[Draft],
    after: &[Vec<usize>],
    at: usize,
    captured: &CapturedUse,
) -> Option<Problem> {
    let Fact::Step(step, name) = &captured.fact else {
        return None;
    };
    let draft = &drafts[at];
    let report = |severity, message| {
        Some(Problem {
            severity,
            file: draft.file.clone(),
            line: captured.line,
            step: Some(format!("{:?}", draft.name)),
            key: Some(captured.key.clone()),
            message,
        })
    };
    let error = |message| report(Severity::Error, message);
    let fact = &captured.fact;
    let Some(source) = drafts.iter().position(|it| it.name == *step) else {
        let names = drafts.iter().map(|it| it.name.as_str());
        let hint = did_you_mean(step, names);
        return error(format!("{fact}: unknown step `{step}`{hint}"));
    };
    // What is wrong with that step itself is told there.
    let names = &drafts[source].step.as_ref()?.captures;
    let Some(capture) = names.iter().find(|it| it.name == *name) else {
        let hint = did_you_mean(name, names.iter().map(|it| it.name.as_str()));
        return error(format!(
            "{fact}: the step `{step}` captures no `{name}`{hint}"
        ));
    };
    if !is_before(source, at, after) {
        return error(match source == at {
            true => format!("{fact}: a step cannot use what it captures itself"),
            false => format!(
                "{fact}: this step may begin before `{step}` has ended; add it to `after`: after = [{step:?}]"
            ),
        });
    }
    if capture.is_secret && captured.is_public {
        return error(format!(
            "{fact}: a secret is not allowed here, where others can see it; a command gets it through `environment`, a request \
             in `headers`, `password` or its body"
        ));
    }
    let leaves = draft.step.as_ref().is_some_and(|it| it.is_undone);
    if capture.is_secret && leaves {
        return report(
            Severity::Warning,
            format!(
                "{fact}: a captured secret is recorded nowhere, so that `farewell start` cannot undo what this step leaves: undo it \
                 by hand, or use a credential"
            ),
        );
    }
    None
}

/// Whether a step has ended whenever another one begins.
fn is_before(step: usize, other: usize, after: &[Vec<usize>]) -> bool {
    let mut seen = vec![false; after.len()];
    let mut queue = vec![other];
    while let Some(at) = queue.pop() {
        for earlier in &after[at] {
            if *earlier == step {
                return true;
            }
            if !std::mem::replace(&mut seen[*earlier], true) {
                queue.push(*earlier);
            }
        }
    }
    false
}
