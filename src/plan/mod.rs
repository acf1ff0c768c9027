//! From a configuration to validated values: steps with their order, limits and policies, or every problem at once.

mod closing;
pub mod gate;
pub mod head;
pub mod order;
pub mod ordering;
pub mod sequence;
