//! The protocols that more than one member speaks.

pub mod consul;
pub mod etcd;
pub mod search;
