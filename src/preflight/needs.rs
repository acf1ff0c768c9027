//! Checks `needs` on units without processes of their own: being ordered after such a unit does not keep the units that
//! it stands for.

use std::collections::BTreeSet;

use super::requirement::{line, listed, on, outlives};
use super::{Finding, Units, distinct};
use crate::plan::load::Plan;
use crate::plan::step::Step;
use crate::sys::dbus::BusError;
use crate::sys::systemd::Unit;

/// How many units one sentence names.
const NAMED: usize = 12;

/// What is wrong with the `needs` of the steps.
pub(super) fn inspect(
    plan: &Plan,
    farewell: &Unit,
    named: &BTreeSet<String>,
    units: &mut Units<'_>,
) -> Result<Vec<Finding>, BusError> {
    let mut findings = Vec::new();
    for step in &plan.steps {
        for need in &step.needs {
            let unit = units.get(need)?;
            // A missing unit is reported elsewhere.
            if !unit.exists() {
                continue;
            }
            let mut early = Vec::new();
            for member in behind(&unit, units)? {
                let is_named = named.contains(&member.id);
                if !is_named && !outlives(&member, farewell, units)? {
                    early.push(member.id);
                }
            }
            let is_empty_slice = early.is_empty() && unit.id.ends_with(".slice");
            if !early.is_empty() || is_empty_slice {
                let message = message(step, &unit.id, &early);
                let is_stale = false;
                findings.push(Finding { message, is_stale });
            }
        }
    }
    Ok(findings)
}

/// The active units that `unit` stands for: those in a slice, started by a socket, timer or path, or pulled in by a
/// target.
fn behind(unit: &Unit, units: &mut Units<'_>) -> Result<Vec<Unit>, BusError> {
    let (_, kind) = unit.id.rsplit_once('.').unwrap_or_default();
    let mut open: Vec<String> = match kind {
        "slice" => unit.required_by.clone(),
        "socket" | "timer" | "path" => unit.triggers.clone(),
        "target" => [&unit.requires[..], &unit.wants[..], &unit.consists_of[..]].concat(),
        _ => Vec::new(),
    };
    let mut seen: BTreeSet<String> = open.iter().cloned().collect();
    let mut found = Vec::new();
    while let Some(name) = open.pop() {
        let member = units.get(&name)?;
        if name.ends_with(".slice") {
            // Follows slices in slices; of other members only units with processes matter.
            let inner = member.required_by.into_iter();
            let is_nested = kind == "slice";
            open.extend(inner.filter(|name| is_nested && seen.insert(name.clone())));
        } else if !member.is_down() && has_processes(&name) {
            found.push(member);
        }
    }
    Ok(distinct(found))
}

fn has_processes(name: &str) -> bool {
    [".service", ".scope"].iter().any(|it| name.ends_with(it))
}

fn message(step: &Step, need: &str, early: &[String]) -> String {
    let when = on(&step.when);
    let name = &step.name;
    let others: Vec<String> = step
        .needs
        .iter()
        .filter(|it| *it != need)
        .cloned()
        .collect();
    if early.is_empty() {
        return format!(
            "step {name}{when} needs {need}, but being ordered after a slice does not keep its units; it has none now: name \
             the units themselves in `needs`"
        );
    }
    let names: Vec<&str> = early.iter().map(String::as_str).take(NAMED).collect();
    let more = match early.len() - names.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    // A socket or target may stay in the list; a slice has no effect there.
    let kept = if need.ends_with(".slice") {
        others
    } else {
        step.needs.clone()
    };
    format!(
        "step {name}{when} needs {need}, which does not keep {}{more}: systemd ends them at the same moment that farewell \
         starts; of them name those that the step needs: {}, and run `systemctl daemon-reload`",
        listed(names.iter().copied()),
        line(&kept, &names)
    )
}
