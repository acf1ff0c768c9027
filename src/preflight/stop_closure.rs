//! What the `stop-unit` steps of a plan would stop on this machine now.

use crate::config::facts::Facts;
use crate::model::deadline::Deadline;
use crate::plan::load::Plan;
use crate::sys::systemd::{self, Closure, Manager};

/// The effect of each step's stop; `None` for a step that stops no unit, and without systemd. Nothing is changed.
pub fn stops(
    plan: &Plan,
    facts: &Facts,
    deadline: Deadline,
) -> Result<Vec<Option<Closure>>, String> {
    let mut stops: Vec<Option<Closure>> = plan.steps.iter().map(|_| None).collect();
    let is_one = |index: &usize| !plan.steps[*index].dependencies.units.is_empty();
    let stopping: Vec<usize> = (0..plan.steps.len()).filter(is_one).collect();
    // Without systemd there are no units.
    if stopping.is_empty() || !systemd::is_booted() {
        return Ok(stops);
    }
    let manager = Manager::connect(deadline).map_err(|error| format!("systemd: {error}"))?;
    for index in stopping {
        let step = &plan.steps[index];
        let names = step.dependencies.units.iter().map(|unit| unit.get(facts));
        let names: Vec<String> = names
            .collect::<Result<_, _>>()
            .map_err(|failure| format!("step {}: {failure}", step.name))?;
        let closure = systemd::stop_of(&manager, &names, &plan.needed(index), deadline);
        let closure = closure.map_err(|error| format!("step {}: {error}", step.name))?;
        stops[index] = Some(closure);
    }
    Ok(stops)
}

/// One sentence for each stopped unit whose processes may outlive it although the step does not allow that.
pub fn leftovers(plan: &Plan, stops: &[Option<Closure>]) -> Vec<String> {
    let mut told = Vec::new();
    for (step, closure) in plan.steps.iter().zip(stops) {
        let Some(closure) = closure else { continue };
        if step.dependencies.leave_behind.is_some() {
            continue;
        }
        for warning in closure.leftovers() {
            told.push(format!("step {}: {warning}", step.name));
        }
    }
    told
}
