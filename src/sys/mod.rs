//! Doors to the world. Each foreign crate is named in one of them, and its errors stop there.

pub mod cancel;
pub mod files;
pub mod guarded;
pub mod host;
pub mod http;
pub mod mounts;
pub mod process;
pub mod sockets;
