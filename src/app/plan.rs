//! `farewell plan`: the steps as they would run.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use super::{complain, facts, kept, print, source};
use crate::app::cli::{Options, exit};
use crate::config::facts::Facts;
use crate::history::record::usec;
use crate::model::deadline::{Deadline, Reason};
use crate::model::trigger::Trigger;
use crate::plan::load::{LoadedConfig, Plan};
use crate::plan::step::{OnFailure, Step};
use crate::plan::unit_ordering::{Learnt, Ordering};
use crate::preflight;
use crate::sys::systemd::Closure;
use crate::text::duration;

/// The time limit for asking systemd about this machine's units.
const MACHINE: Duration = Duration::from_secs(5);

/// Prints the plan for a trigger.
pub fn plan(options: &Options, trigger: &str, as_json: bool) -> u8 {
    let trigger = Trigger::parse(trigger).unwrap_or(Trigger::Stop);
    let facts = facts(options, trigger, "plan");
    let loaded = LoadedConfig::through(&source(options), Some(&facts));
    loaded
        .problems
        .iter()
        .for_each(|problem| complain(&problem.to_string()));
    let Some(plan) = &loaded.plan else {
        return exit::CONFIG;
    };
    let learnt = kept(options).and_then(|kept| kept.learnt());
    let outlook = Outlook::of(plan, trigger, &facts, learnt.unwrap_or_default());
    if as_json {
        print(&format!("{:#}\n", outlook.json(plan, trigger)));
    } else {
        print(&outlook.text(plan, trigger));
    }
    exit::OK
}

/// What is known of a run before it takes place.
struct Outlook {
    budget: Duration,
    reserve: Duration,
    worst_case: Duration,
    /// For each step, the latest start and the latest end, from the run's start.
    spans: Vec<(Duration, Duration)>,
    /// For each step, those that may run at the same time.
    beside: Vec<Vec<usize>>,
    /// What farewell.service is ordered after.
    ordering: Ordering,
    /// What `farewell start` has learnt of units.
    learnt: Learnt,
    /// For each step, the units that its stop includes on this machine, as far as that is known.
    stops: Result<Vec<Option<Closure>>, String>,
}

impl Outlook {
    fn of(plan: &Plan, trigger: Trigger, facts: &Facts, learnt: Learnt) -> Outlook {
        let (budget, reserve) = (plan.budget(trigger), plan.reserve(trigger));
        let mut spans: Vec<(Duration, Duration)> = Vec::new();
        for step in &plan.steps {
            let limit = if step.always {
                budget
            } else {
                budget.saturating_sub(reserve)
            };
            let begin = step
                .after
                .iter()
                .map(|before| spans[*before].1)
                .max()
                .unwrap_or_default()
                .min(limit);
            let time = if step.when.contains(&trigger) {
                step.timeout
            } else {
                Duration::ZERO
            };
            spans.push((begin, (begin + time).min(limit)));
        }
        let beside = beside(&plan.steps, trigger);
        Outlook {
            budget,
            reserve,
            worst_case: plan.worst_case(trigger),
            spans,
            beside,
            ordering: Ordering::of(plan, facts),
            learnt,
            stops: preflight::stops(plan, facts, Deadline::after(MACHINE, Reason::Attempt)),
        }
    }

    /// The units that stop together with those of a step on this machine, and those that do not.
    fn along(&self, index: usize) -> Option<(Vec<String>, Vec<String>)> {
        let closure = self.stops.as_ref().ok()?.get(index)?.as_ref()?;
        Some((closure.along(), closure.left_alone()))
    }

    fn text(&self, plan: &Plan, trigger: Trigger) -> String {
        let print = duration::print;
        let mut text = format!("farewell plan on {trigger}: budget {}", print(self.budget));
        if !self.reserve.is_zero() {
            text += &format!(
                ", of which {} are the reserve of `always` steps",
                print(self.reserve)
            );
        }
        text += &format!("; worst case {}\n", print(self.worst_case));
        if plan.steps.is_empty() {
            text += "the sequence is empty: farewell run would do nothing\n";
        }
        let width =
            |what: fn(&Step) -> usize| plan.steps.iter().map(what).max().unwrap_or_default();
        let (names, kinds) = (
            width(|step| step.name.chars().count()),
            width(|step| step.kind.len()),
        );
        for (index, step) in plan.steps.iter().enumerate() {
            text += &format!(
                "\n{:>4}  {:names$}  {:kinds$}  ",
                index + 1,
                step.name,
                step.kind
            );
            text += &self.step(plan, index, trigger);
        }
        text += "\n";
        text += &self.order();
        text
    }

