//! Checks the order of farewell.service against the loaded units: finds units that no configuration names, and ordering
//! cycles, which systemd would break by dropping a job.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use super::{Finding, Ordering, Units};
use crate::plan::unit_ordering::Learnt;
use crate::sys::dbus::BusError;
use crate::sys::systemd::{
    ARM_UNIT, Closure, Orders, START_UNIT, StopLimits, UNIT, Unit, Wanted, is_pattern, template,
};

/// The result.
#[derive(Default)]
pub(super) struct Order {
    /// What farewell-generator needs to know.
    pub(super) learnt: Learnt,
    /// Whether systemd answered every call: an incomplete answer must not replace what is known.
    pub(super) is_whole: bool,
    /// Ordering cycles.
    pub(super) findings: Vec<Finding>,
    /// What could not be checked.
    pub(super) remarks: Vec<String>,
}

/// Asks systemd about the plan's units, and looks for ordering cycles.
pub(super) fn inspect(ordering: &Ordering, farewell: &Unit, units: &mut Units<'_>) -> Order {
    let mut order = Order {
        is_whole: true,
        ..Order::default()
    };
    order.learn(ordering, farewell, units);
    let wanted = ordering.after(&order.learnt);
    let manager = units.manager;
    let mut orders = Orders::new(manager, units.deadline);
    let mut own = BTreeSet::new();
    for name in &wanted {
        // A missing unit is reported elsewhere.
        let Ok(unit) = units.get(name) else { continue };
        own.insert(unit.id.clone());
        match orders.chain(&unit.id, UNIT, None) {
            Ok(Some(chain)) => order.leave_out(name, &chain, units),
            Ok(None) => {}
            Err(error) => return order.fail(&error),
        }
    }
    order.learnt.templates = ordering.templates(&order.learnt);
    for (unit, except) in [
        (UNIT, None),
        (START_UNIT, Some(UNIT)),
        (ARM_UNIT, Some(UNIT)),
    ] {
        let after = match unit {
            UNIT => Ok(farewell.after.clone()),
            _ => manager.after(unit, units.deadline),
        };
        let after = match after {
            Ok(after) => after,
            Err(error) => return order.fail(&error),
        };
        for first in after.iter().filter(|it| *it != UNIT && !own.contains(*it)) {
            match orders.chain(first, unit, except) {
                Ok(Some(chain)) => order.find(unit, &chain, units),
                Ok(None) => {}
                Err(error) => return order.fail(&error),
            }
        }
    }
    order
}

/// The unit with this name, or those that match it.
fn wanted(name: &str, units: &Units<'_>) -> Result<Vec<Wanted>, BusError> {
    if !is_pattern(name) {
        let (name, pattern) = (name.to_owned(), None);
        return Ok(vec![Wanted { name, pattern }]);
    }
    let found = (units.manager).matching(&[name.to_owned()], units.deadline)?;
    let wanted = found.into_iter().map(|state| Wanted {
        name: state.id,
        pattern: Some(name.to_owned()),
    });
    Ok(wanted.collect())
}

impl Order {
    /// Asks what each stop takes along. What a step needs is part of the order anyway.
    fn learn(&mut self, ordering: &Ordering, farewell: &Unit, units: &mut Units<'_>) {
        let bounds = StopLimits::of_this_process(farewell, &[]);
        for name in &ordering.stopped {
            let closure = wanted(name, units)
                .and_then(|wanted| Closure::of(&wanted, &bounds, |unit| units.get(unit)));
            match closure {
                Ok(closure) => {
                    let members = closure.members.into_iter().map(|it| it.unit);
                    let along = members.filter(|it| it.id != *name && it.exists());
                    let along = along.map(|unit| unit.id).collect();
                    self.learnt.along.insert(name.clone(), along);
                }
                Err(error) => {
                    self.is_whole = false;
                    self.remarks.push(format!(
                        "cannot determine what is stopped with {name}: {error}"
                    ));
                }
            }
        }
    }

    fn fail(mut self, error: &BusError) -> Order {
        self.is_whole = false;
        self.remarks
            .push(format!("cannot check for ordering cycles: {error}"));
        self
    }

    /// Reports a unit that is ordered after farewell.service, so that the opposite order is impossible.
    fn leave_out(&mut self, name: &str, chain: &[String], units: &mut Units<'_>) {
        self.learnt.circles.insert(name.to_owned());
        self.learnt.circles.extend(template(name));
        let message = format!(
            "{}, so {UNIT} cannot be ordered after {name} (systemd would drop one of the two jobs at boot or at shutdown), and \
             {name} may end before the farewell begins: {}",
            sentence(chain),
            remedy(chain, units)
        );
        self.push(message);
    }

    /// Reports a cycle that no drop-in of the generator can avoid.
    fn find(&mut self, unit: &str, chain: &[String], units: &mut Units<'_>) {
        let circle = [&[unit.to_owned()], chain].concat();
        let message = format!(
            "{}: systemd breaks this circle by dropping one of them at the boot or at the shutdown, which may be the farewell: \
             {}",
            sentence(&circle),
            remedy(&circle, units)
        );
        self.push(message);
    }

    fn push(&mut self, message: String) {
        let is_stale = false;
        self.findings.push(Finding { message, is_stale });
    }
}

/// `a is ordered after b, b after c`.
fn sentence(chain: &[String]) -> String {
    let links: Vec<String> = chain
        .windows(2)
        .map(|link| format!("{} after {}", link[0], link[1]))
        .collect();
    links
        .join(", ")
        .replacen(" after ", " is ordered after ", 1)
}

/// The line that closes the cycle, among lines that are not farewell's own.
fn remedy(chain: &[String], units: &mut Units<'_>) -> String {
    let is_own = |unit: &String| [UNIT, START_UNIT, ARM_UNIT].contains(&unit.as_str());
    let links = chain.windows(2).filter(|it| !is_own(&it[0]));
    // A line that names farewell was written for it, and can be changed with the least risk.
    let (mut links, others): (Vec<&[String]>, Vec<&[String]>) =
        links.partition(|link| is_own(&link[1]));
    links.extend(others);
    let mut line = |unit: &String, key: &str, named: &String| {
        let files = units.get(unit).map(|unit| unit.files()).unwrap_or_default();
        let (file, number) = line(&files, key, named)?;
        let file = file.display();
        Some(format!(
            "remove {named} from `{key}=` in line {number} of {file}, then run `systemctl daemon-reload` and `farewell start`"
        ))
    };
    for link in &links {
        let found =
            line(&link[0], "After", &link[1]).or_else(|| line(&link[1], "Before", &link[0]));
        if let Some(found) = found {
            return found;
        }
    }
    let unit = links.first().map_or(UNIT, |link| link[0].as_str());
    format!("this order is in no unit file; see `systemctl show -P After {unit}`")
}

/// The file and line, from 1, in which `key` names `unit`.
fn line(files: &[PathBuf], key: &str, unit: &str) -> Option<(PathBuf, usize)> {
    let is_it = |line: &str| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == key && value.split_whitespace().any(|it| it == unit)).then_some(())
    };
    files.iter().find_map(|file| {
        let text = fs::read_to_string(file).ok()?;
        let at = text.lines().position(|line| is_it(line).is_some())?;
        Some((file.clone(), at + 1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_told_in_order() {
        let chain = ["app.service", "third.service", UNIT].map(str::to_owned);
        assert_eq!(
            sentence(&chain),
            "app.service is ordered after third.service, third.service after farewell.service"
        );
    }
}
