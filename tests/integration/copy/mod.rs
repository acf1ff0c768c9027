//! `copy` to real file systems, full, growing, frozen and hostile ones, to stores over HTTP, and beside rsync.

mod directory;
mod hostile;
mod multipart;
mod s3;
mod store;
mod weight;

use std::fs;
use std::path::Path;
use std::time::Duration;

use farewell::model::error::Failure;
use farewell::step::{AttemptContext, Outcome, StepSpec};
use farewell::sys::probe;

use crate::support::Run;

/// What anything may take that ends by itself, on the slowest machine.
const TIME: Duration = Duration::from_secs(120);

/// A copy that can be attempted again and again.
struct Copying {
    step: StepSpec,
    run: Run,
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
            run: Run::new(),
        }
    }

    fn attempt(&self, time: Duration) -> Result<Outcome, Failure> {
        self.step.action.attempt(&AttemptContext {
            attempt_timeout: time,
            ..self.run.context(time)
        })
    }

    fn rehearse(&self) -> Result<String, Failure> {
        self.run.rehearse(&self.step, TIME)
    }

    fn remarks(&self) -> String {
        self.run.remarks().join("\n")
    }

    /// The names of what was copied, sorted.
    fn names(&self) -> Vec<String> {
        let copied = self.run.recorder.copied();
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
