//! farewell runs a machine's last duties.
//!
//! The modules stand in floor order: each one imports only from those above it in this list, and members of a folder
//! do not know each other. `tests/integration/floors.rs` holds the house to it.

// The words that everything else uses.
pub mod model;

// Doors to the world.
pub mod sys;

pub mod text;

pub mod logging;

// The configuration, as it is written.
pub mod config;

// What a step does: the contract, the clients of several members, and the kinds with their members.
pub mod step;

pub mod clients;

pub mod steps;

// The configuration, as it will be run.
pub mod plan;

pub mod run;

// What this machine has loaded, beside what a plan needs.
pub mod preflight;

// What a run tells, and to whom.
pub mod view;

pub mod history;

pub mod report;

// The verbs of the command line.
pub mod app;
