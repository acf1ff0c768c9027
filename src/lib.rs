//! farewell runs a machine's last duties.
//!
//! The modules stand in floor order: each one imports only from those above it in this list, and members of a folder
//! do not know each other. `tests/floors.rs` holds the house to it.

// Words that everybody uses.
pub mod failure;

pub mod secrets;

pub mod deadline;

pub mod trigger;

pub mod machine;

pub mod intent;

pub mod event;

// How things are told to people.
pub mod lapse;

pub mod printable;

// Doors to the world.
pub mod sys;

pub mod message;

pub mod logging;

pub mod occasion;

// The configuration, as it is written.
pub mod config;

// What a step does: the contracts, and below them their members and tables.
pub mod step;

pub mod peer;

pub mod clients;

pub mod registry;

pub mod cluster;

pub mod lock;

pub mod custody;

pub mod registries;

pub mod clusters;

pub mod locks;

pub mod steps;

// The configuration, as it will be run.
pub mod plan;

pub mod kept;

pub mod run;

// What can be known of a run before it takes place.
pub mod rehearsal;

pub mod inspection;

// What a run tells, and to whom.
pub mod progress;

pub mod history;

pub mod timeline;

pub mod sentence;

pub mod snapshot;

pub mod reporter;

pub mod reminder;

pub mod reporters;

pub mod broadcast;

// What runs have left, and its undo.
pub mod undo;

// The command line.
pub mod cli;

pub mod app;
