//! Those to whom a run is told.

pub mod record;
