//! Compares farewell.service, as systemd has it loaded, with what the plan needs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Finding, Inspection, Ordering, Units, is_after};
use crate::config::facts::Facts;
use crate::plan::load::Plan;
use crate::plan::step::Step;
use crate::plan::unit_ordering::Learnt;
use crate::sys::systemd::{UNIT, Unit, escape_path};
use crate::text::duration;

/// What the plan needs of farewell.service.
pub(super) struct UnitRequirements {
    /// The minimum stop timeout.
    pub(super) stop_timeout: Duration,
    /// The units that it must be ordered after.
    pub(super) after: Vec<Required>,
}

/// A unit that must still run during the sequence.
pub(super) struct Required {
    /// The unit as it is loaded.
    pub(super) unit: Unit,
    /// Which step needs it: `step stop-app`.
    pub(super) why: String,
}

/// The paths that the steps need, and every directory above them but the root, which systemd never unmounts.
fn places(ordering: &Ordering) -> BTreeSet<&Path> {
    let paths = ordering.paths.iter().flat_map(|path| path.ancestors());
    paths.filter(|place| *place != Path::new("/")).collect()
}

impl UnitRequirements {
    /// What the plan needs, as far as systemd knows the units. Others become remarks.
    pub(super) fn of(
        plan: &Plan,
        facts: &Facts,
        ordering: &Ordering,
        learnt: &Learnt,
        units: &mut Units<'_>,
        inspection: &mut Inspection,
    ) -> UnitRequirements {
        let mut after: Vec<Required> = Vec::new();
        let mut look = |name: &str, why: String, remarks: &mut Vec<String>| match units.get(name) {
            // A unit that does not exist needs no order.
            Ok(unit) if unit.exists() => {
                // It may be named by several of its names.
                match after.iter_mut().find(|known| known.unit.id == unit.id) {
                    Some(known) => known.why += &format!(", {why}"),
                    None => after.push(Required { unit, why }),
                }
                true
            }
            Ok(_) => false,
            Err(error) => {
                remarks.push(format!("cannot check {name}: {error}"));
                true
            }
        };
        let remarks = &mut inspection.remarks;
        for name in &ordering.units {
            let steps = steps(plan, |step| uses_unit(step, facts, name));
            if !look(name, steps.clone(), remarks) {
                remarks.push(format!("{name} does not exist ({steps})"));
            }
        }
        for (named, along) in &learnt.along {
            let steps = steps(plan, |step| uses_unit(step, facts, named));
            let along = along.iter().filter(|it| !ordering.units.contains(*it));
            for name in along {
                look(name, format!("{steps}, with {named}"), remarks);
            }
        }
        for place in places(ordering) {
            for suffix in ["mount", "automount"] {
                let steps = steps(plan, |step| uses_place(step, facts, place));
                look(&escape_path(place, suffix), steps, remarks);
            }
        }
        // What is ordered after farewell.service is reported as a cycle.
        after.retain(|it| !learnt.circles.contains(&it.unit.id));
        after.retain(|it| !it.unit.names.iter().any(|it| learnt.circles.contains(it)));
        let unknown = ordering.unknown.iter();
        remarks
            .extend(unknown.map(|it| {
                format!("cannot determine what else {UNIT} must be ordered after: {it}")
            }));
        UnitRequirements {
            stop_timeout: plan.stop_timeout(),
            after,
        }
    }
}

/// `step a`, `steps a, b`: those of which `is_one` holds.
fn steps(plan: &Plan, is_one: impl Fn(&Step) -> bool) -> String {
    let names: Vec<&str> = (plan.steps.iter())
        .filter(|step| is_one(step))
        .map(|step| step.name.as_str())
        .collect();
    let plural = if names.len() == 1 { "" } else { "s" };
    format!("step{plural} {}", names.join(", "))
}

fn uses_unit(step: &Step, facts: &Facts, unit: &str) -> bool {
    let mut fields = step.dependencies.units.iter().chain(&step.if_unit);
    step.needs.iter().any(|need| need == unit)
        || fields.any(|field| field.get(facts).is_ok_and(|it| it == unit))
}

fn uses_place(step: &Step, facts: &Facts, place: &Path) -> bool {
    let is_below = |path: PathBuf| path.starts_with(place);
    let mut fields = step.dependencies.paths.iter().chain(&step.if_path);
    fields.any(|field| field.get(facts).is_ok_and(is_below))
}

/// How to find where a value is set.
const ORIGIN: &str = "`systemctl cat farewell.service` shows where it is set";

/// What is wrong with `farewell`.
pub(super) fn compare(farewell: &Unit, demand: &UnitRequirements) -> Vec<Finding> {
    let finding = |is_stale| move |message: String| Finding { message, is_stale };
    if farewell.load != "loaded" {
        let state = &farewell.load;
        let remedy = match state.as_str() {
            "masked" => format!("run `systemctl unmask {UNIT}` and `systemctl start {UNIT}`"),
            _ => format!("see `systemctl status {UNIT}`"),
        };
        let message = format!("{UNIT} is {state}, so that no farewell runs at shutdown: {remedy}");
        // Other findings would be meaningless.
        return vec![finding(false)(message)];
    }
    let mut findings: Vec<Finding> = wrong_state(farewell).map(finding(false)).collect();
    findings.extend(stale_settings(farewell, demand).map(finding(true)));
    findings
}

