//! The units that farewell.service must be ordered after, so that they still run while the sequence does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::load::Plan;
use crate::config::facts::Facts;
use crate::config::section::Field;
use crate::model::error::Failure;
use crate::sys::systemd::{self, escape_path, is_pattern, is_unit_name};

/// Units and paths that steps stop, need or use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ordering {
    /// Units that a step stops, `needs`, or has in `if-unit`.
    pub units: BTreeSet<String>,
    /// The units that a step stops, and patterns of such names.
    pub stopped: BTreeSet<String>,
    /// Paths that a step uses, which may be on mounts.
    pub paths: BTreeSet<PathBuf>,
    /// Values that are unknown because a fact in them is not available now.
    pub unknown: Vec<Unknown>,
}

/// A value that is unknown as yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// The step.
    pub step: String,
    /// The key of the step.
    pub key: String,
    /// Why it is unknown.
    pub cause: Failure,
}

impl std::fmt::Display for Unknown {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "step {}: {}", self.step, self.cause)
    }
}

/// What systemd reported at the last `farewell start` of units that no configuration names. It is saved for
/// farewell-generator, which cannot ask systemd.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learnt {
    /// For each unit that a step stops, the units that are stopped with it; for each pattern, those that it stands for.
    #[serde(default)]
    pub along: BTreeMap<String, BTreeSet<String>>,
    /// Units and templates that farewell.service must not be ordered after, since they are ordered after it.
    #[serde(default)]
    pub circles: BTreeSet<String>,
    /// Templates of units that are ordered before farewell.service.
    #[serde(default)]
    pub templates: BTreeSet<String>,
}

impl Ordering {
    /// The units and paths of a plan's steps, whatever their triggers.
    pub fn of(plan: &Plan, facts: &Facts) -> Ordering {
        let mut ordering = Ordering::default();
        for step in &plan.steps {
            for unit in &step.dependencies.units {
                let found = ordering.value(&step.name, unit, facts);
                ordering.stopped.extend(found);
            }
            if let Some(unit) = &step.if_unit {
                let found = ordering.value(&step.name, unit, facts);
                ordering.units.extend(found);
            }
            let named = ordering.stopped.iter().filter(|it| !is_pattern(it));
            ordering.units.extend(named.cloned().collect::<Vec<_>>());
            ordering.units.extend(step.needs.iter().cloned());
            // A program's name without a slash is not a path.
            let is_path = |field: &&Field<PathBuf>| {
                field.literal().is_none_or(|literal| literal.contains('/'))
            };
            let paths = step.dependencies.paths.iter().chain(&step.if_path);
            for path in paths.filter(is_path) {
                let found = ordering.value(&step.name, path, facts);
                ordering.paths.extend(found);
            }
        }
        ordering
    }

    fn value<T>(&mut self, step: &str, field: &Field<T>, facts: &Facts) -> Option<T> {
        match field.get(facts) {
            Ok(value) => Some(value),
            Err(cause) => {
                self.unknown.push(Unknown {
                    step: step.to_owned(),
                    key: field.key().to_owned(),
                    cause,
                });
                None
            }
        }
    }

    /// The names for After=: the units, those that are stopped with them, and for each path the mount and automount units
    /// that it may be below. Which of them exist is unknown; systemd ignores an ordering after a unit that
    /// does not. Names that would close a cycle are left out.
    pub fn after(&self, learnt: &Learnt) -> BTreeSet<String> {
        let mut after = self.units.clone();
        let stopped = self.stopped.iter();
        let along = stopped.filter_map(|name| learnt.along.get(name)).flatten();
        after.extend(along.cloned());
        for place in self.paths.iter().flat_map(|path| places(path)) {
            after.insert(escape_path(&place, "mount"));
            after.insert(escape_path(&place, "automount"));
        }
        // A name from a file is validated, and nothing is ordered after itself.
        after.retain(|unit| {
            is_unit_name(unit) && unit != systemd::UNIT && !learnt.circles.contains(unit)
        });
        after
    }

    /// The templates of the patterns; those that would close a cycle are left out.
    pub fn templates(&self, learnt: &Learnt) -> BTreeSet<String> {
        let patterns = self.stopped.iter().filter(|it| is_pattern(it));
        let templates = patterns.filter_map(|it| systemd::template(it));
        templates
            .filter(|it| is_unit_name(it) && !learnt.circles.contains(it))
            .collect()
    }
}

/// Every directory but `/` on the way to `path`, and `path` itself: `/a/../b` leads through `/a`, which must be there as
/// well, and to `/b`, unless `/a` is a symbolic link, whose target is not followed.
fn places(path: &Path) -> Vec<PathBuf> {
    let mut place = PathBuf::from("/");
    let mut places = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => place.push(name),
            // `..` at the root stays there.
            Component::ParentDir => drop(place.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
        if place != Path::new("/") && !places.contains(&place) {
            places.push(place.clone());
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_a_path_has_no_steps_back() {
        let places = |path: &str| -> Vec<String> {
            let places = places(Path::new(path));
            places.iter().map(|it| it.display().to_string()).collect()
        };
        assert_eq!(places("/mnt/a/file"), ["/mnt", "/mnt/a", "/mnt/a/file"]);
        assert_eq!(
            places("/mnt/a/../b//./c"),
            ["/mnt", "/mnt/a", "/mnt/b", "/mnt/b/c"]
        );
        assert_eq!(places("/../.."), [""; 0]);
        assert_eq!(places("/"), [""; 0]);
    }
}
