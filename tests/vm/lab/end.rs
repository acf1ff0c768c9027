//! What a machine has left on its disk and its console: the journal and the records.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::journal::Journal;
use super::qemu::Disk;
use super::tool;

/// What the lab writes to a machine's journal before its scenario begins.
pub const BEGINS: &str = "lab: the scenario begins";

/// A machine that has ended.
pub struct End {
    pub console: String,
    pub journal: Journal,
    runs: Vec<Run>,
    dir: PathBuf,
}

impl End {
    /// Reads a disk that no machine uses any more, and leaves the journal and the records as text in `dir`.
    pub fn read(dir: &Path, disk: &Disk) -> Result<End, String> {
        let raw = dir.join("disk.raw");
        tool::output(
            Command::new("qemu-img")
                .args(["convert", "-W", "-f", disk.format, "-O", "raw"])
                .args([disk.path, &raw]),
        )?;
        // Replays the file system's own journal, where the machine was not shut down; 1 says that it did.
        let checked = Command::new("e2fsck").arg("-p").arg(&raw).output();
        let checked = checked.map_err(|error| format!("e2fsck: {error}"))?;
        if checked.status.code().is_none_or(|code| code > 1) {
            return Err(format!(
                "e2fsck: {}",
                String::from_utf8_lossy(&checked.stdout)
            ));
        }
        let left = dir.join("left");
        fs::create_dir_all(&left).map_err(|error| format!("{}: {error}", left.display()))?;
        for folder in ["/var/log/journal", "/var/lib/farewell"] {
            let dump = format!("rdump \"{folder}\" \"{}\"", left.display());
            tool::output(Command::new("debugfs").args(["-R", &dump]).arg(&raw))?;
        }
        let (journal, state) = (left.join("journal"), left.join("farewell"));
        let text = tool::output(
            Command::new("journalctl")
                .args(["-q", "-o", "short-precise", "-D"])
                .arg(&journal),
        )?;
        let write = |name: &str, text: &str| {
            fs::write(dir.join(name), text).map_err(|error| format!("{name}: {error}"))
        };
        write("journal.txt", &text)?;
        let mut records = String::new();
        for path in records_of(&state) {
            records.push_str(&fs::read_to_string(path).unwrap_or_default());
        }
        write("record.jsonl", &records)?;
        let end = End {
            console: console(dir),
            journal: Journal::read(&journal, BEGINS)?,
            runs: runs(&state)?,
            dir: dir.to_owned(),
        };
        let _ = fs::remove_dir_all(left);
        let _ = fs::remove_file(raw);
        Ok(end)
    }

    /// The records of all runs, oldest first, as `report --json` tells them.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The only run.
    pub fn run(&self) -> &Run {
        let [run] = &self.runs[..] else {
            panic!("there are {} runs: {:#?}", self.runs.len(), self.runs);
        };
        run
    }

    /// The last run.
    pub fn last_run(&self) -> &Run {
        self.runs.last().expect("there was a run")
    }

    /// Fails unless for each part there is a line of the journal that contains it, in this order.
    pub fn in_order(&self, parts: &[&str]) {
        self.journal.in_order(parts);
    }

    /// Fails where anything that the machine has left contains this.
    pub fn nowhere(&self, secret: &str) {
        let record = fs::read_to_string(self.dir.join("record.jsonl")).expect("records");
        for (place, text) in [("console", &self.console), ("record", &record)] {
            assert!(!text.contains(secret), "the {place} says {secret}");
        }
        for entry in &self.journal.0 {
            let fields = entry.fields.to_string();
            assert!(!fields.contains(secret), "the journal says it: {fields}");
        }
    }
}

/// What the record says of a run.
#[derive(Debug)]
pub struct Run(Value);

impl Run {
    /// One as `report --json` tells it.
    pub fn parse(text: &str) -> Result<Run, String> {
        let value = serde_json::from_str(text).map_err(|error| format!("{error}: {text}"))?;
        Ok(Run(value))
    }

    /// Fails unless it had this trigger and this result.
    pub fn is(&self, trigger: &str, result: &str) -> &Self {
        let told = (self.0["trigger"].as_str(), self.0["result"].as_str());
        assert_eq!(told, (Some(trigger), Some(result)), "{:#}", self.0);
        self
    }

    /// Fails unless it ended within this time.
    pub fn within(&self, seconds: f64) -> &Self {
        assert!(took(&self.0) <= seconds, "{:#}", self.0);
        self
    }

    /// Fails unless it warned of something so.
    pub fn warns(&self, part: &str) -> &Self {
        let warnings = self.0["warnings"].as_array().expect("warnings");
        let says = |it: &Value| it.as_str().is_some_and(|it| it.contains(part));
        assert!(warnings.iter().any(says), "{part:?}: {:#}", self.0);
        self
    }

    /// Fails unless a step ended so.
    pub fn step(&self, name: &str, state: &str) -> &Self {
        assert_eq!(self.named(name)["state"], state, "{name}: {:#}", self.0);
        self
    }

    /// Fails unless a step failed with this word.
    pub fn failed(&self, name: &str, word: &str) -> &Self {
        let told = &self.named(name)["error"]["word"];
        assert_eq!(told, word, "{name}: {:#}", self.0);
        self
    }

    /// Fails unless a step says this of how it ended.
    pub fn says(&self, name: &str, parts: &[&str]) -> &Self {
        let step = self.named(name);
        let told = [&step["reason"], &step["error"]["message"]];
        let told: Vec<&str> = told.iter().filter_map(|it| it.as_str()).collect();
        for part in parts {
            assert!(
                told.iter().any(|it| it.contains(part)),
                "{name}: {part:?}: {:#}",
                self.0
            );
        }
        self
    }

    /// Fails unless a step took this many seconds.
    pub fn took(&self, name: &str, range: std::ops::RangeInclusive<f64>) -> &Self {
        let took = took(self.named(name));
        assert!(range.contains(&took), "{name}: {range:?}: {:#}", self.0);
        self
    }

    /// Fails unless a step was tried this often or more.
    pub fn attempts(&self, name: &str, least: u64) -> &Self {
        let attempts = self.named(name)["attempts"].as_u64();
        assert!(attempts >= Some(least), "{name}: {:#}", self.0);
        self
    }

    fn named(&self, name: &str) -> &Value {
        let steps = self.0["steps"].as_array().expect("steps");
        let step = steps.iter().find(|step| step["name"] == name);
        step.unwrap_or_else(|| panic!("no step {name}: {:#}", self.0))
    }
}

fn took(value: &Value) -> f64 {
    let took = value["duration_usec"].as_f64();
    took.unwrap_or_else(|| panic!("no duration: {value:#}")) / 1e6
}

/// What a machine in this directory has written to its console so far.
pub fn console(dir: &Path) -> String {
    let bytes = fs::read(dir.join("console.log")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn records_of(state: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(state.join("runs")).into_iter().flatten();
    let mut paths: Vec<_> = entries.flatten().map(|it| it.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|it| it == "jsonl"));
    paths.sort();
    paths
}

fn runs(state: &Path) -> Result<Vec<Run>, String> {
    let mut runs = Vec::new();
    for path in records_of(state) {
        let name = path.file_stem().expect("a name");
        let text = tool::output(
            Command::new(env!("CARGO_BIN_EXE_farewell"))
                .arg("report")
                .arg(name)
                .args(["--json", "--state"])
                .arg(state),
        )?;
        runs.push(Run::parse(&text)?);
    }
    Ok(runs)
}
