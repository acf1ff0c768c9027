//! The users whose files are trusted.

use std::fs;
use std::sync::OnceLock;

use super::signals;

/// The owners that are trusted.
#[derive(Clone, Copy)]
pub(super) struct Owners {
    own: u32,
    /// The uid that stands for every user that this user namespace does not map; root may be among them.
    unmapped: Option<u32>,
}

impl Owners {
    /// Root, this process's user, and those that this user namespace does not map.
    pub(super) fn get() -> Owners {
        // What the user namespace of a process maps does not change while it runs.
        static UNMAPPED: OnceLock<Option<u32>> = OnceLock::new();
        Owners {
            own: signals::user(),
            unmapped: *UNMAPPED.get_or_init(unmapped),
        }
    }

    /// Whether the user with this number is one of them.
    pub(super) fn include(self, uid: u32) -> bool {
        uid == 0 || uid == self.own || Some(uid) == self.unmapped
    }
}

/// The uid that the kernel shows for unmapped users; `None` if all are mapped, or that uid belongs to a user.
fn unmapped() -> Option<u32> {
    let number = |text: &str| text.trim().parse::<u32>().ok();
    let overflow = number(&fs::read_to_string("/proc/sys/kernel/overflowuid").ok()?)?;
    let map = fs::read_to_string("/proc/self/uid_map").ok()?;
    let is_mapped = map.lines().any(|line| {
        let mut numbers = line.split_whitespace();
        let first = numbers.next().and_then(number);
        let length = numbers.nth(1).and_then(number);
        matches!((first, length), (Some(first), Some(length))
            if overflow >= first && overflow - first < length)
    });
    (!is_mapped).then_some(overflow)
}
