//! What a machine has left on its disk and its console: the journal and the records.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::qemu::Disk;
use super::tool;
use crate::support::journal::Journal;
use crate::support::recorded::{Run, records_of, runs};

/// What the lab writes to a machine's journal before its scenario begins.
pub const BEGINS: &str = "lab: the scenario begins";

/// A machine that has ended.
pub struct End {
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
            journal: Journal::read(&journal, BEGINS)?,
            runs: runs(&state)?,
        };
        let _ = fs::remove_dir_all(left);
        let _ = fs::remove_file(raw);
        Ok(end)
    }

    /// All runs, oldest first.
    pub fn runs(&self) -> Vec<Run<'_>> {
        Run::all(&self.runs, &self.journal)
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

/// What a machine in this directory has written to its console so far.
pub fn console(dir: &Path) -> String {
    let bytes = fs::read(dir.join("console.log")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
