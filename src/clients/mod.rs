//! The protocols that more than one member speaks.

pub mod agent;
pub mod etcd;
pub mod http;
pub mod search;
