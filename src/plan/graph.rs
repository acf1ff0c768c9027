//! The graph of the steps: names to indices, cycles, and the worst case.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use super::captures;
use super::step::Step;
use super::steps::Draft;
use crate::config::problem::{Problem, Severity};
use crate::config::suggestion::did_you_mean;
use crate::model::trigger::Trigger;

/// The steps in an order in which each one comes after those it waits for, as near to the text's order as that
/// allows, with their `after` filled in. Unknown names and cycles are reported; there is no order while a step is wrong or a
/// cycle is left.
///
/// The names in `duplicates` are checked too; these steps are not part of the order.
pub fn arrange(drafts: Vec<Draft>, duplicates: &[Draft], problems: &mut Vec<Problem>) -> Vec<Step> {
    let after = edges(&drafts, duplicates, problems);
    let order = sorted(&after);
    if order.len() < drafts.len() {
        problems.push(cycle(&drafts, &after));
        return Vec::new();
    }
    captures::check(&drafts, &after, problems);
    if drafts.iter().any(|draft| draft.step.is_none()) {
        return Vec::new();
    }
    let mut place = vec![0; order.len()];
    for (new, old) in order.iter().enumerate() {
        place[*old] = new;
    }
    let mut steps: Vec<Option<Step>> = drafts.iter().map(|_| None).collect();
    for (old, draft) in drafts.into_iter().enumerate() {
        if let Some(mut step) = draft.step {
            step.after = after[old].iter().map(|before| place[*before]).collect();
            step.after.sort_unstable();
            step.after.dedup();
            steps[place[old]] = Some(step);
        }
    }
    steps.into_iter().flatten().collect()
}

/// For each draft, those that it waits for.
fn edges(drafts: &[Draft], duplicates: &[Draft], problems: &mut Vec<Problem>) -> Vec<Vec<usize>> {
    let index: HashMap<&str, usize> = drafts
        .iter()
        .enumerate()
        .map(|(at, it)| (it.name.as_str(), at))
        .collect();
    let mut find = |draft: &Draft, name: &str, key: &str, line: usize| {
        let found = index.get(name).copied().filter(|_| name != draft.name);
        if found.is_none() {
            let message = if name == draft.name {
                "a step cannot name itself".to_owned()
            } else {
                format!(
                    "unknown step `{name}`{}",
                    did_you_mean(name, index.keys().copied())
                )
            };
            problems.push(problem(draft, key, line, message));
        }
        found
    };
    for draft in duplicates {
        for name in &draft.before {
            find(draft, name, "before", draft.lines[2]);
        }
        for name in draft.after.iter().flatten() {
            find(draft, name, "after", draft.lines[1]);
        }
    }
    let mut after = vec![Vec::new(); drafts.len()];
    for (at, draft) in drafts.iter().enumerate() {
        for name in &draft.before {
            if let Some(later) = find(draft, name, "before", draft.lines[2]) {
                after[later].push(at);
            }
        }
        match &draft.after {
            Some(names) => {
                let found: Vec<_> = names
                    .iter()
                    .filter_map(|name| find(draft, name, "after", draft.lines[1]))
                    .collect();
                after[at].extend(found);
            }
            // A step with `before` alone does not wait for the one above it.
            None if at > 0 && draft.before.is_empty() => after[at].push(at - 1),
            None => {}
        }
    }
    after
}

/// The indices in an order that follows the edges; those in a cycle, or behind one, are missing.
fn sorted(after: &[Vec<usize>]) -> Vec<usize> {
    let mut waits: Vec<usize> = after.iter().map(Vec::len).collect();
    let mut followers = vec![Vec::new(); after.len()];
    for (at, earlier) in after.iter().enumerate() {
        for earlier in earlier {
            followers[*earlier].push(at);
        }
    }
    let mut free: BinaryHeap<_> = (0..after.len())
        .filter(|at| waits[*at] == 0)
        .map(Reverse)
        .collect();
    let mut order = Vec::with_capacity(after.len());
    while let Some(Reverse(at)) = free.pop() {
        order.push(at);
        for follower in &followers[at] {
            waits[*follower] -= 1;
            if waits[*follower] == 0 {
                free.push(Reverse(*follower));
            }
        }
    }
    order
}

/// One cycle, step by step. Only called when there is one.
fn cycle(drafts: &[Draft], after: &[Vec<usize>]) -> Problem {
    let order = sorted(after);
    let stuck: Vec<bool> = (0..after.len()).map(|at| !order.contains(&at)).collect();
    // A stuck step waits for another stuck step, so following them must come back to a visited one.
    let mut path = vec![stuck.iter().position(|stuck| *stuck).unwrap_or_default()];
    let first = loop {
        let last = path[path.len() - 1];
        let next = after[last]
            .iter()
            .copied()
            .find(|at| stuck[*at])
            .unwrap_or(last);
        if let Some(first) = path.iter().position(|at| *at == next) {
            break first;
        }
        path.push(next);
    };
    let mut path = path.split_off(first);
    path.reverse();
    let least = path
        .iter()
        .enumerate()
        .min_by_key(|(_, at)| **at)
        .map_or(0, |(least, _)| least);
    path.rotate_left(least);
    let names: Vec<_> = path
        .iter()
        .chain(path.first())
        .map(|at| drafts[*at].name.as_str())
        .collect();
    let message = format!("a cycle: {}", names.join(" → "));
    // The edge back to the first one runs against the order of the text, so it was written explicitly.
    let (last, first) = (&drafts[path[path.len() - 1]], &drafts[path[0]]);
    if first.after.iter().flatten().any(|name| *name == last.name) {
        problem(first, "after", first.lines[1], message)
    } else {
        problem(last, "before", last.lines[2], message)
    }
}

fn problem(draft: &Draft, key: &str, line: usize, message: String) -> Problem {
    Problem {
        severity: Severity::Error,
        file: PathBuf::from(&draft.file),
        line,
        step: Some(format!("\"{}\"", draft.name)),
        key: Some(key.to_owned()),
        message,
    }
}

/// The longest path through the steps on `trigger`, if each one needs all its time.
pub fn worst_case(steps: &[Step], trigger: Trigger) -> Duration {
    let mut ends: Vec<Duration> = Vec::with_capacity(steps.len());
    for step in steps {
        let begin = step
            .after
            .iter()
            .map(|before| ends[*before])
            .max()
            .unwrap_or_default();
        ends.push(if step.when.contains(&trigger) {
            begin + step.timeout
        } else {
            begin
        });
    }
    ends.into_iter().max().unwrap_or_default()
}
