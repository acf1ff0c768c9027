//! What this machine's systemd has loaded, beside what a plan needs of it, found out before the last day.

pub mod addressed;
mod loaded;
mod peers;

use std::collections::BTreeMap;

use crate::config::facts::Facts;
use crate::deadline::Deadline;
use crate::plan::gate::Plan;
use crate::plan::ordering::Ordering;
use crate::sys::bus::Trouble;
use crate::sys::systemd::{self, Manager, Unit};

use addressed::Addressed;
use loaded::Demand;

/// Something of which a run would fail, or not take place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong, and what to do; a few clauses without a full stop.
    pub message: String,
    /// Whether what systemd has loaded is only not what the configuration says by now: a daemon-reload, which runs the
    /// generator, may mend it.
    pub is_stale: bool,
}

/// What was seen of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// What is right, in one sentence.
    pub summary: String,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What could not be looked at, and what may be meant so: one sentence each.
    pub remarks: Vec<String>,
}

/// Looks at farewell.service as it is loaded, and at the peers of the plan that are on this machine. Nothing is changed.
///
/// # Errors
/// Why it was not looked at: one sentence.
pub fn inspect(
    plan: &Plan,
    facts: &Facts,
    peers: &[Addressed<'_>],
    deadline: Deadline,
) -> Result<Inspection, String> {
    if !systemd::is_booted() {
        return Err("systemd does not run here".to_owned());
    }
    let silent = |trouble: Trouble| format!("systemd: {trouble}");
    let manager = Manager::connect(deadline).map_err(silent)?;
    let farewell = manager.unit(systemd::UNIT, deadline).map_err(silent)?;
    if !farewell.exists() {
        return Err(format!("systemd knows no {}", systemd::UNIT));
    }
    let mut inspection = Inspection::default();
    let mut units = Units {
        manager: &manager,
        deadline,
        known: BTreeMap::new(),
    };
    let demand = Demand::of(plan, facts, &mut units, &mut inspection);
    let findings = loaded::compare(&farewell, &demand);
    inspection.findings.extend(findings);
    peers::inspect(plan, facts, peers, &farewell, &mut units, &mut inspection);
    inspection.summary = loaded::summary(&farewell);
    Ok(inspection)
}

/// The units of this machine, each asked for once.
struct Units<'a> {
    manager: &'a Manager,
    deadline: Deadline,
    known: BTreeMap<String, Result<Unit, Trouble>>,
}

impl Units<'_> {
    fn get(&mut self, name: &str) -> Result<Unit, Trouble> {
        if let Some(known) = self.known.get(name) {
            return known.clone();
        }
        let unit = self.manager.unit(name, self.deadline);
        self.known.insert(name.to_owned(), unit.clone());
        unit
    }
}

/// Whether `farewell` is ordered after `unit`, under whichever of its names.
fn is_after(farewell: &Unit, unit: &Unit) -> bool {
    let is_named = |name: &String| *name == unit.id || unit.names.contains(name);
    farewell.after.iter().any(is_named)
}
