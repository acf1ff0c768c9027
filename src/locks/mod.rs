//! The ways to lock a fleet.

use crate::lock::Via;

/// All of them.
pub const VIAS: &[Via] = &[];
