//! Past runs: the records, pending undos, the state directory, and the lock of the run in progress.

pub mod pending;
pub mod record;
pub mod recorded_run;
pub mod reserved_space;
pub mod state_dir;
pub mod survey;
