//! Which units a stop takes along, and why: the dependencies through which systemd itself would stop them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::protected_units::{Protection, StopLimits};
use super::stop_cause::{StopCause, StopDependency, tied};
use super::unit::Unit;

/// A unit that is stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The unit as it is loaded.
    pub unit: Unit,
    /// Why it is stopped.
    pub cause: StopCause,
}

/// A unit that a dependency would stop, but that is protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spared {
    /// The unit as it is loaded.
    pub unit: Unit,
    /// Why it would be stopped.
    pub cause: StopCause,
    /// Why it is not stopped.
    pub spare: Protection,
}

/// The effect of a stop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Closure {
    /// The units that are stopped, the named ones first.
    pub members: Vec<Member>,
    /// Protected units that a name, a pattern or a dependency leads to.
    pub spared: Vec<Spared>,
}

/// A unit that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The name of a unit.
    pub name: String,
    /// The pattern that it matches, unless the configuration has its name.
    pub pattern: Option<String>,
}

impl Closure {
    /// What a stop of `wanted` takes along within `bounds`. Units are read by `look` one by one, following
    /// dependencies: reading all units of a machine would keep PID 1 busy. Inactive units are members too, since units
    /// that depend on them may run, and triggers may start them.
    pub fn of<E>(
        wanted: &[Wanted],
        bounds: &StopLimits,
        mut look: impl FnMut(&str) -> Result<Unit, E>,
    ) -> Result<Closure, E> {
        let mut closure = Closure::default();
        let mut known: BTreeMap<String, String> = BTreeMap::new();
        let mut seen: BTreeSet<String> = BTreeSet::new();
        let mut upholders: Vec<(Unit, StopCause)> = Vec::new();
        let wanted = wanted.iter().map(|it| match &it.pattern {
            None => (it.name.clone(), StopCause::Named),
            Some(pattern) => (it.name.clone(), StopCause::Matches(pattern.clone())),
        });
        let mut queue: VecDeque<(String, StopCause)> = wanted.collect();
        while let Some((name, cause)) = queue.pop_front() {
            if known.get(&name).is_some_and(|id| seen.contains(id)) {
                continue;
            }
            let unit = look(&name)?;
            known.insert(name, unit.id.clone());
            if seen.contains(&unit.id) {
                continue;
            }
            let is_target = unit.id.ends_with(".target");
            if is_target && matches!(cause, StopCause::Tied(StopDependency::Upholds, _)) {
                upholders.push((unit, cause));
                continue;
            }
            seen.insert(unit.id.clone());
            match bounds.spare(&unit, &cause) {
                Some(spare) => {
                    // The slice stays because the asking process is in it; its other units are stopped.
                    if spare == Protection::Asker && unit.id.ends_with(".slice") {
                        queue.extend(tied(&unit));
                    }
                    closure.spared.push(Spared { unit, cause, spare });
                }
                None => {
                    queue.extend(tied(&unit));
                    closure.members.push(Member { unit, cause });
                }
            }
        }
        for (unit, cause) in upholders {
            if seen.insert(unit.id.clone()) {
                let spare = Protection::UpholdingTarget;
                closure.spared.push(Spared { unit, cause, spare });
            }
        }
        Ok(closure)
    }

