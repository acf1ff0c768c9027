//! Loads a configuration: everything that uses one goes through here.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::graph;
use super::lock_release;
use super::settings::{BUDGET, CLOSING, Restart, Settings};
use super::step::Step;
use super::steps::Drafts;
use crate::config::facts::Facts;
use crate::config::fragments::Source;
use crate::config::problem::{Problem, Severity};
use crate::config::section::Check;
use crate::model::event::StepName;
use crate::model::trigger::Trigger;
use crate::text::duration;

/// A sequence that can be run.
pub struct Plan {
    /// The steps, each one after those that it waits for.
    pub steps: Vec<Step>,
    /// Whether the configuration uses `${ip}`.
    pub uses_ip: bool,
    settings: Settings,
}

impl Plan {
    /// A sequence that no file configures: `steps` in this order, each one after those before it, within `budget`.
    pub fn chain(mut steps: Vec<Step>, budget: Duration) -> Plan {
        for (index, step) in steps.iter_mut().enumerate() {
            step.after = index.checked_sub(1).into_iter().collect();
        }
        let settings = Settings::within(budget);
        Plan {
            steps,
            uses_ip: false,
            settings,
        }
    }

    /// The steps as reporters show them.
    pub fn names(&self) -> Arc<[StepName]> {
        let name = |step: &Step| StepName {
            name: step.name.clone(),
            kind: step.kind.to_owned(),
        };
        self.steps.iter().map(name).collect()
    }

    /// The budget of the whole sequence on this trigger.
    pub fn budget(&self, trigger: Trigger) -> Duration {
        self.settings.budget(trigger)
    }

    /// The part of the budget that is kept for `always` steps.
    pub fn reserve(&self, trigger: Trigger) -> Duration {
        self.settings
            .reserve(trigger, self.steps.iter().any(|step| step.always))
    }

    /// The stop timeout that systemd must grant: the largest budget and the time to close. A run extends it itself too, but a
    /// daemon-reload forgets that, and applies the unit's own timeout from the beginning of its stop.
    pub fn stop_timeout(&self) -> Duration {
        let budgets = Trigger::ALL.map(|trigger| self.budget(trigger));
        budgets.into_iter().max().unwrap_or(BUDGET) + CLOSING
    }

    /// The smallest of the budgets: what a run may count on before its trigger is known.
    pub fn smallest_budget(&self) -> Duration {
        let budgets = Trigger::ALL.map(|trigger| self.budget(trigger));
        budgets.into_iter().min().unwrap_or(BUDGET)
    }

    /// What a restart of farewell.service does.
    pub fn restart(&self) -> Restart {
        self.settings.restart
    }

    /// The units that a step must not stop as a side effect: those that it `needs` itself, or another step that may still run when it
    /// begins, or that holds a lock to the end of the run.
    pub fn needed(&self, index: usize) -> Vec<String> {
        let mut before = vec![false; self.steps.len()];
        let mut queue = vec![index];
        while let Some(at) = queue.pop() {
            for earlier in &self.steps[at].after {
                if !std::mem::replace(&mut before[*earlier], true) {
                    queue.push(*earlier);
                }
            }
        }
        let steps = self.steps.iter().zip(before);
        let open = steps.filter(|(step, is_before)| !is_before || step.held.is_some());
        open.flat_map(|(step, _)| step.needs.iter().cloned())
            .collect()
    }

    /// The time that the steps take if each needs all its time.
    pub fn worst_case(&self, trigger: Trigger) -> Duration {
        graph::worst_case(&self.steps, trigger)
    }
}

/// Whether a file uses `${ip}` outside of comments. `$${ip}` is text.
fn names_ip(text: &str) -> bool {
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    lines
        .into_iter()
        .any(|line| line.replace("$$", "").contains("${ip}"))
}

/// A configuration that was loaded.
pub struct LoadedConfig {
    /// The plan; `None` if one of the problems is an error.
    pub plan: Option<Plan>,
    /// Every problem, in the order of the files.
    pub problems: Vec<Problem>,
    /// The files that were read, with their texts.
    pub files: Vec<(PathBuf, String)>,
    checks: Vec<(PathBuf, Option<String>, Check)>,
}

