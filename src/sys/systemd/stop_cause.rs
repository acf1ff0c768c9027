//! Why a stop takes another unit along: the dependencies through which systemd itself stops units together.

use std::fmt;

use super::unit::Unit;

/// A dependency through which one unit stops with, or before, another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopDependency {
    /// It has Requires= on the other one.
    Requires,
    /// It has Requisite= on the other one.
    Requisite,
    /// It has BindsTo= on the other one.
    BindsTo,
    /// It has PartOf= on the other one.
    PartOf,
    /// The other one has PropagatesStopTo= on it.
    PropagatesStopTo,
    /// It is in the other one, a slice.
    Slice,
    /// It starts the other one: a socket, timer, path or automount.
    Triggers,
    /// It has Upholds= on the other one.
    Upholds,
}

/// Why a unit is stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// The configuration names it.
    Named,
    /// It matches this pattern of the configuration.
    Matches(String),
    /// It has this dependency on that unit, which is stopped.
    Tied(StopDependency, String),
}

impl fmt::Display for StopCause {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StopCause::Named => out.write_str("named"),
            StopCause::Matches(pattern) => write!(out, "matches {pattern}"),
            StopCause::Tied(tie, other) => match tie {
                StopDependency::Requires => write!(out, "Requires={other}"),
                StopDependency::Requisite => write!(out, "Requisite={other}"),
                StopDependency::BindsTo => write!(out, "BindsTo={other}"),
                StopDependency::PartOf => write!(out, "PartOf={other}"),
                StopDependency::PropagatesStopTo => write!(out, "PropagatesStopTo= of {other}"),
                StopDependency::Slice => write!(out, "in {other}"),
                StopDependency::Triggers => write!(out, "triggers {other}"),
                StopDependency::Upholds => write!(out, "Upholds={other}"),
            },
        }
    }
}

/// The units that are stopped because `unit` is.
pub(super) fn tied(unit: &Unit) -> impl Iterator<Item = (String, StopCause)> + use<> {
    let is_slice = unit.id.ends_with(".slice");
    let id = unit.id.clone();
    let dependencies = [
        (StopDependency::Triggers, &unit.triggered_by),
        (StopDependency::Upholds, &unit.upheld_by),
        // Members of a slice have an implicit Requires= on it.
        (
            if is_slice {
                StopDependency::Slice
            } else {
                StopDependency::Requires
            },
            &unit.required_by,
        ),
        (StopDependency::Requisite, &unit.requisite_of),
        (StopDependency::BindsTo, &unit.bound_by),
        (StopDependency::PartOf, &unit.consists_of),
        (StopDependency::PropagatesStopTo, &unit.propagates_stop_to),
    ];
    let dependencies = dependencies.map(|(tie, names)| (tie, names.clone()));
    dependencies.into_iter().flat_map(move |(tie, names)| {
        let id = id.clone();
        let tied = move |name| (name, StopCause::Tied(tie, id.clone()));
        names.into_iter().map(tied)
    })
}
