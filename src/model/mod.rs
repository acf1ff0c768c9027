//! Types that every other module uses: errors, events, deadlines, secrets, triggers.

pub mod deadline;
pub mod error;
pub mod event;
pub mod intent;
pub mod machine;
pub mod secrets;
pub mod trigger;
mod word_enum;