impl LoadedConfig {
    /// Reads and validates a configuration. `facts` are those that the plan itself needs (in names and durations), or
    /// `None` on a build machine.
    pub fn through(source: &Source, facts: Option<&Facts>) -> LoadedConfig {
        let (fragments, mut problems) = source.load();
        // A step that could not be read would be missed by those that name it.
        let is_whole = problems
            .iter()
            .all(|it| it.line > 0 || it.severity == Severity::Warning)
            && fragments.iter().all(|fragment| !fragment.is_broken);
        let sound: Vec<_> = fragments.iter().filter(|it| !it.is_broken).collect();
        let settings = Settings::read(&sound, facts, &mut problems);
        let is_head_sound = problems
            .iter()
            .all(|problem| problem.step.is_some() || problem.severity == Severity::Warning);
        let drafts = Drafts::read(&sound, facts, &settings.credential_hosts, &mut problems);
        let checks = drafts.checks;
        let steps = if is_whole {
            lock_release::warn(&drafts.steps, &mut problems);
            let mut steps = graph::arrange(drafts.steps, &drafts.duplicates, &mut problems);
            lock_release::append(&mut steps);
            steps
        } else {
            Vec::new()
        };
        let plan = Plan {
            steps,
            uses_ip: sound.iter().any(|fragment| names_ip(&fragment.text)),
            settings,
        };
        if is_head_sound {
            plan.check_time(&mut problems);
        }
        let files: Vec<(PathBuf, String)> = fragments
            .into_iter()
            .map(|fragment| (fragment.path, fragment.text))
            .collect();
        sort(&mut problems, &files);
        LoadedConfig {
            plan: is_sound(&problems).then_some(plan),
            problems,
            files,
            checks,
        }
    }

    /// Evaluates every value that depends on facts as they are now, and adds the problems.
    pub fn check_facts(&mut self, facts: &Facts) {
        self.run_checks(facts, |_| true);
    }

    /// As [`LoadedConfig::check_facts`], on a build machine: checks only what depends on no fact.
    pub fn check_without_facts(&mut self, facts: &Facts) {
        self.run_checks(facts, Check::is_early);
    }

    fn run_checks(&mut self, facts: &Facts, is_due: impl Fn(&Check) -> bool) {
        for (file, step, check) in self.checks.iter().filter(|(_, _, it)| is_due(it)) {
            if let Some((line, key, message)) = check.run(facts) {
                self.problems.push(Problem {
                    severity: check.severity(),
                    file: file.clone(),
                    line,
                    step: step.clone(),
                    key: Some(key),
                    message,
                });
            }
        }
        sort(&mut self.problems, &self.files);
    }

    /// How many of the problems are errors.
    pub fn errors(&self) -> usize {
        self.problems
            .iter()
            .filter(|problem| problem.severity == Severity::Error)
            .count()
    }
}

fn is_sound(problems: &[Problem]) -> bool {
    problems
        .iter()
        .all(|problem| problem.severity == Severity::Warning)
}

/// Puts problems in the order of the files.
fn sort(problems: &mut [Problem], files: &[(PathBuf, String)]) {
    let place = |problem: &Problem| files.iter().position(|(file, _)| *file == problem.file);
    problems.sort_by_key(|problem| (place(problem), problem.line));
}

impl Plan {
    fn check_time(&self, problems: &mut Vec<Problem>) {
        if let Some((trigger, reserve)) = self.settings.overdrawn() {
            let (file, line) = self.settings.reserve_at().clone();
            let (reserve, budget) = (
                duration::print(reserve),
                duration::print(self.budget(trigger)),
            );
            let message = format!(
                "a reserve of {reserve} leaves nothing of the budget of {budget} (on {trigger}) for the steps"
            );
            problems.push(Problem {
                severity: Severity::Error,
                file,
                line,
                step: None,
                key: Some("reserve".into()),
                message,
            });
        }
        if !is_sound(problems) {
            return;
        }
        let over = |trigger: &Trigger| self.worst_case(*trigger) > self.budget(*trigger);
        if let Some(trigger) = Trigger::ALL.into_iter().find(over) {
            let (file, line) = self.settings.budget_at().clone();
            let (worst, budget) = (
                duration::print(self.worst_case(trigger)),
                duration::print(self.budget(trigger)),
            );
            let message = format!(
                "the steps may take {worst} on {trigger} when each needs all its time, more than the budget of \
                 {budget}: the last ones would be cut short"
            );
            problems.push(Problem {
                severity: Severity::Warning,
                file,
                line,
                step: None,
                key: Some("budget".into()),
                message,
            });
        }
    }
}
