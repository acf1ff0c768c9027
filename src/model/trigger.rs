//! Why a run takes place.

use crate::model::word_enum::word_enum;

word_enum! {
    /// The triggers of the contract.
    pub enum Trigger {
        /// The system powers off; a shutdown of an unknown kind counts as this too.
        Poweroff = "poweroff",
        /// The system halts.
        Halt = "halt",
        /// The system restarts.
        Reboot = "reboot",
        /// The system starts another kernel.
        Kexec = "kexec",
        /// Only userspace restarts (systemd 254 and later).
        SoftReboot = "soft-reboot",
        /// Only farewell's own unit is stopped, or `farewell run` is called by hand.
        Stop = "stop",
    }
}

impl Trigger {
    /// Whether the system starts again by itself afterwards.
    pub fn restarts(self) -> bool {
        match self {
            Trigger::Reboot | Trigger::Kexec | Trigger::SoftReboot => true,
            Trigger::Poweroff | Trigger::Halt | Trigger::Stop => false,
        }
    }
}

/// Why a run takes place, as far as it was detected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Diagnosis {
    /// For this trigger.
    Known(Trigger),
    /// The system goes down, or may go down, and it is not known whether it comes back.
    UnknownShutdown,
}

/// Whether a machine comes back by itself after its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComesBack {
    /// It restarts.
    Yes,
    /// It counts as gone.
    No,
    /// It is not known.
    Unknown,
}

impl ComesBack {
    /// Whether the machine may come back, so that what a member leaves in its cluster must suit it after a restart.
    pub fn is_possible(self) -> bool {
        match self {
            ComesBack::Yes | ComesBack::Unknown => true,
            ComesBack::No => false,
        }
    }
}

impl Diagnosis {
    /// The trigger for `when`, `${trigger}` and the budget: an unknown shutdown counts as poweroff.
    pub fn trigger(self) -> Trigger {
        match self {
            Diagnosis::Known(trigger) => trigger,
            Diagnosis::UnknownShutdown => Trigger::Poweroff,
        }
    }

    /// Whether the machine comes back.
    pub fn comes_back(self) -> ComesBack {
        match self {
            Diagnosis::Known(trigger) if trigger.restarts() => ComesBack::Yes,
            Diagnosis::Known(_) => ComesBack::No,
            Diagnosis::UnknownShutdown => ComesBack::Unknown,
        }
    }
}

impl From<Trigger> for Diagnosis {
    fn from(trigger: Trigger) -> Self {
        Diagnosis::Known(trigger)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_shutdown_counts_as_poweroff_but_may_be_a_restart() {
        let unknown = Diagnosis::UnknownShutdown;
        assert_eq!(unknown.trigger(), Trigger::Poweroff);
        assert_eq!(unknown.comes_back(), ComesBack::Unknown);
        assert!(unknown.comes_back().is_possible());
        for trigger in Trigger::ALL {
            let known = Diagnosis::from(trigger);
            assert_eq!(known.trigger(), trigger);
            assert_eq!(known.comes_back().is_possible(), trigger.restarts());
            assert_ne!(known.comes_back(), ComesBack::Unknown);
        }
    }
}
