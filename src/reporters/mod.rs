//! Those who report a run, one file each.

pub mod journal;
pub mod systemd;
pub mod terminal;
