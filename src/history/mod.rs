//! Past runs: the lines of a record, the directory of records, and the lock of the run in progress.

pub mod line;
pub mod past;
pub mod reader;
pub mod remnant;
pub mod store;
pub mod summary;