/// What keeps a loaded unit from running a farewell, or from reporting it.
fn wrong_state(farewell: &Unit) -> impl Iterator<Item = String> {
    let Unit {
        active,
        status,
        notify_access,
        ..
    } = farewell;
    let inactive = (active != "active").then(|| {
        format!(
            "{UNIT} is {active}, so that no farewell runs at shutdown: run `systemctl start {UNIT}`"
        )
    });
    let failed = (*status != 0).then(|| {
        format!(
            "{UNIT} was started, but its ExecStart= ended with status {status} (systemd.exec(5) says what that means), so that \
             a farewell may not run at shutdown either: see `journalctl -b -u {UNIT}`, fix it, and run `systemctl restart {UNIT}`"
        )
    });
    let mute = !["exec", "all"].contains(&notify_access.as_str());
    let mute = mute.then(|| {
        format!(
            "{UNIT} has NotifyAccess={notify_access}, so that a run can neither report its status nor extend its stop timeout: set \
             NotifyAccess=exec ({ORIGIN})"
        )
    });
    inactive.into_iter().chain(failed).chain(mute)
}

/// What is not what the configuration needs, as systemd has loaded it.
fn stale_settings(farewell: &Unit, demand: &UnitRequirements) -> impl Iterator<Item = String> {
    let granted = farewell.stop_timeout;
    let short = granted.filter(|granted| *granted < demand.stop_timeout);
    let short = short.map(|granted| {
        let (granted, needed) = (
            duration::print(granted),
            duration::print(demand.stop_timeout),
        );
        format!(
            "{UNIT} has TimeoutStopSec={granted}, and the budget needs {needed}: run `systemctl daemon-reload`; where that \
             does not help, something overrides it ({ORIGIN})"
        )
    });
    let unordered = demand
        .after
        .iter()
        .filter(|it| !is_after(farewell, &it.unit));
    let unordered = unordered.map(|Required { unit, why }| {
        let name = &unit.id;
        format!(
            "{UNIT} is not ordered after {name} ({why}), so that it ends at the same moment that farewell starts: run \
             `farewell start`, which orders it; where that does not help, something overrides it ({ORIGIN})"
        )
    });
    short.into_iter().chain(unordered)
}

/// A summary of `farewell` if nothing is wrong.
pub(super) fn summary(farewell: &Unit) -> String {
    let granted = farewell.stop_timeout.map(duration::print);
    format!(
        "{UNIT} is active, may take {} to stop, and is ordered after everything that the steps need on this machine",
        granted.unwrap_or_else(|| "any time".to_owned())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(id: &str, names: &[&str]) -> Unit {
        Unit {
            id: id.to_owned(),
            names: names.iter().map(ToString::to_string).collect(),
            load: "loaded".to_owned(),
            active: "active".to_owned(),
            ..Unit::default()
        }
    }

    fn farewell() -> Unit {
        Unit {
            after: vec!["basic.target".into(), "app.service".into()],
            notify_access: "exec".to_owned(),
            stop_timeout: Some(Duration::from_secs(95)),
            ..unit(UNIT, &[UNIT])
        }
    }

    fn demand(after: &[Unit]) -> UnitRequirements {
        let required = |unit: &Unit| Required {
            unit: unit.clone(),
            why: "step a".to_owned(),
        };
        UnitRequirements {
            stop_timeout: Duration::from_secs(95),
            after: after.iter().map(required).collect(),
        }
    }

    fn found(farewell: &Unit, after: &[Unit]) -> Vec<(bool, String)> {
        let findings = compare(farewell, &demand(after));
        let finding = |it: Finding| (it.is_stale, it.message);
        findings.into_iter().map(finding).collect()
    }

    #[test]
    fn what_is_as_it_must_be_is_not_told() {
        let app = unit("app.service", &["app.service", "other.service"]);
        assert_eq!(found(&farewell(), &[app]), []);
        let forever = Unit {
            stop_timeout: None,
            notify_access: "all".to_owned(),
            ..farewell()
        };
        assert_eq!(found(&forever, &[]), []);
        assert!(summary(&forever).contains("may take any time to stop"));
        assert!(summary(&farewell()).contains("may take 1m 35s to stop"));
    }

    #[test]
    fn an_alias_is_the_same_unit() {
        let by_alias = unit("real.service", &["real.service", "app.service"]);
        assert_eq!(found(&farewell(), &[by_alias]), []);
        let other = unit("real.service", &["real.service"]);
        assert_eq!(
            found(&farewell(), &[other]),
            [(
                true,
                "farewell.service is not ordered after real.service (step a), so that it ends at the same moment that \
                 farewell starts: run `farewell start`, which orders it; where that does not help, something overrides \
                 it (`systemctl cat farewell.service` shows where it is set)"
                    .to_owned()
            )]
        );
    }

    #[test]
    fn each_thing_that_is_wrong_is_told() {
        let wrong = Unit {
            active: "inactive".to_owned(),
            notify_access: "none".to_owned(),
            stop_timeout: Some(Duration::from_millis(94_999)),
            status: 226,
            ..farewell()
        };
        let told = found(&wrong, &[]);
        for (at, is_stale, part) in [
            (
                0,
                false,
                "is inactive, so that no farewell runs at shutdown",
            ),
            (1, false, "its ExecStart= ended with status 226"),
            (2, false, "has NotifyAccess=none"),
            (
                3,
                true,
                "has TimeoutStopSec=1m 34s 999ms, and the budget needs 1m 35s",
            ),
        ] {
            assert_eq!(told[at].0, is_stale, "{told:?}");
            assert!(told[at].1.contains(part), "{told:?}");
        }
        assert_eq!(told.len(), 4);
        let masked = Unit {
            load: "masked".to_owned(),
            ..wrong
        };
        let told = found(&masked, &[]);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0]
                .1
                .contains("is masked, so that no farewell runs at shutdown: run `systemctl unmask"),
            "{told:?}"
        );
    }
}
