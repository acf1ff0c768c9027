//! Text for people: durations, and foreign text made harmless.

pub mod duration;
pub mod elapsed;
pub mod sanitize;
