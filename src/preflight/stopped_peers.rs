//! Finds steps that stop what another step still needs: an agent, a tunnel, a daemon.

use std::collections::BTreeSet;

use super::requirement::{Requirement, line, on};
use super::{Finding, Units};
use crate::config::facts::Facts;
use crate::model::trigger::Trigger;
use crate::plan::load::Plan;
use crate::sys::dbus::BusError;
use crate::sys::systemd::{Closure, StopCause, StopLimits, Unit, Wanted, is_pattern};

/// Problems with the order of steps that stop units.
pub(super) fn inspect(
    plan: &Plan,
    facts: &Facts,
    requirements: &[Requirement<'_>],
    farewell: &Unit,
    units: &mut Units<'_>,
) -> Result<Vec<Finding>, BusError> {
    let mut findings = Vec::new();
    let needs = needs_behind(plan);
    let mut told = BTreeSet::new();
    for (at, stopping) in plan.steps.iter().enumerate() {
        if stopping.dependencies.units.is_empty() {
            continue;
        }
        let closure = stop(plan, at, facts, farewell, &needs[at], units)?;
        for requirement in requirements {
            let step = requirement.step;
            let Some(using) = plan.steps.iter().position(|it| std::ptr::eq(it, step)) else {
                continue;
            };
            let holds = step.held.is_some();
            let common = common(&stopping.when, &step.when);
            // A lock is used until the end of the run, when it is released.
            if using == at || common.is_empty() || (!holds && is_after(plan, at, using)) {
                continue;
            }
            for unit in &requirement.units {
                let stopped = closure.members.iter().find(|it| it.unit.id == unit.id);
                let Some(member) = stopped else { continue };
                let found = Conflict {
                    stopping: &stopping.name,
                    cause: &member.cause,
                    requirement,
                    unit: &unit.id,
                    is_before: is_after(plan, using, at),
                    holds,
                    triggers: common.clone(),
                };
                let message = found.message();
                if told.insert(message.clone()) {
                    let is_stale = false;
                    findings.push(Finding { message, is_stale });
                }
            }
        }
    }
    Ok(findings)
}

/// The units of a step, with those that are stopped along with them.
fn stop(
    plan: &Plan,
    at: usize,
    facts: &Facts,
    farewell: &Unit,
    needed: &[String],
    units: &mut Units<'_>,
) -> Result<Closure, BusError> {
    let mut wanted = Vec::new();
    let names = plan.steps[at].dependencies.units.iter();
    for name in names.filter_map(|it| it.get(facts).ok()) {
        if !is_pattern(&name) {
            wanted.push(Wanted {
                name,
                pattern: None,
            });
            continue;
        }
        for unit in units.matching(&name)? {
            wanted.push(Wanted {
                name: unit.id,
                pattern: Some(name.clone()),
            });
        }
    }
    let bounds = StopLimits::of_this_process(farewell, needed);
    Closure::of(&wanted, &bounds, |name| units.get(name))
}

/// For each step its own `needs` and those of steps that may run after it, which no stop takes along.
fn needs_behind(plan: &Plan) -> Vec<Vec<String>> {
    let of = |at: usize| {
        let others = (0..plan.steps.len()).filter(move |other| !is_after(plan, at, *other));
        let needs = others.flat_map(|other| plan.steps[other].needs.iter().cloned());
        needs.collect::<BTreeSet<String>>().into_iter().collect()
    };
    (0..plan.steps.len()).map(of).collect()
}

/// Whether the step `later` begins only when the step `earlier` has ended.
fn is_after(plan: &Plan, later: usize, earlier: usize) -> bool {
    let mut seen = vec![false; plan.steps.len()];
    let mut open = plan.steps[later].after.clone();
    while let Some(at) = open.pop() {
        if at == earlier {
            return true;
        }
        if !std::mem::replace(&mut seen[at], true) {
            open.extend(&plan.steps[at].after);
        }
    }
    false
}

fn common(one: &[Trigger], other: &[Trigger]) -> Vec<Trigger> {
    let both = Trigger::ALL.into_iter();
    both.filter(|it| one.contains(it) && other.contains(it))
        .collect()
}

/// A step that stops what another one needs.
struct Conflict<'a> {
    stopping: &'a str,
    cause: &'a StopCause,
    requirement: &'a Requirement<'a>,
    unit: &'a str,
    /// Whether the other one begins only when the stop has ended.
    is_before: bool,
    /// Whether the other one holds a lock.
    holds: bool,
    triggers: Vec<Trigger>,
}

impl Conflict<'_> {
    fn message(&self) -> String {
        let Conflict { stopping, unit, .. } = self;
        let (step, what) = (&self.requirement.step.name, &self.requirement.what);
        let by = match self.cause {
            StopCause::Named => String::new(),
            cause => format!(" ({cause})"),
        };
        let when = on(&self.triggers);
        let late = match (self.holds, self.is_before) {
            (true, _) => "whose lock is renewed and released until the end of the run",
            (false, true) => "which runs later",
            (false, false) => "which may run at the same time",
        };
        let needs = line(&self.requirement.step.needs, &[unit]);
        let remedy = match (self.cause, self.holds) {
            (StopCause::Named | StopCause::Matches(_), true) => format!(
                "leave {unit} out of the `units` of {stopping}, and add {needs} to {step}, so that systemd stops it \
                 after farewell"
            ),
            (StopCause::Named | StopCause::Matches(_), false) => {
                format!("add `after = [{step:?}]` to {stopping}, and move it after {step}")
            }
            // No stop takes along what later steps need.
            (StopCause::Tied(..), _) => format!("add {needs} to {step}"),
        };
        format!("step {stopping}{when} stops {unit}{by}, and step {step}, {late}, {what}: {remedy}")
    }
}
