//! Doors to the world. Each foreign crate is named in one of them, and its errors stop there.

pub mod bus;
pub mod cancel;
pub mod clock;
pub mod connections;
pub mod console;
pub mod devices;
pub mod digest;
pub mod files;
pub mod guarded;
pub mod holders;
pub mod host;
pub mod http;
pub mod journal;
pub mod listeners;
pub mod lock;
pub mod mounts;
pub mod notify;
pub mod packages;
pub mod process;
pub mod routes;
pub mod signals;
pub mod sockets;
pub mod systemd;
pub mod terminal;
pub mod user;
pub mod workers;
