//! Past runs: the lines of a record, what they have left, the directory of records, and the lock of the run in progress.

pub mod line;
pub mod past;
pub mod reader;
pub mod remnant;
pub mod room;
pub mod store;
pub mod summary;
pub mod survey;
