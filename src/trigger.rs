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

    /// Whether the machine comes back by itself: for locks one that does is kept, any other is taken for gone.
    pub fn comes_back(self) -> bool {
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

impl fmt::Display for Trigger {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}
