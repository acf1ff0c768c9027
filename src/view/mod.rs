//! What is told of a run: where it stands, what each event is in a sentence, and its timeline.

pub mod describe;
pub mod heartbeat;
pub mod progress;
pub mod style;
pub mod timeline;
