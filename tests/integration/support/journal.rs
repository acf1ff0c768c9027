//! The journal of a machine, read from its files.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::binary::printed;

/// The entries, oldest first.
#[derive(Clone)]
pub struct Journal(pub Vec<Entry>);

/// One entry.
#[derive(Clone)]
pub struct Entry {
    /// `IDENTIFIER: MESSAGE`, as people see it.
    pub line: String,
    pub fields: Value,
    /// When it was written, in microseconds; journald itself knows only when it was read.
    pub time: u64,
}

impl Journal {
    /// All entries that follow the last line `from`; all of them where there is no such line.
    pub fn read(folder: &Path, from: &str) -> Result<Journal, String> {
        let text = printed(
            Command::new("journalctl")
                .args(["-q", "-o", "json", "--all", "-D"])
                .arg(folder),
        )?;
        let mut entries = Vec::new();
        for line in text.lines() {
            let fields = serde_json::from_str(line).map_err(|it| format!("{it}: {line}"))?;
            entries.push(Entry::new(fields));
        }
        if let Some(begin) = entries.iter().rposition(|it| it.line == from) {
            entries.drain(..=begin);
        }
        // By boot, in the order in which journald met them: a clock may have jumped between two boots.
        let boots = boots(&entries);
        let boot = |it: &Entry| boots.iter().position(|id| *id == it.boot());
        entries.sort_by_key(|it| (boot(it), it.time));
        Ok(Journal(entries))
    }

    /// The entries whose field has this value.
    pub fn with(&self, field: &str, value: &str) -> Vec<&Entry> {
        let is = |it: &&Entry| it.fields[field] == value;
        self.0.iter().filter(is).collect()
    }

    /// Whether a line contains this.
    pub fn says(&self, part: &str) -> bool {
        self.0.iter().any(|it| it.line.contains(part))
    }

    /// The entries since the last line that begins so.
    pub fn since(mut self, start: &str) -> Journal {
        let begin = self.0.iter().rposition(|it| it.line.starts_with(start));
        let begin = begin.unwrap_or_else(|| panic!("the journal does not say {start:?}"));
        Journal(self.0.split_off(begin))
    }

    /// Fails unless for each part there is a line that contains it, and these lines follow one another in this order.
    pub fn in_order(&self, parts: &[&str]) {
        let mut at = 0;
        for (index, part) in parts.iter().enumerate() {
            let found = self.0[at..].iter().position(|it| it.line.contains(part));
            let Some(found) = found else {
                let before = &parts[..index];
                let early = if self.says(part) {
                    "only before them"
                } else {
                    "nowhere"
                };
                panic!("the journal says {before:?}, and {part:?} {early}");
            };
            at += found + 1;
        }
    }
}

impl Entry {
    fn new(fields: Value) -> Entry {
        let text = |name: &str| fields[name].as_str().unwrap_or_default().to_owned();
        let time = |name: &str| text(name).parse().ok();
        let identifier = if text("SYSLOG_IDENTIFIER").is_empty() {
            text("_COMM")
        } else {
            text("SYSLOG_IDENTIFIER")
        };
        Entry {
            line: format!("{identifier}: {}", text("MESSAGE")),
            time: time("_SOURCE_REALTIME_TIMESTAMP")
                .or(time("__REALTIME_TIMESTAMP"))
                .unwrap_or_default(),
            fields,
        }
    }

    /// A field, empty where it is not there.
    pub fn field(&self, name: &str) -> &str {
        self.fields[name].as_str().unwrap_or_default()
    }

    fn boot(&self) -> &str {
        self.field("_BOOT_ID")
    }
}

fn boots(entries: &[Entry]) -> Vec<String> {
    let mut boots: Vec<String> = Vec::new();
    for entry in entries {
        if !boots.iter().any(|id| id == entry.boot()) {
            boots.push(entry.boot().to_owned());
        }
    }
    boots
}