    /// The members that are not inactive.
    pub fn active(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|it| !it.unit.is_down())
    }

    /// The active units that are stopped besides those that the configuration names: `db@15.service
    /// (PartOf=db.service)`.
    pub fn along(&self) -> Vec<String> {
        self.active()
            .filter(|it| matches!(it.cause, StopCause::Tied(..)))
            .map(|it| format!("{} ({})", it.unit.id, it.cause))
            .collect()
    }

    /// For each member whose settings let processes outlive it: what that means, and what to write.
    pub fn leftovers(&self) -> Vec<String> {
        let members = self.members.iter().map(|it| &it.unit);
        let told = members.filter(|unit| unit.lets_processes_stay()).map(|unit| {
            format!(
                "{} has {}, so that its processes may outlive it, which fails the step 10 s after the unit is down: write \
                 `leave-behind = true` where they may, and false to wait for them",
                unit.id,
                unit.kill_setting()
            )
        });
        told.collect()
    }

    /// What is left running, and why: `dbus.service (Requires=app.service): the system needs it`.
    pub fn left_alone(&self) -> Vec<String> {
        self.spared
            .iter()
            .filter(|it| !it.unit.is_down())
            .map(|it| format!("{} ({}): {}", it.unit.id, it.cause, it.spare))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(id: &str) -> Unit {
        Unit {
            id: id.to_owned(),
            names: vec![id.to_owned()],
            load: "loaded".to_owned(),
            active: "active".to_owned(),
            ..Unit::default()
        }
    }

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    /// The closure over `units`; what is not among them does not exist.
    fn closure(wanted: &[&str], bounds: &StopLimits, units: &[Unit]) -> Closure {
        let wanted: Vec<Wanted> = wanted
            .iter()
            .map(|name| Wanted {
                name: name.to_string(),
                pattern: name.starts_with("by-glob").then(|| "by-glob*".to_owned()),
            })
            .collect();
        let look = |name: &str| -> Result<Unit, ()> {
            let is_it = |unit: &&Unit| unit.names.iter().any(|it| it == name);
            let missing = || Unit {
                load: "not-found".to_owned(),
                active: "inactive".to_owned(),
                ..unit(name)
            };
            Ok(units.iter().find(is_it).cloned().unwrap_or_else(missing))
        };
        Closure::of(&wanted, bounds, look).expect("no question fails")
    }

    fn told(closure: &Closure) -> (Vec<String>, Vec<String>) {
        (closure.along(), closure.left_alone())
    }

    #[test]
    fn every_dependency_that_stops_is_followed_to_its_end() {
        let units = [
            Unit {
                required_by: list(&["r.service"]),
                requisite_of: list(&["q.service"]),
                bound_by: list(&["b.service"]),
                consists_of: list(&["p.service"]),
                propagates_stop_to: list(&["s.service"]),
                ..unit("a.service")
            },
            unit("r.service"),
            unit("q.service"),
            unit("s.service"),
            Unit {
                active: "inactive".to_owned(),
                consists_of: list(&["pp.service", "a.service"]),
                ..unit("p.service")
            },
            unit("pp.service"),
            Unit {
                triggered_by: list(&["b.socket"]),
                ..unit("b.service")
            },
            unit("b.socket"),
        ];
        let closure = closure(&["a.service"], &StopLimits::default(), &units);
        let along = [
            "r.service (Requires=a.service)",
            "q.service (Requisite=a.service)",
            "b.service (BindsTo=a.service)",
            "s.service (PropagatesStopTo= of a.service)",
            "b.socket (triggers b.service)",
            "pp.service (PartOf=p.service)",
        ];
        assert_eq!(told(&closure), (list(&along), vec![]));
        assert_eq!(closure.members.len(), 8);
    }

    #[test]
    fn a_slice_stops_with_its_members() {
        let units = [
            Unit {
                required_by: list(&["a.service", "b.scope", "apps-web.slice"]),
                ..unit("apps.slice")
            },
            unit("a.service"),
            unit("b.scope"),
            Unit {
                required_by: list(&["c.service"]),
                ..unit("apps-web.slice")
            },
            unit("c.service"),
        ];
        let closure = closure(&["apps.slice"], &StopLimits::default(), &units);
        let along = [
            "a.service (in apps.slice)",
            "b.scope (in apps.slice)",
            "apps-web.slice (in apps.slice)",
            "c.service (in apps-web.slice)",
        ];
        assert_eq!(told(&closure), (list(&along), vec![]));
    }

    #[test]
    fn an_upholding_service_is_stopped_and_a_target_is_not() {
        let units = [
            Unit {
                upheld_by: list(&["keeper.service", "all.target", "own.target"]),
                consists_of: list(&["own.target"]),
                ..unit("a.service")
            },
            unit("keeper.service"),
            unit("all.target"),
            unit("own.target"),
        ];
        let closure = closure(&["a.service"], &StopLimits::default(), &units);
        let along = [
            "keeper.service (Upholds=a.service)",
            "own.target (PartOf=a.service)",
        ];
        let left = ["all.target (Upholds=a.service): a target is not stopped for what it upholds"];
        assert_eq!(told(&closure), (list(&along), list(&left)));
    }

    #[test]
    fn what_the_machine_or_the_plan_needs_is_left_alone_and_ends_no_chain_for_others() {
        let bounds = StopLimits {
            asker: list(&["session-3.scope", "user-0.slice", "user.slice"]),
            needed: list(&["agent.service"]),
            ordered: list(&["remote-fs.target"]),
        };
        let units = [
            Unit {
                required_by: list(&[
                    "dbus.service",
                    "farewell.service",
                    "session-3.scope",
                    "by-its-alias.service",
                    "remote-fs.target",
                    "basic.target",
                    "-.mount",
                    "last.service",
                ]),
                ..unit("by-glob-a.service")
            },
            Unit {
                required_by: list(&["behind.service"]),
                ..unit("dbus.service")
            },
            unit("behind.service"),
            unit("farewell.service"),
            unit("session-3.scope"),
            Unit {
                names: list(&["agent.service", "by-its-alias.service"]),
                ..unit("agent.service")
            },
            unit("remote-fs.target"),
            unit("basic.target"),
            Unit {
                is_perpetual: true,
                ..unit("-.mount")
            },
            unit("last.service"),
            unit("user.slice"),
        ];
        let closure = closure(&["by-glob-a.service", "user.slice"], &bounds, &units);
        let (along, left) = told(&closure);
        assert_eq!(along, ["last.service (Requires=by-glob-a.service)"]);
        let of = |id: &str| left.iter().find(|it| it.starts_with(id)).cloned();
        for (id, why) in [
            ("dbus.service", "the system needs it"),
            ("farewell.service", "farewell's own"),
            ("session-3.scope", "this process runs in it"),
            ("agent.service", "this or a later step needs it"),
            (
                "remote-fs.target",
                "farewell.service itself is ordered after it",
            ),
            ("basic.target", "the system needs it"),
            ("-.mount", "systemd never stops it"),
            ("user.slice (named)", "this process runs in it"),
        ] {
            assert!(of(id).is_some_and(|it| it.ends_with(why)), "{id}: {left:?}");
        }
        assert_eq!(left.len(), 8);
    }

    #[test]
    fn a_name_in_the_step_overrules_what_others_need() {
        let bounds = StopLimits {
            asker: Vec::new(),
            needed: list(&["agent.service"]),
            ordered: list(&["nfs.service"]),
        };
        let named = ["agent.service", "nfs.service", "dbus.service"];
        let units = named.map(unit);
        let closure = closure(&named, &bounds, &units);
        assert_eq!(closure.members.len(), 3);
        assert_eq!(told(&closure), (vec![], vec![]));
    }

    #[test]
    fn an_alias_is_the_same_unit() {
        let units = [Unit {
            names: list(&["real.service", "alias.service"]),
            consists_of: list(&["alias.service"]),
            ..unit("real.service")
        }];
        let named = ["alias.service", "real.service"];
        let closure = closure(&named, &StopLimits::default(), &units);
        assert_eq!(closure.members.len(), 1);
    }
}
