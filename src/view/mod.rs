//! Views of a run: its progress, a sentence for each event, and its timeline.

pub mod describe;
pub mod heartbeat;
pub mod progress;
pub mod style;
pub mod timeline;
