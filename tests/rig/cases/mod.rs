//! One file a topic.

mod order_circles;
mod order_units;
mod shutdown;
mod smoke;
mod trigger_silence;
