//! Text for people: durations, and sanitized text from outside.

pub mod duration;
pub mod elapsed;
pub mod sanitize;
