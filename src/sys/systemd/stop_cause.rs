//! Why a stop of units takes another one along: the dependencies through which systemd itself stops units together.

use std::fmt;

use super::unit::Unit;

/// A dependency through which one unit stops with, or before, another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tie {
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
pub enum Cause {
    /// The configuration names it.
    Named,
    /// It matches this pattern of the configuration.
    Matches(String),
    /// It has this dependency on that unit, which is stopped.
    Tied(Tie, String),
}

impl fmt::Display for Cause {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Named => out.write_str("named"),
            Cause::Matches(pattern) => write!(out, "matches {pattern}"),
            Cause::Tied(tie, other) => match tie {
                Tie::Requires => write!(out, "Requires={other}"),
                Tie::Requisite => write!(out, "Requisite={other}"),
                Tie::BindsTo => write!(out, "BindsTo={other}"),
                Tie::PartOf => write!(out, "PartOf={other}"),
                Tie::PropagatesStopTo => write!(out, "PropagatesStopTo= of {other}"),
                Tie::Slice => write!(out, "in {other}"),
                Tie::Triggers => write!(out, "triggers {other}"),
                Tie::Upholds => write!(out, "Upholds={other}"),
            },
        }
    }
}

/// The units to which the stop of `unit` leads.
pub(super) fn tied(unit: &Unit) -> impl Iterator<Item = (String, Cause)> + use<> {
    let is_slice = unit.id.ends_with(".slice");
    let id = unit.id.clone();
    let dependencies = [
        (Tie::Triggers, &unit.triggered_by),
        (Tie::Upholds, &unit.upheld_by),
        // Members of a slice have Requires= on it by themselves.
        (
            if is_slice { Tie::Slice } else { Tie::Requires },
            &unit.required_by,
        ),
        (Tie::Requisite, &unit.requisite_of),
        (Tie::BindsTo, &unit.bound_by),
        (Tie::PartOf, &unit.consists_of),
        (Tie::PropagatesStopTo, &unit.propagates_stop_to),
    ];
    let dependencies = dependencies.map(|(tie, names)| (tie, names.clone()));
    dependencies.into_iter().flat_map(move |(tie, names)| {
        let id = id.clone();
        let tied = move |name| (name, Cause::Tied(tie, id.clone()));
        names.into_iter().map(tied)
    })
}
