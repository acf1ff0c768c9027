//! What this machine's systemd has loaded, beside what a plan needs of it, found out before the last day.

mod boot_order;
mod companion_units;
mod dependencies;
mod filesystems;
mod interfaces;
mod loaded_unit;
mod needs;
mod peers;
mod process_owner;
mod reliance;
pub mod resolved_peers;
mod sockets;
mod stop_closure;
mod stopped_peers;
mod systemd_version;

use std::collections::BTreeMap;

use crate::config::facts::Facts;
use crate::model::deadline::Deadline;
use crate::plan::load::Plan;
use crate::plan::unit_ordering::{Learnt, Ordering};
use crate::sys::dbus::BusError;
use crate::sys::systemd::{self, Manager, Unit};

use dependencies::Inspector;
use loaded_unit::UnitRequirements;
use resolved_peers::Addressed;

pub use stop_closure::{leftovers, stops};

/// What a shutdown starts, which ends every unit that conflicts with it.
const SHUTDOWN: &str = "shutdown.target";

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
    /// What systemd told of units that no configuration names; `None` where it did not answer all.
    pub learnt: Option<Learnt>,
}

impl Inspection {
    /// Whether a daemon-reload may mend something.
    pub fn is_stale(&self) -> bool {
        self.findings.iter().any(|finding| finding.is_stale)
    }
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
    let manager = connect(deadline)?;
    let version = manager.version(deadline);
    let version = version.map_err(|error| format!("systemd: {error}"))?;
    let mut units = Units::new(&manager, deadline);
    let farewell = units.farewell()?;
    let mut inspection = Inspection::default();
    systemd_version::judge(&version, &mut inspection);
    examine(plan, facts, &farewell, &mut units, &mut inspection);
    companion_units::inspect(&farewell, &mut units, &mut inspection);
    let scene = Inspector {
        plan,
        facts,
        peers,
        farewell: &farewell,
        named: Ordering::of(plan, facts).units,
    };
    scene.look(&mut units, &mut inspection);
    inspection.summary = loaded_unit::summary(&farewell);
    Ok(inspection)
}

/// Looks at the order of farewell.service alone.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_order(plan: &Plan, facts: &Facts, deadline: Deadline) -> Result<Inspection, String> {
    let manager = connect(deadline)?;
    let mut units = Units::new(&manager, deadline);
    let farewell = units.farewell()?;
    let mut inspection = Inspection::default();
    examine(plan, facts, &farewell, &mut units, &mut inspection);
    Ok(inspection)
}

fn connect(deadline: Deadline) -> Result<Manager, String> {
    if !systemd::is_booted() {
        return Err("systemd does not run here".to_owned());
    }
    Manager::connect(deadline).map_err(silent)
}

fn silent(error: BusError) -> String {
    format!("systemd: {error}")
}

/// Compares what is loaded of farewell.service with what the plan needs.
fn examine(
    plan: &Plan,
    facts: &Facts,
    farewell: &Unit,
    units: &mut Units<'_>,
    inspection: &mut Inspection,
) {
    let ordering = Ordering::of(plan, facts);
    let order = boot_order::look(&ordering, farewell, units);
    inspection.remarks.extend(order.remarks);
    let demand = UnitRequirements::of(plan, facts, &ordering, &order.learnt, units, inspection);
    let findings = loaded_unit::compare(farewell, &demand);
    // What is masked or not there is told of alone.
    if farewell.load == "loaded" {
        inspection.findings.extend(order.findings);
    }
    inspection.findings.extend(findings);
    inspection.learnt = order.is_whole.then_some(order.learnt);
}

/// The units of this machine, each asked for once.
struct Units<'a> {
    manager: &'a Manager,
    deadline: Deadline,
    known: BTreeMap<String, Result<Unit, BusError>>,
    /// See [`Manager::lasting_commands`].
    commands: Option<Vec<(String, String)>>,
}

impl<'a> Units<'a> {
    fn new(manager: &'a Manager, deadline: Deadline) -> Units<'a> {
        Units {
            manager,
            deadline,
            known: BTreeMap::new(),
            commands: None,
        }
    }

    /// farewell.service itself.
    ///
    /// # Errors
    /// That there is none, or why it is not known.
    fn farewell(&mut self) -> Result<Unit, String> {
        let farewell = self.get(systemd::UNIT).map_err(silent)?;
        if !farewell.exists() {
            return Err(format!("systemd knows no {}", systemd::UNIT));
        }
        Ok(farewell)
    }

    fn get(&mut self, name: &str) -> Result<Unit, BusError> {
        if let Some(known) = self.known.get(name) {
            return known.clone();
        }
        let unit = self.manager.unit(name, self.deadline);
        self.known.insert(name.to_owned(), unit.clone());
        unit
    }

    /// The loaded units that match a pattern, in whatever state.
    fn matching(&mut self, pattern: &str) -> Result<Vec<Unit>, BusError> {
        let found = self
            .manager
            .matching(&[pattern.to_owned()], self.deadline)?;
        found.iter().map(|state| self.get(&state.id)).collect()
    }

    /// The units that have set up what `word` names, an interface or an address, by a command that names it.
    fn made_by_commands(&mut self, word: &str) -> Result<Vec<Unit>, BusError> {
        if self.commands.is_none() {
            self.commands = Some(self.manager.lasting_commands(self.deadline)?);
        }
        let commands = self.commands.iter().flatten();
        let is_its = |(unit, words): &&(String, String)| {
            !systemd::OWN.contains(&unit.as_str()) && interfaces::has_word(words, word)
        };
        let names: Vec<String> = commands
            .filter(is_its)
            .map(|(unit, _)| unit.clone())
            .collect();
        names.iter().map(|name| self.get(name)).collect()
    }
}

/// Each unit once, by name.
fn distinct(mut units: Vec<Unit>) -> Vec<Unit> {
    units.sort_unstable_by(|one, other| one.id.cmp(&other.id));
    units.dedup_by(|one, other| one.id == other.id);
    units
}

/// Whether `farewell` is ordered after `unit`, under whichever of its names.
fn is_after(farewell: &Unit, unit: &Unit) -> bool {
    let is_named = |name: &String| *name == unit.id || unit.names.contains(name);
    farewell.after.iter().any(is_named)
}
