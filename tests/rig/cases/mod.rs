//! One file a topic.

mod shutdown;
mod smoke;
mod trigger_silence;
