//! Why a run takes place.

use std::fmt;

/// The triggers of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// The system powers off; a shutdown of an unknown kind counts as this too.
    Poweroff,
    /// The system halts.
    Halt,
    /// The system restarts.
    Reboot,
    /// The system starts another kernel.
    Kexec,
    /// Userspace alone restarts (systemd 254 and later).
    SoftReboot,
    /// Only farewell's own unit is stopped, or `farewell run` is called by hand.
    Stop,
}

impl Trigger {
    /// All of them, in the contract's order.
    pub const ALL: [Trigger; 6] = [
        Trigger::Poweroff,
        Trigger::Halt,
        Trigger::Reboot,
        Trigger::Kexec,
        Trigger::SoftReboot,
        Trigger::Stop,
    ];

    /// The word of the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            Trigger::Poweroff => "poweroff",
            Trigger::Halt => "halt",
            Trigger::Reboot => "reboot",
            Trigger::Kexec => "kexec",
            Trigger::SoftReboot => "soft-reboot",
            Trigger::Stop => "stop",
        }
    }

    /// Whether the system starts again by itself afterwards.
    pub fn restarts(self) -> bool {
        match self {
            Trigger::Reboot | Trigger::Kexec | Trigger::SoftReboot => true,
            Trigger::Poweroff | Trigger::Halt | Trigger::Stop => false,
        }
    }

    /// The trigger that the contract calls `word`.
    pub fn parse(word: &str) -> Option<Trigger> {
        Self::ALL
            .into_iter()
            .find(|trigger| trigger.as_str() == word)
    }
}

/// Why a run takes place, as far as that was found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Diagnosis {
    /// For this trigger.
    Known(Trigger),
    /// The system goes down, or nobody says whether it does, and it is not known whether it comes back.
    UnknownShutdown,
}

/// Whether a machine comes back by itself after its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComesBack {
    /// It restarts.
    Yes,
    /// It is taken for gone.
    No,
    /// Nobody knows.
    Unknown,
}

impl ComesBack {
    /// Whether what a member leaves in its cluster must still suit it after a restart: where nobody knows whether the
    /// machine restarts, too.
    pub fn is_possible(self) -> bool {
        match self {
            ComesBack::Yes | ComesBack::Unknown => true,
            ComesBack::No => false,
        }
    }
}

impl Diagnosis {
    /// What `when`, `${trigger}` and the budget go by: an unknown shutdown counts as poweroff.
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

impl fmt::Display for Trigger {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
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
