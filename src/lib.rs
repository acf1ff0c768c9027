//! farewell runs a machine's last duties: it leaves the cluster, waits until the cluster is safe, stops the
//! application, flushes shared storage, and reports what happened.
//!
//! # The modules
//!
//! Each module below imports only from those above it in this list, and the members of a folder do not import each
//! other. `tests/integration/floors.rs` checks it. The tree of [`steps`] is the configuration: `kind = "lock"` with
//! `via = "etcd"` is `steps/lock/etcd`.
//!
//! # One run, from the power button to the record
//!
//! 1. systemd stops farewell.service and runs `farewell run`, its `ExecStop=`. `app/run` detects what triggered it
//!    (`app/run/trigger`: systemd's job queue says whether this is a poweroff, a reboot or only a stop of the unit) and
//!    admits one run at a time (`app/run/single_instance.rs`).
//! 2. [`config`] reads the fragments into tables that know their file and line, and [`plan::load`] makes a
//!    [`plan::load::Plan`] of them: validated steps with their order, limits and policies, or every problem at once. Where
//!    the configuration is broken, the last good plan of this boot, kept in /run (`app/runtime_dir.rs`), is used.
//! 3. [`run`] schedules the plan: it begins each step when those before it have ended, gives it a deadline, makes its
//!    attempts on a thread of its own, cancels steps that are late, and releases the locks at the end. It knows no TOML, no bus and no file format.
//! 4. A step is a [`step::Action`]: one attempt, made from a [`step::AttemptContext`], and one rehearsal. Before it changes something that outlives a reboot, it declares an [`model::intent::Intent`], which is recorded first.
//! 5. Whatever happens becomes a [`model::event::Event`]. [`report`] masks it, folds it into the run's progress
//!    ([`view::progress`]) and hands it to the reporters: the journal, systemd's status line, D-Bus, a terminal, and the
//!    record, a file with one event a line ([`history`]) that is synced by a thread of its own.
//! 6. At the next boot `farewell start` reads the records ([`history::pending`]), undoes what is still pending
//!    ([`app::undo`]), keeps the facts and the plan for the next shutdown, and checks that systemd has loaded what the plan
//!    needs ([`preflight`]).
//!
//! # Adding a member or a kind
//!
//! A registry is one new file below `steps/deregister/` with a [`step::Member`] constant, and its line in the table
//! [`steps::deregister::REGISTRIES`]; a cluster or a lock likewise ([`steps::wait_safe::CLUSTERS`],
//! [`steps::lock::LOCKS`]). A kind is one new file or folder below `steps/` with a [`step::Kind`], and its line in
//! [`steps::KINDS`]. Its doc comment lists its keys: the manual, the schema and the completions are made from that
//! (`tests/integration/reference`), and a page of the manual (`units/manual`) has a complete example that the tests run. Protocols that
//! several members speak are in [`clients`].

// Types that every other module uses.
pub mod model;

// Access to the system: systemd, mounts, processes, sockets, HTTP. Each external crate is used in one place.
pub mod sys;

pub mod text;

pub mod logging;

// Reading the configuration.
pub mod config;

// The traits of a step, the clients that several members share, and the kinds with their members.
#[warn(missing_docs)]
pub mod step;

#[warn(missing_docs)]
pub mod clients;

#[warn(missing_docs)]
pub mod steps;

// The validated plan, and running it.
#[warn(missing_docs)]
pub mod plan;

#[warn(missing_docs)]
pub mod run;

// Comparing what systemd has loaded with what a plan needs.
#[warn(missing_docs)]
pub mod preflight;

// Progress, timeline and texts; the records of runs; the reporters.
#[warn(missing_docs)]
pub mod view;

#[warn(missing_docs)]
pub mod history;

#[warn(missing_docs)]
pub mod report;

// The command line, one file or folder for each verb.
#[warn(missing_docs)]
pub mod app;
