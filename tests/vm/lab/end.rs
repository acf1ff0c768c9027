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
}

/// What the record and the journal say of a run.
pub struct Run<'a> {
    record: &'a Value,
    journal: &'a Journal,
}

impl Run<'_> {
    /// Fails unless it had this trigger and this result, and the journal has every line that it must have.
    pub fn is(&self, trigger: &str, result: &str) -> &Self {
        let told = |field: &str| self.record[field].as_str().expect("a text");
        let record = format!("{:#}", self.record);
        assert_eq!(
            (told("trigger"), told("result")),
            (trigger, result),
            "{record}"
        );
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

    fn named(&self, name: &str) -> &Value {
        let steps = self.record["steps"].as_array().expect("steps");
        let step = steps.iter().find(|step| step["name"] == name);
        step.unwrap_or_else(|| panic!("no step {name}: {:#}", self.record))
    }
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
