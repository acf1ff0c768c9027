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
    runs: Vec<Value>,
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

    /// All runs, oldest first.
    pub fn runs(&self) -> Vec<Run<'_>> {
        let run = |record| Run {
            record,
            journal: &self.journal,
        };
        self.runs.iter().map(run).collect()
    }

    /// The only run.
    pub fn run(&self) -> Run<'_> {
        let runs = self.runs();
        assert_eq!(runs.len(), 1, "{:#?}", self.runs);
        self.runs().remove(0)
    }

    /// Fails if anything was run.
    pub fn nothing_ran(&self) {
        assert!(self.runs.is_empty(), "{:#?}", self.runs);
        let lines = self
            .journal
            .0
            .iter()
            .filter(|it| !it.field("FAREWELL_RUN").is_empty());
        let lines: Vec<_> = lines.map(|it| &it.line).collect();
        assert!(lines.is_empty(), "{lines:#?}");
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

/// What the record and the journal say of a run.
pub struct Run<'a> {
    record: &'a Value,
    journal: &'a Journal,
}

impl Run<'_> {
    /// What it is called.
    pub fn id(&self) -> &str {
        self.record["run"].as_str().expect("a text")
    }

    /// Fails unless it had this trigger and this result, and the journal has every line that it must have.
    pub fn is(&self, trigger: &str, result: &str) -> &Self {
        self.is_recorded(trigger, result);
        let told = |field: &str| self.record[field].as_str().expect("a text");
        let record = format!("{:#}", self.record);
        let lines = self.journal.with("FAREWELL_RUN", told("run"));
        let says = |start: &str| lines.iter().any(|it| it.line.starts_with(start));
        for step in self.record["steps"].as_array().expect("steps") {
            let [name, state] = ["name", "state"].map(|it| step[it].as_str().expect("a text"));
            assert!(
                says(&format!("farewell: step {name}: {state}")),
                "{name}: {record}"
            );
        }
        let first = lines.first().map(|it| &it.line[..]).unwrap_or_default();
        assert!(
            first.starts_with(&format!("farewell: trigger {trigger}: ")),
            "{first}"
        );
        let last = lines.last().map(|it| &it.line[..]).unwrap_or_default();
        assert!(
            last.starts_with(&format!(
                "farewell: farewell {}: {result} after",
                told("run")
            )),
            "{last}"
        );
        self
    }

    /// Fails unless the record says that it had this trigger and this result.
    pub fn is_recorded(&self, trigger: &str, result: &str) -> &Self {
        let told = ["trigger", "result"].map(|it| self.record[it].as_str());
        let expected = [Some(trigger), Some(result)];
        assert_eq!(told, expected, "{:#}", self.record);
        self
    }

    /// Fails unless the journal says from what the trigger was seen.
    pub fn seen(&self, what: &str) -> &Self {
        let run = self.record["run"].as_str().expect("a text");
        let first = &self.journal.with("FAREWELL_RUN", run)[0].line;
        assert!(first.contains(what), "{first}");
        self
    }

    /// Fails unless a step ended so.
    pub fn step(&self, name: &str, state: &str) -> &Self {
        assert_eq!(
            self.named(name)["state"],
            state,
            "{name}: {:#}",
            self.record
        );
        self
    }

    /// Fails unless a step failed with this word.
    pub fn failed(&self, name: &str, word: &str) -> &Self {
        assert_eq!(
            self.named(name)["error"]["word"],
            word,
            "{name}: {:#}",
            self.record
        );
        self
    }

    /// Fails unless a step says this of how it ended.
    pub fn says(&self, name: &str, parts: &[&str]) -> &Self {
        let step = self.named(name);
        let told = [&step["reason"], &step["error"]["message"]];
        let told: Vec<&str> = told.iter().filter_map(|it| it.as_str()).collect();
        for part in parts {
            let is_told = told.iter().any(|it| it.contains(part));
            assert!(is_told, "{name}: {part:?}: {:#}", self.record);
        }
        self
    }

    /// Fails unless a step took this many seconds.
    pub fn took(&self, name: &str, range: std::ops::RangeInclusive<f64>) -> &Self {
        let took = took(self.named(name));
        assert!(
            range.contains(&took),
            "{name}: {range:?}: {:#}",
            self.record
        );
        self
    }

    /// Fails unless a step was tried this often or more.
    pub fn attempts(&self, name: &str, least: u64) -> &Self {
        let attempts = self.named(name)["attempts"].as_u64();
        assert!(attempts >= Some(least), "{name}: {:#}", self.record);
        self
    }

    /// Fails unless all of it ended within this many seconds.
    pub fn within(&self, seconds: f64) -> &Self {
        assert!(took(self.record) <= seconds, "{:#}", self.record);
        self
    }

    /// Fails unless it warned of something so.
    pub fn warns(&self, part: &str) -> &Self {
        let warnings = self.record["warnings"].as_array().expect("warnings");
        let says = |it: &Value| it.as_str().is_some_and(|it| it.contains(part));
        assert!(warnings.iter().any(says), "{part:?}: {:#}", self.record);
        self
    }

    fn named(&self, name: &str) -> &Value {
        let steps = self.record["steps"].as_array().expect("steps");
        let step = steps.iter().find(|step| step["name"] == name);
        step.unwrap_or_else(|| panic!("no step {name}: {:#}", self.record))
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

fn runs(state: &Path) -> Result<Vec<Value>, String> {
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
        runs.push(serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?);
    }
    Ok(runs)
}
