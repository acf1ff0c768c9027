//! The registries that a member can leave.

use crate::registry::Registry;

mod consul;
mod etcd;
mod eureka;
mod file;
mod nacos;
mod nomad;

/// All of them.
pub const REGISTRIES: &[Registry] = &[
    consul::REGISTRY,
    etcd::REGISTRY,
    eureka::REGISTRY,
    file::REGISTRY,
    nacos::REGISTRY,
    nomad::REGISTRY,
];
