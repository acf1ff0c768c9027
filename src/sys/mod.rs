//! Doors to the world. Each foreign crate is named in one of them, and its errors stop there.

pub mod cancel;
pub mod clock;
pub mod files;
pub mod host;
pub mod http;
pub mod lock;
pub mod signals;
pub mod journal;
pub mod notify;
pub mod terminal;
