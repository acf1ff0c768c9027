//! The events of a run, from the scheduler to everybody who is told of them: one file a reporter.

pub mod console;
pub mod dbus;
pub mod dispatch;
pub mod event_bus;
pub mod journal;
pub mod record;
pub mod systemd;
pub mod terminal;
pub mod written;
