//! What the records and the journal of a machine say of its runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::binary::printed;
use super::journal::Journal;

/// What the record and the journal say of a run.
pub struct Run<'a> {
    record: &'a Value,
    journal: &'a Journal,
}

impl<'a> Run<'a> {
    /// All runs of these records, in their order.
    pub fn all(records: &'a [Value], journal: &'a Journal) -> Vec<Run<'a>> {
        let run = |record| Run { record, journal };
        records.iter().map(run).collect()
    }

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

/// The records below a state directory, oldest first.
pub fn records_of(state: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(state.join("runs")).into_iter().flatten();
    let mut paths: Vec<_> = entries.flatten().map(|it| it.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|it| it == "jsonl"));
    paths.sort();
    paths
}

/// What `report --json` prints of each of them.
pub fn runs(state: &Path) -> Result<Vec<Value>, String> {
    let mut runs = Vec::new();
    for path in records_of(state) {
        let name = path.file_stem().expect("a name");
        let text = printed(
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
