//! Those to whom a run is told.

pub mod console;
pub mod dbus;
pub mod journal;
pub mod record;
pub mod systemd;
pub mod terminal;
