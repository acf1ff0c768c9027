//! What a step depends on until it has ended, and which of these units would end too early: systemd stops every unit
//! that farewell is not ordered after at the same moment that farewell starts.

use std::collections::BTreeSet;

use super::{Finding, SHUTDOWN, Units};
use crate::model::trigger::Trigger;
use crate::plan::step::Step;
use crate::sys::dbus::BusError;
use crate::sys::systemd::{UNIT, Unit};

/// Something that a step depends on until it has ended.
pub(super) struct Requirement<'a> {
    /// The step.
    pub(super) step: &'a Step,
    /// How the step uses it: `talks to http://127.0.0.1:8500/, where consul.service listens`.
    pub(super) what: String,
    /// The units that must not be stopped earlier.
    pub(super) units: Vec<Unit>,
    /// Scopes that systemd ends and that nothing can be ordered after.
    pub(super) sessions: Vec<String>,
}

/// How many units are followed along Before=. Usually there are only a few.
const STEPS: usize = 200;

/// Whether `unit` is stopped only after `farewell`: directly, or through units that are stopped in between.
pub(super) fn outlives(
    unit: &Unit,
    farewell: &Unit,
    units: &mut Units<'_>,
) -> Result<bool, BusError> {
    let mut seen = BTreeSet::from([unit.id.clone()]);
    let mut open = vec![unit.clone()];
    while let Some(unit) = open.pop() {
        if super::is_after(farewell, &unit) {
            return Ok(true);
        }
        if seen.len() > STEPS {
            break;
        }
        for name in unit.before {
            // Units that a shutdown starts, or does not stop, delay nothing.
            if name == SHUTDOWN || !seen.insert(name.clone()) {
                continue;
            }
            let next = units.get(&name)?;
            let is_stopped = next.conflicts.iter().any(|it| it == SHUTDOWN);
            if !next.is_down() && is_stopped {
                open.push(next);
            }
        }
    }
    Ok(false)
}

impl Requirement<'_> {
    /// What is wrong if `farewell` is not ordered after all of it. Units that the configuration names (`named`) are
    /// compared separately.
    pub(super) fn judge(
        &self,
        farewell: &Unit,
        named: &BTreeSet<String>,
        units: &mut Units<'_>,
    ) -> Result<Option<Finding>, BusError> {
        let mut early = Vec::new();
        for unit in &self.units {
            let is_named =
                named.contains(&unit.id) || unit.names.iter().any(|it| named.contains(it));
            if !is_named && !outlives(unit, farewell, units)? {
                early.push(unit.id.as_str());
            }
        }
        if early.is_empty() && self.sessions.is_empty() {
            return Ok(None);
        }
        let message = message(self.step, &self.what, &early, &self.sessions);
        let is_stale = false;
        Ok(Some(Finding { message, is_stale }))
    }
}

fn message(step: &Step, what: &str, early: &[&str], sessions: &[String]) -> String {
    let mut remedies = Vec::new();
    if !early.is_empty() {
        remedies.push(format!(
            "add {} to the step, and run `systemctl daemon-reload`",
            line(&step.needs, early)
        ));
    }
    if !sessions.is_empty() {
        remedies.push(
            "farewell cannot be ordered after a scope (a login session): run the program as a service"
                .to_owned(),
        );
    }
    let it = match early.len() + sessions.len() {
        1 => "it",
        _ => "them",
    };
    format!(
        "step {}{} {what}: systemd ends {it} at the same moment that farewell starts, since nothing orders {UNIT} after \
         {it}; {}",
        step.name,
        on(&step.when),
        remedies.join("; ")
    )
}

/// The line of the configuration: `` `needs = ["a.service", "b.service"]` ``.
pub(super) fn line(needs: &[String], more: &[&str]) -> String {
    let mut all: Vec<&str> = needs.iter().map(String::as_str).collect();
    for name in more {
        if !all.contains(name) {
            all.push(name);
        }
    }
    let quoted: Vec<String> = all.iter().map(|unit| format!("{unit:?}")).collect();
    format!("`needs = [{}]`", quoted.join(", "))
}

/// ` (on reboot, kexec)`, where that is not on every trigger.
pub(super) fn on(triggers: &[Trigger]) -> String {
    if Trigger::ALL.iter().all(|it| triggers.contains(it)) {
        return String::new();
    }
    let words: Vec<&str> = triggers.iter().map(|it| it.as_str()).collect();
    format!(" (on {})", words.join(", "))
}

/// Names as a list in a sentence.
pub(super) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    match names.split_last() {
        None => String::new(),
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
    }
}
