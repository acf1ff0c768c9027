//! From a configuration to validated values: steps with their order, limits and policies, or every problem at once.

mod captures;
pub mod graph;
pub mod load;
mod lock_release;
pub mod settings;
pub mod step;
pub mod steps;
pub mod unit_ordering;
