//! What farewell.service would be ordered after, beside what systemd has loaded: units that no configuration names, and
//! circles, of which systemd would drop a member.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use super::{Finding, Ordering, Units};
use crate::plan::unit_ordering::Learnt;
use crate::sys::dbus::BusError;
use crate::sys::systemd::{
    ARM_UNIT, Closure, Orders, START_UNIT, StopLimits, UNIT, Unit, Wanted, is_pattern, template,
};

/// What was found.
#[derive(Default)]
pub(super) struct Order {
    /// What farewell-generator has to know.
    pub(super) learnt: Learnt,
    /// Whether systemd answered everything: a part must not replace what is known.
    pub(super) is_whole: bool,
    /// Circles.
    pub(super) findings: Vec<Finding>,
    /// What could not be looked at.
    pub(super) remarks: Vec<String>,
}

/// Asks systemd what the plan's units come to, and looks for circles.
pub(super) fn look(ordering: &Ordering, farewell: &Unit, units: &mut Units<'_>) -> Order {
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
        // What does not exist is told of where it is missed.
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

/// The unit of this name, or those that match it.
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
    /// Asks what each stop takes along. What a step needs is in the order anyway.
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
                    self.remarks
                        .push(format!("what is stopped with {name} is not known: {error}"));
                }
            }
        }
    }

    fn fail(mut self, error: &BusError) -> Order {
        self.is_whole = false;
        self.remarks
            .push(format!("circles of ordering were not looked for: {error}"));
        self
    }

    /// Tells of a unit that is ordered after farewell.service, so that the opposite cannot be.
    fn leave_out(&mut self, name: &str, chain: &[String], units: &mut Units<'_>) {
        self.learnt.circles.insert(name.to_owned());
        self.learnt.circles.extend(template(name));
        let message = format!(
            "{}, so {UNIT} cannot be ordered after {name} (systemd would drop one of both at the boot or at the shutdown), and \
             {name} may end before the farewell begins: {}",
            sentence(chain),
            remedy(chain, units)
        );
        self.push(message);
    }

    /// Tells of a circle that no drop-in of the generator can avoid.
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

/// The line that closes the circle, among the lines that are not farewell's own.
fn remedy(chain: &[String], units: &mut Units<'_>) -> String {
    let is_own = |unit: &String| [UNIT, START_UNIT, ARM_UNIT].contains(&unit.as_str());
    let links = chain.windows(2).filter(|it| !is_own(&it[0]));
    // What names farewell was written for it, and can be changed with the least harm.
    let (mut links, others): (Vec<&[String]>, Vec<&[String]>) =
        links.partition(|link| is_own(&link[1]));
    links.extend(others);
    let mut line = |unit: &String, key: &str, named: &String| {
        let files = units.get(unit).map(|unit| unit.files()).unwrap_or_default();
        let (file, number) = line(&files, key, named)?;
        let file = file.display();
        Some(format!(
            "take {named} out of `{key}=` in line {number} of {file}, and run `systemctl daemon-reload` and `farewell start`"
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
    format!("no unit file says so; see `systemctl show -P After {unit}`")
}

/// The file and the line of it, from 1 on, in which `key` names `unit`.
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
