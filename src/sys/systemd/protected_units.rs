//! Units that are never stopped along with others.

use std::fmt;
use std::fs;

use super::stop_cause::StopCause;
use super::unit::Unit;
use super::{OWN, units_of};

/// Targets that every unit needs, or that a shutdown consists of.
const TARGETS: [&str; 3] = ["sysinit.target", "basic.target", "shutdown.target"];

/// The system's own daemons.
const DAEMONS: [&str; 13] = [
    "dbus.service",
    "dbus-broker.service",
    "dbus.socket",
    "systemd-journald.service",
    "systemd-journald.socket",
    "systemd-journald-dev-log.socket",
    "systemd-journald-audit.socket",
    "systemd-logind.service",
    "systemd-logind-varlink.socket",
    "systemd-udevd.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "systemd-udevd-varlink.socket",
];

/// Why a unit is not stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// One of farewell's own units.
    Own,
    /// The unit of the asking process, or a slice around it.
    Asker,
    /// systemd keeps it as long as the machine runs.
    Perpetual,
    /// One of the system's targets and daemons, which every other unit needs.
    System,
    /// This step, or one that may still run then, has it in its `needs`.
    Needed,
    /// farewell.service itself has an After= on it.
    Ordered,
    /// A target that upholds a unit is not stopped for it.
    UpholdingTarget,
}

impl Protection {
    /// Whether it also applies to a unit that the configuration names.
    fn is_absolute(self) -> bool {
        matches!(
            self,
            Protection::Own | Protection::Asker | Protection::Perpetual
        )
    }
}

impl fmt::Display for Protection {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Protection::Own => "it is farewell's own",
            Protection::Asker => "this process runs in it",
            Protection::Perpetual => "systemd never stops it",
            Protection::System => "the system needs it",
            Protection::Needed => "this or a later step needs it",
            Protection::Ordered => "farewell.service itself is ordered after it",
            Protection::UpholdingTarget => "a target is not stopped for what it upholds",
        })
    }
}

/// The limits of a stop's closure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopLimits {
    /// The unit of the asking process, and the slices around it.
    pub asker: Vec<String>,
    /// The `needs` of the step and of those that may still run then.
    pub needed: Vec<String>,
    /// What farewell.service is ordered after in its own file and an administrator's drop-ins, without the generator's.
    pub ordered: Vec<String>,
}

impl StopLimits {
    /// The limits of a stop by this process. `farewell` is farewell.service as it is loaded.
    pub fn of_this_process(farewell: &Unit, needed: &[String]) -> StopLimits {
        let files = [farewell.fragment.clone()].into_iter();
        let files = files.chain(farewell.drop_ins.iter().cloned());
        let texts = files
            // What the generator writes comes from the steps themselves.
            .filter(|path| !path.starts_with("/run/systemd/generator"))
            .filter_map(|path| fs::read_to_string(path).ok());
        StopLimits {
            asker: units_of("self"),
            needed: needed.to_vec(),
            ordered: texts.flat_map(|text| after(&text)).collect(),
        }
    }

    /// Why `unit` is not stopped; `None` if it is.
    pub fn spare(&self, unit: &Unit, cause: &StopCause) -> Option<Protection> {
        let is_one = |name: &str| unit.id == name || unit.names.iter().any(|it| it == name);
        let among = |names: &[String]| names.iter().any(|name| is_one(name));
        let spare = if OWN.into_iter().any(is_one) {
            Protection::Own
        } else if among(&self.asker) {
            Protection::Asker
        } else if unit.is_perpetual {
            Protection::Perpetual
        } else if TARGETS.into_iter().chain(DAEMONS).any(is_one) {
            Protection::System
        } else if among(&self.needed) {
            Protection::Needed
        } else if among(&self.ordered) {
            Protection::Ordered
        } else {
            return None;
        };
        let is_named = *cause == StopCause::Named;
        (spare.is_absolute() || !is_named).then_some(spare)
    }
}

/// The units in the After= lines of a unit file; see systemd.syntax(7).
fn after(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.replace("\\\n", " ").lines() {
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        if key.trim() == "After" {
            // An empty After= does not reset the list.
            found.extend(value.split_whitespace().map(str::to_owned));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_is_read_from_unit_files() {
        let text = "# After=no.service\n[Unit]\nAfter=a.target  b.service\nAfter = c.service \\\n d.service\nAfter=\n\
                    Before=e.service\n";
        assert_eq!(
            after(text),
            ["a.target", "b.service", "c.service", "d.service"]
        );
        let own = after(include_str!("../../../units/farewell.service"));
        for unit in ["network-online.target", "remote-fs.target", "dbus.service"] {
            assert!(own.iter().any(|it| it == unit), "{own:?}");
        }
    }
}
