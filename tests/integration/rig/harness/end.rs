//! A machine that has ended: what it left, and its next boot.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::keeper::Keeper;
use super::life::Life;
use super::machine::Machine;
use crate::support::binary::printed;
use crate::support::journal::Journal;
use crate::support::recorded::{self, Run};

/// What PID 1 asked of the kernel as its last act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// To cut the power, or to halt.
    Off,
    /// To boot again.
    Reboot,
}

/// A machine that has gone down.
pub struct End {
    /// None only while it boots again.
    keeper: Option<Keeper>,
    signal: Option<Signal>,
    networked: bool,
    records: Vec<Value>,
    /// Of all its boots.
    pub journal: Journal,
}

impl End {
    pub(super) fn new(keeper: Keeper, signal: Option<Signal>, networked: bool) -> End {
        let state = keeper.path("/var/lib/farewell");
        let journal = Journal::read(&keeper.path("/var/log/journal"), "");
        End {
            signal,
            networked,
            records: recorded::runs(&state).unwrap_or_else(|error| panic!("{error}")),
            journal: journal.unwrap_or_else(|error| panic!("{error}")),
            keeper: Some(keeper),
        }
    }

    fn keeper(&self) -> &Keeper {
        self.keeper.as_ref().expect("until it boots again")
    }

    /// How it ended.
    pub fn ending(&self) -> Ending {
        match self.signal {
            Some(Signal::SIGINT) => Ending::Off,
            Some(Signal::SIGHUP) => Ending::Reboot,
            other => panic!("PID 1 ended otherwise: {other:?}"),
        }
    }

    /// All runs, oldest first.
    pub fn runs(&self) -> Vec<Run<'_>> {
        Run::all(&self.records, &self.journal)
    }

    /// The only run.
    pub fn run(&self) -> Run<'_> {
        assert_eq!(self.records.len(), 1, "{:#?}", self.records);
        self.runs().remove(0)
    }

    /// The state of a step in the last run.
    pub fn step(&self, name: &str) -> String {
        let report = self.records.last().expect("a run");
        let step = crate::support::binary::step_of(report, name);
        step["state"].as_str().expect("a state").to_owned()
    }

    /// Fails if anything was run.
    pub fn nothing_ran(&self) {
        assert!(self.records.is_empty(), "{:#?}", self.records);
        let lines = self.journal.0.iter();
        let lines: Vec<_> = lines
            .filter(|it| !it.field("FAREWELL_RUN").is_empty())
            .collect();
        assert!(
            lines.is_empty(),
            "{:#?}",
            lines.iter().map(|it| &it.line).collect::<Vec<_>>()
        );
    }

    /// Fails unless for each part there is a line of the journal that contains it, in this order.
    pub fn in_order(&self, parts: &[&str]) {
        self.journal.in_order(parts);
    }

    /// What is in a file of the machine; empty where there is none.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.keeper().path(path)).unwrap_or_default()
    }

    /// What the applications wrote.
    pub fn life(&self) -> Life {
        Life::read(&self.read("/rig/log"))
    }

    /// What was written to the console.
    pub fn console(&self) -> String {
        self.keeper().said("console")
    }

    /// What was written to the kernel's log.
    pub fn kernel_log(&self) -> String {
        self.keeper().said("kmsg")
    }

    /// Fails where anything that the machine left contains this.
    pub fn nowhere(&self, secret: &str) {
        let records = recorded::records_of(&self.keeper().path("/var/lib/farewell"));
        let records = records
            .iter()
            .map(|it| fs::read_to_string(it).expect("a record"));
        let record: String = records.collect();
        for (place, text) in [
            ("console", self.console()),
            ("kernel's log", self.kernel_log()),
            ("record", record),
        ] {
            assert!(!text.contains(secret), "the {place} says {secret}");
        }
        for entry in &self.journal.0 {
            let fields = entry.fields.to_string();
            assert!(!fields.contains(secret), "the journal says it: {fields}");
        }
    }

    /// Boots it again, with all its files.
    pub fn boot(mut self) -> Machine {
        Machine::boot(
            self.keeper.take().expect("it has ended"),
            self.networked,
            false,
        )
    }

    /// The same without waiting until everything has started.
    pub fn boot_unwaited(mut self) -> Machine {
        Machine::boot(
            self.keeper.take().expect("it has ended"),
            self.networked,
            true,
        )
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if let (Some(keeper), true) = (&self.keeper, std::thread::panicking()) {
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                println!("{}", story(keeper));
            }));
        }
    }
}

/// Everything that helps to understand a failure.
pub(super) fn story(keeper: &Keeper) -> String {
    let mut story = String::new();
    let mut journalctl = Command::new("journalctl");
    journalctl
        .args(["-q", "-o", "short-precise", "-D"])
        .arg(keeper.path("/var/log/journal"));
    let journal = printed(&mut journalctl).unwrap_or_else(|error| error);
    let read = |path: &str| fs::read_to_string(keeper.path(path)).unwrap_or_default();
    for (name, text) in [
        ("keeper", keeper.said("keeper")),
        ("boot", keeper.said("boot")),
        ("console", keeper.said("console")),
        ("kernel's log", keeper.said("kmsg")),
        ("journal", journal),
        ("applications", read("/rig/log")),
        ("configuration", read("/etc/farewell/farewell.toml")),
    ] {
        let _ = writeln!(
            story,
            "--- {name} of a machine on {:?}\n{}",
            keeper.root,
            text.trim_end()
        );
    }
    for record in recorded::records_of(&keeper.path("/var/lib/farewell")) {
        let text = fs::read_to_string(&record).unwrap_or_default();
        let _ = writeln!(story, "--- {}\n{}", record.display(), text.trim_end());
    }
    story
}
