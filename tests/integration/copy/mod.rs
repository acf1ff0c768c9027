//! `copy` to real file systems, full, growing, frozen and hostile ones, to stores over HTTP, and beside rsync.

mod directory;
mod hostile;
mod multipart;
mod s3;
mod store;
mod weight;

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use farewell::config::facts::Facts;
use farewell::model::deadline::{Deadline, Reason};
use farewell::model::error::Failure;
use farewell::model::event::{Copied, Stream};
use farewell::model::intent::{Intent, IntentId};
use farewell::model::trigger::Trigger;
use farewell::step::{AttemptContext, Outcome, StepEvents, StepSpec};
use farewell::sys::cancel::Cancel;
use farewell::sys::http::Http;
use farewell::sys::probe;

/// What anything may take that ends by itself, on the slowest machine.
const TIME: Duration = Duration::from_secs(120);

/// Hears what a copy tells.
#[derive(Default)]
struct Ear {
    waiting: Mutex<Vec<String>>,
    remarks: Mutex<Vec<String>>,
    copied: Mutex<Vec<Copied>>,
}

impl StepEvents for Ear {
    fn waiting(&self, what: &str) {
        self.waiting.lock().expect("no panic").push(what.to_owned());
    }
    fn output(&self, _: Stream, _: &str) {}
    fn remark(&self, remark: &str) {
        self.remarks
            .lock()
            .expect("no panic")
            .push(remark.to_owned());
    }
    fn copied(&self, copy: Copied) {
        self.copied.lock().expect("no panic").push(copy);
    }
    fn intend(&self, _: &Intent) -> IntentId {
        unreachable!("a copy leaves nothing sticky")
    }
    fn withdraw(&self, _: IntentId) {}
}

/// A copy that can be attempted again and again.
struct Copying {
    step: StepSpec,
    ear: Ear,
    cancel: Cancel,
    facts: Facts,
    http: Http,
}

impl Copying {
    fn new(from: &str, to: &Path, more: &str) -> Copying {
        Copying::to(from, &format!("{to:?}"), more)
    }

    /// To a place as it is written in the configuration.
    fn to(from: &str, to: &str, more: &str) -> Copying {
        probe::use_program(env!("CARGO_BIN_EXE_farewell"));
        let keys = format!("kind = \"copy\"\nfrom = {from}\nto = {to}\n{more}");
        Copying {
            step: crate::support::step(&keys),
            ear: Ear::default(),
            cancel: Cancel::new().expect("a switch"),
            facts: Facts::new(Trigger::Poweroff, "run-1"),
            http: Http::new(),
        }
    }

    fn scope(&self, time: Duration) -> AttemptContext<'_> {
        AttemptContext {
            deadline: Deadline::after(time, Reason::Timeout),
            attempt_timeout: time,
            cancel: &self.cancel,
            facts: &self.facts,
            http: &self.http,
            events: &self.ear,
            needed: &[],
        }
    }

    fn attempt(&self, time: Duration) -> Result<Outcome, Failure> {
        self.step.action.attempt(&self.scope(time))
    }

    fn rehearse(&self) -> Result<String, Failure> {
        self.step.action.rehearse(&self.scope(TIME))
    }

    fn remarks(&self) -> String {
        self.ear.remarks.lock().expect("no panic").join("\n")
    }

    /// The names of what was copied, sorted.
    fn names(&self) -> Vec<String> {
        let copied = self.ear.copied.lock().expect("no panic");
        let mut names: Vec<String> = copied.iter().map(|it| it.name.clone()).collect();
        names.sort();
        names
    }
}

fn write(directory: &Path, name: &str, bytes: &[u8]) {
    let path = directory.join(name);
    fs::create_dir_all(path.parent().expect("a parent")).expect("made");
    fs::write(path, bytes).expect("written");
}

/// Every file below a directory, by its path there, sorted.
fn files(directory: &Path) -> Vec<String> {
    fn walk(directory: &Path, root: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.is_symlink() {
                walk(&path, root, found);
            } else {
                let name = path.strip_prefix(root).expect("below");
                found.push(name.display().to_string());
            }
        }
    }
    let mut found = Vec::new();
    walk(directory, directory, &mut found);
    found.sort();
    found
}
