//! Runs a plan within its deadlines and emits events. It knows no file, bus or format.

mod attempts;
mod automounts;
pub mod conditions;
pub mod context;
pub mod panics;
pub mod rehearsal;
mod renewal;
pub mod runner;
mod scheduler;
