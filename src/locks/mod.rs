//! The ways to lock a fleet.

use crate::lock::Via;

mod consul;
mod etcd;
mod fleetlock;

/// All of them.
pub const VIAS: &[Via] = &[consul::VIA, etcd::VIA, fleetlock::VIA];
