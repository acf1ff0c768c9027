//! Events of a run, from the scheduler to the reporters: one file for each reporter.

pub mod console;
pub mod dbus;
pub mod dispatch;
pub mod event_bus;
pub mod journal;
pub mod record;
pub mod record_progress;
pub mod systemd;
pub mod terminal;
