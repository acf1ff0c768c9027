//! Walks a plan under its deadlines and tells what happens. Knows no file, bus or format.

mod attempts;
mod condition;
pub mod errand;
pub mod runner;
mod walk;
