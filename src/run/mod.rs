//! Walks a plan under its deadlines and tells what happens. Knows no file, bus or format.

mod attempts;
mod automounts;
pub mod condition;
pub mod errand;
pub mod panics;
pub mod runner;
mod upkeep;
mod walk;
