//! The format of a record: one event is one line of JSON.
//!
//! Every line has `at_usec` (from the run's start, by the monotonic clock) and `event`; its other members are those of
//! [`line::Entry`]. Unknown members and events are ignored, so that an older farewell can read the record of a newer
//! one.

pub(super) mod line;
mod reader;
mod writer;

pub use line::usec;
pub use reader::{Reader, Torn};
pub use writer::Writer;
