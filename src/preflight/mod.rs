//! Compares what systemd has loaded on this machine with what a plan needs, in good time before a shutdown.

mod boot_order;
mod companion_units;
mod dependencies;
mod filesystems;
mod interfaces;
mod loaded_unit;
mod needs;
mod peers;
mod process_owner;
mod requirement;
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

/// The target of every shutdown, which stops every unit that conflicts with it.
const SHUTDOWN: &str = "shutdown.target";

/// A problem that would make a run fail, or prevent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong and what to do, without a full stop.
    pub message: String,
    /// Whether systemd may only have loaded an old configuration, which a daemon-reload fixes, since it runs the
    /// generator.
    pub is_stale: bool,
}

/// The result of an inspection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// What is right, in one sentence, if nothing is wrong.
    pub summary: String,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What could not be checked, and what may be intended: one sentence each.
    pub remarks: Vec<String>,
    /// What systemd reported about units that no configuration names; `None` if an answer is missing.
    pub learnt: Option<Learnt>,
}

impl Inspection {
    /// Whether a daemon-reload may fix something.
    pub fn is_stale(&self) -> bool {
        self.findings.iter().any(|finding| finding.is_stale)
    }
}

/// Checks farewell.service as it is loaded, and the plan's peers on this machine. Nothing is changed.
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
    scene.inspect(&mut units, &mut inspection);
    inspection.summary = loaded_unit::summary(&farewell);
    Ok(inspection)
}

/// Checks only the order of farewell.service.
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
        return Err("systemd is not running on this machine".to_owned());
    }
    Manager::connect(deadline).map_err(silent)
}

fn silent(error: BusError) -> String {
    format!("systemd: {error}")
}

/// Compares the loaded farewell.service with what the plan needs.
fn examine(
    plan: &Plan,
    facts: &Facts,
    farewell: &Unit,
    units: &mut Units<'_>,
    inspection: &mut Inspection,
) {
    let ordering = Ordering::of(plan, facts);
    let order = boot_order::inspect(&ordering, farewell, units);
    inspection.remarks.extend(order.remarks);
    let demand = UnitRequirements::of(plan, facts, &ordering, &order.learnt, units, inspection);
    let findings = loaded_unit::compare(farewell, &demand);
    // A unit that is masked or missing is the only finding.
    if farewell.load == "loaded" {
        inspection.findings.extend(order.findings);
    }
    inspection.findings.extend(findings);
    inspection.learnt = order.is_whole.then_some(order.learnt);
}

/// The units of this machine, each read once.
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
    fn farewell(&mut self) -> Result<Unit, String> {
        let farewell = self.get(systemd::UNIT).map_err(silent)?;
        if !farewell.exists() {
            return Err(format!("{} does not exist", systemd::UNIT));
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

    /// The loaded units that match a pattern, in any state.
    fn matching(&mut self, pattern: &str) -> Result<Vec<Unit>, BusError> {
        let found = self
            .manager
            .matching(&[pattern.to_owned()], self.deadline)?;
        found.iter().map(|state| self.get(&state.id)).collect()
    }

    /// The units with a command that names `word`, an interface or an address.
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

/// Sorts units by name, without duplicates.
fn distinct(mut units: Vec<Unit>) -> Vec<Unit> {
    units.sort_unstable_by(|one, other| one.id.cmp(&other.id));
    units.dedup_by(|one, other| one.id == other.id);
    units
}

/// Whether `farewell` is ordered after `unit`, under any of its names.
fn is_after(farewell: &Unit, unit: &Unit) -> bool {
    let is_named = |name: &String| *name == unit.id || unit.names.contains(name);
    farewell.after.iter().any(is_named)
}
