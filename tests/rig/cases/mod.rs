//! One file a topic.

mod shutdown;
mod smoke;