    /// When a step runs, beside which others, and what stops with it.
    fn step(&self, plan: &Plan, index: usize, trigger: Trigger) -> String {
        let step = &plan.steps[index];
        if !step.when.contains(&trigger) {
            return format!("skipped: not on {trigger}");
        }
        let print = duration::print;
        let name = |index: &usize| plan.steps[*index].name.as_str();
        let list = |indices: &[usize]| indices.iter().map(name).collect::<Vec<_>>().join(", ");
        let (begin, end) = self.spans[index];
        let mut text = match step.after.as_slice() {
            [] => "at once".to_owned(),
            after => format!("after {}", list(after)),
        };
        text += &format!(
            "; up to {}; begins by {}, ends by {}",
            print(step.timeout),
            print(begin),
            print(end)
        );
        if !self.beside[index].is_empty() {
            text += &format!("; beside {}", list(&self.beside[index]));
        }
        if step.always {
            text += "; always";
        }
        if step.on_failure == OnFailure::Stop {
            text += "; its failure stops the others";
        }
        for (key, is_there) in [
            ("if-path", step.if_path.is_some()),
            ("if-unit", step.if_unit.is_some()),
        ] {
            if is_there {
                text += &format!("; only where its {key} says so");
            }
        }
        let (along, left) = self.along(index).unwrap_or_default();
        for also in along {
            text += &format!("\n      also stops {also}");
        }
        for left in left {
            text += &format!("\n      does not stop {left}");
        }
        text
    }

    /// What farewell.service is ordered after, and what is not known of that.
    fn order(&self) -> String {
        let mut text = String::new();
        if let Err(reason) = &self.stops {
            text +=
                &format!("\nother units that stop with those of the steps are unknown: {reason}\n");
        }
        let paths = self.ordering.paths.iter();
        let mounts = paths.map(|path| format!("the mount of {}", path.display()));
        let all = Ordering {
            paths: BTreeSet::new(),
            ..self.ordering.clone()
        };
        let templates = self.ordering.templates(&self.learnt).into_iter();
        let instances = templates.map(|template| format!("every {template}"));
        let units = all.after(&self.learnt).into_iter().chain(instances);
        let ordered: Vec<String> = units.chain(mounts).collect();
        if !ordered.is_empty() {
            text += &format!(
                "\nfarewell.service is ordered after {}\n",
                ordered.join(", ")
            );
        }
        for unit in &self.learnt.circles {
            text += &format!(
                "{unit} is ordered after farewell.service itself, and may end before it begins: see `farewell rehearse`\n"
            );
        }
        for unknown in &self.ordering.unknown {
            text += &format!("other units that it is ordered after are unknown: {unknown}\n");
        }
        text
    }

    fn json(&self, plan: &Plan, trigger: Trigger) -> serde_json::Value {
        let names = |indices: &[usize]| {
            indices
                .iter()
                .map(|it| plan.steps[*it].name.clone())
                .collect::<Vec<_>>()
        };
        let steps = plan.steps.iter().zip(&self.spans).zip(&self.beside).enumerate().map(|(index, ((step, (begin, end)), beside))| {
            let mut document = json!({
                "name": step.name,
                "kind": step.kind,
                "runs": step.when.contains(&trigger),
                "after": names(&step.after),
                "beside": names(beside),
                "timeout_usec": usec(step.timeout),
                "attempt_timeout_usec": usec(step.attempt_timeout),
                "attempts": step.attempts,
                "begins_by_usec": usec(*begin),
                "ends_by_usec": usec(*end),
                "always": step.always,
                "on_failure": if step.on_failure == OnFailure::Stop { "stop" } else { "continue" },
                "conditional": step.if_path.is_some() || step.if_unit.is_some(),
            });
            if let Some((along, left)) = self.along(index) {
                document["also_stops"] = along.into();
                document["does_not_stop"] = left.into();
            }
            document
        });
        json!({
            "trigger": trigger.as_str(),
            "budget_usec": usec(self.budget),
            "reserve_usec": usec(self.reserve),
            "worst_case_usec": usec(self.worst_case),
            "steps": steps.collect::<Vec<_>>(),
            "ordered_after": self.ordering.after(&self.learnt),
        })
    }
}

/// For each step, the others that run on this trigger and that it neither waits for nor is waited for by.
fn beside(steps: &[Step], trigger: Trigger) -> Vec<Vec<usize>> {
    let mut before: Vec<Vec<bool>> = Vec::new();
    for step in steps {
        let mut all = vec![false; steps.len()];
        for earlier in &step.after {
            all[*earlier] = true;
            for (mark, earlier) in all.iter_mut().zip(&before[*earlier]) {
                *mark |= earlier;
            }
        }
        before.push(all);
    }
    let runs = |index: usize| steps[index].when.contains(&trigger);
    let free = |a: usize, b: usize| a != b && runs(a) && runs(b) && !before[a][b] && !before[b][a];
    (0..steps.len())
        .map(|a| (0..steps.len()).filter(|b| free(a, *b)).collect())
        .collect()
}
