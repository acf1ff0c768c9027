//! What the tests of steps share.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod fuse;
pub mod scope;
