//! What farewell.service must be ordered after, so that it is still there while the sequence runs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::gate::Plan;
use crate::config::facts::Facts;
use crate::config::section::Field;
use crate::sys::systemd::escape_path;

/// Units and paths that steps stop, need or use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ordering {
    /// Units that a step stops or `needs`, or whose state decides whether it runs.
    pub units: BTreeSet<String>,
    /// Paths that a step uses, which may be on mounts.
    pub paths: BTreeSet<PathBuf>,
    /// What is not known yet, since a fact in it cannot be had now: one sentence each.
    pub unknown: Vec<String>,
}

impl Ordering {
    /// What the steps of a plan come to, whatever their triggers.
    pub fn of(plan: &Plan, facts: &Facts) -> Ordering {
        let mut ordering = Ordering::default();
        for step in &plan.steps {
            let units = step.ties.units.iter().chain(&step.if_unit);
            for unit in units {
                let found = ordering.look(&step.name, unit, facts);
                ordering.units.extend(found);
            }
            ordering.units.extend(step.needs.iter().cloned());
            // A program's name without a slash in it is not the path of anything.
            let is_path = |field: &&Field<PathBuf>| {
                field
                    .literal()
                    .is_none_or(|literal| literal.starts_with('/'))
            };
            let paths = step.ties.paths.iter().chain(&step.if_path);
            for path in paths.filter(is_path) {
                let found = ordering.look(&step.name, path, facts);
                ordering.paths.extend(found);
            }
        }
        ordering
    }

    fn look<T>(&mut self, step: &str, field: &Field<T>, facts: &Facts) -> Option<T> {
        match field.get(facts) {
            Ok(value) => Some(value),
            Err(failure) => {
                self.unknown.push(format!("step {step}: {failure}"));
                None
            }
        }
    }

    /// The names for After=: the units, and for each path the mount and automount units that it may be below. Nobody knows
    /// which of them exist before they do; systemd takes a name that does not for no ordering at all.
    pub fn after(&self) -> BTreeSet<String> {
        let mut after = self.units.clone();
        let places = self.paths.iter().flat_map(|path| path.ancestors());
        for place in places.filter(|place| *place != Path::new("/")) {
            after.insert(escape_path(place, "mount"));
            after.insert(escape_path(place, "automount"));
        }
        after
    }
}
