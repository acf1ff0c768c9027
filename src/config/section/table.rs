//! One table and its keys.

use std::cell::RefCell;

use super::field::{Check, Look, Secrecy};
use super::findings::{CapturedUse, Reading};
use crate::config::credential_hosts::Hosts;
use crate::config::document::{Spanned, Table, Value};
use crate::config::facts::Facts;
use crate::config::problem::Severity;
use crate::config::suggestion::suggestion;
use crate::config::template::Template;

const MISSING: &str = "missing";

/// One table, read key by key. A problem is reported once to its [`Reading`]; the reader then returns `None`, as for a
/// missing key.
pub struct Section<'a> {
    pub(super) reading: &'a Reading<'a>,
    table: &'a Table,
    pub(super) line: usize,
    pub(super) prefix: String,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    /// The table that begins on `line`.
    pub fn new(reading: &'a Reading<'a>, table: &'a Table, line: usize) -> Self {
        Section {
            reading,
            table,
            line,
            prefix: String::new(),
            asked: RefCell::default(),
        }
    }

    /// The line that the table begins on.
    pub fn line(&self) -> usize {
        self.line
    }

    /// Whether the key is set.
    pub fn has(&self, key: &str) -> bool {
        self.table.get(key).is_some()
    }

    /// The line of a key, or of the table if the key is missing.
    pub fn line_of(&self, key: &str) -> usize {
        self.table.get(key).map_or(self.line, |(_, line, _)| *line)
    }

    /// Reports something wrong with a key.
    pub fn problem(&self, key: &str, message: impl Into<String>) {
        self.problem_at(self.line_of(key), key, message);
    }

    /// Reports something wrong with a key on a given line.
    pub fn problem_at(&self, line: usize, key: &str, message: impl Into<String>) {
        self.reading
            .problem(line, Some(format!("{}{key}", self.prefix)), message);
    }

    /// Reports that a key is valid, but probably not what is meant.
    pub fn warning(&self, key: &str, message: impl Into<String>) {
        let (line, key) = (self.line_of(key), format!("{}{key}", self.prefix));
        self.reading.warning(line, key, message.into());
    }

    /// Whether it contains a credential, at any depth.
    pub fn has_credential(&self) -> bool {
        fn is_in(value: &Value) -> bool {
            match value {
                Value::Text(text) => text.contains("${credential:"),
                Value::List(items) => items.iter().any(|it| is_in(&it.value)),
                Value::Table(table) => is_in_table(table),
                _ => false,
            }
        }
        fn is_in_table(table: &Table) -> bool {
            table.entries.iter().any(|(_, _, it)| is_in(&it.value))
        }
        is_in_table(self.table)
    }

    /// The hosts in `[farewell]` to which credentials may be sent.
    pub fn credential_hosts(&self) -> Hosts {
        self.reading.credential_hosts.clone()
    }

    /// Adds a check of a key for when the facts are known: keys that belong together, or files on disk.
    pub fn check(&self, key: &str, look: impl Fn(&Facts) -> Result<(), String> + 'static) {
        self.add_check(key, Severity::Error, false, Box::new(look));
    }

    /// Adds an error for `check` and `start`; in a run only the step fails.
    pub fn refuse(&self, key: &str, message: String) {
        let look = Box::new(move |_: &Facts| Err(message.clone()));
        self.add_check(key, Severity::Error, true, look);
    }

    /// Adds a warning for `check` and `start`, but not for a run. `is_early`: it needs no fact.
    pub fn caution(
        &self,
        key: &str,
        is_early: bool,
        look: impl Fn(&Facts) -> Result<(), String> + 'static,
    ) {
        self.add_check(key, Severity::Warning, is_early, Box::new(look));
    }

    fn add_check(&self, key: &str, severity: Severity, is_early: bool, look: Look) {
        let (line, key) = (self.line_of(key), format!("{}{key}", self.prefix));
        self.reading.check(Check {
            line,
            key,
            severity,
            is_early,
            look,
        });
    }

    /// Reports every unknown key, instead of the missing one that it was meant to be. Must not be called if the valid
    /// keys are not known.
    pub fn finish(&self) {
        let asked = self.asked.borrow();
        for (key, line, _) in &self.table.entries {
            if !asked.contains(&key.as_str()) {
                let absent = asked.iter().copied().filter(|it| !self.has(it));
                let hint = match suggestion(key, absent) {
                    Some(meant) => {
                        let path = format!("{}{meant}", self.prefix);
                        self.reading.retract(&path, MISSING);
                        format!("; did you mean `{meant}`?")
                    }
                    None => self.hint_at_present(key, &asked),
                };
                self.problem_at(*line, key, format!("unknown key{hint}"));
            }
        }
    }

    /// The known key that is meant, if it is set as well.
    fn hint_at_present(&self, key: &str, asked: &[&'static str]) -> String {
        let is_meant = |known: &&&str| self.has(known) && suggestion(key, [**known]).is_some();
        asked
            .iter()
            .find(is_meant)
            .map_or_else(String::new, |known| {
                format!(
                    "; did you mean `{known}`, which is set in line {}?",
                    self.line_of(known)
                )
            })
    }

    /// Marks a key as known that is read elsewhere.
    pub fn know(&self, key: &'static str) {
        self.asked.borrow_mut().push(key);
    }

    /// Reads a required key.
    pub fn required<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&Self, &'static str) -> Option<T>,
    ) -> Option<T> {
        let value = read(self, key);
        self.require(key);
        value
    }

    fn require(&self, key: &str) {
        if !self.has(key) {
            let key = format!("{}{key}", self.prefix);
            self.reading.problem(self.line, Some(key), MISSING);
        }
    }

    pub(super) fn entry(&self, key: &'static str) -> Option<&'a Spanned> {
        self.asked.borrow_mut().push(key);
        self.table.get(key).map(|(_, _, value)| value)
    }

    /// The value of a key, without marking the key as known.
    pub(super) fn found(&self, key: &str) -> Option<&'a Spanned> {
        self.table.get(key).map(|(_, _, value)| value)
    }

    pub(super) fn wrong(&self, key: &str, spanned: &Spanned, expected: &str) {
        self.problem_at(
            spanned.line,
            key,
            format!("expected {expected}, found {}", spanned.value.type_name()),
        );
    }

    pub(super) fn uses_captured(
        &self,
        template: &Template,
        line: usize,
        key: &str,
        secrecy: Secrecy,
    ) {
        for fact in template.captured() {
            self.reading.uses_captured(CapturedUse {
                fact: fact.clone(),
                line,
                key: key.to_owned(),
                is_public: secrecy == Secrecy::Public,
            });
        }
    }

    /// Tables by name within one table, in the order of the file. Empty if the key is missing.
    pub fn tables(&self, key: &'static str) -> Vec<(String, Section<'a>)> {
        let Some(around) = self.table(key) else {
            return Vec::new();
        };
        let read = |(name, line, spanned): &'a (String, usize, Spanned)| {
            let Value::Table(table) = &spanned.value else {
                around.wrong(name, spanned, "a table");
                return None;
            };
            let section = Section {
                reading: self.reading,
                table,
                line: *line,
                prefix: format!("{}{name}.", around.prefix),
                asked: RefCell::default(),
            };
            Some((name.clone(), section))
        };
        around.table.entries.iter().filter_map(read).collect()
    }

    /// A table within this one.
    pub fn table(&self, key: &'static str) -> Option<Section<'a>> {
        let spanned = self.entry(key)?;
        let Value::Table(table) = &spanned.value else {
            self.wrong(key, spanned, "a table");
            return None;
        };
        let prefix = format!("{}{key}.", self.prefix);
        Some(Section {
            reading: self.reading,
            table,
            line: spanned.line,
            prefix,
            asked: RefCell::default(),
        })
    }
}
