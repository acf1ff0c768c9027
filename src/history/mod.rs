//! Past runs: the lines of a record, what they have left, the directory of records, and the lock of the run in progress.

pub mod pending;
pub mod record;
pub mod recorded_run;
pub mod reserved_space;
pub mod state_dir;
pub mod survey;
