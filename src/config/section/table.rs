//! One table and the strings in it.

use std::cell::RefCell;
use std::sync::Arc;

use super::field::{Check, Field, Secrecy};
use super::reading::Reading;
use crate::config::document::{Located, Table, Value};
use crate::config::facts::Facts;
use crate::config::suggestion::did_you_mean;
use crate::config::template::Template;
use crate::secrets;

const MISSING: &str = "missing";

/// One table, read key by key. Whatever is wrong is reported to its [`Reading`] once; the readers then return `None`,
/// as they do for a key that is not there.
pub struct Section<'a> {
    pub(super) reading: &'a Reading<'a>,
    table: &'a Table,
    line: usize,
    prefix: String,
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

    /// Whether the key is there.
    pub fn has(&self, key: &str) -> bool {
        self.table.get(key).is_some()
    }

    /// The line of a key, or of the table where the key is not there.
    pub fn line_of(&self, key: &str) -> usize {
        self.table.get(key).map_or(self.line, |(_, line, _)| *line)
    }

    /// Reports something wrong with a key.
    pub fn problem(&self, key: &str, message: impl Into<String>) {
        self.problem_at(self.line_of(key), key, message);
    }

    /// Reports something wrong with a key that stands on a line of its own within the table.
    pub fn problem_at(&self, line: usize, key: &str, message: impl Into<String>) {
        self.reading
            .problem(line, Some(format!("{}{key}", self.prefix)), message);
    }

    /// Reports that a key can be run as it is, but is probably not what is meant.
    pub fn warning(&self, key: &str, message: impl Into<String>) {
        let (line, key) = (self.line_of(key), format!("{}{key}", self.prefix));
        self.reading.warning(line, key, message.into());
    }

    /// Adds a look that `check` takes at a key when it knows the facts: at what belongs together, or lies on the disk.
    pub fn check(&self, key: &str, look: impl Fn(&Facts) -> Result<(), String> + 'static) {
        let (line, key) = (self.line_of(key), format!("{}{key}", self.prefix));
        self.reading.check(Check {
            line,
            key,
            look: Box::new(look),
        });
    }

    /// Reports every key that nobody asked for, in place of the missing one that it was meant to be. Not to be called
    /// where it is not known which keys are right.
    pub fn finish(&self) {
        let asked = self.asked.borrow();
        for (key, line, _) in &self.table.entries {
            if !asked.contains(&key.as_str()) {
                let absent = asked.iter().copied().filter(|it| !self.has(it));
                let hint = did_you_mean(key, absent.clone());
                for meant in absent.filter(|it| hint.contains(&format!("`{it}`"))) {
                    self.reading
                        .retract(&format!("{}{meant}", self.prefix), MISSING);
                }
                let hint = match hint.is_empty() {
                    true => self.hint_at_present(key, &asked),
                    false => hint,
                };
                self.problem_at(*line, key, format!("unknown key{hint}"));
            }
        }
    }

    /// The known key that is meant where it is there as well.
    fn hint_at_present(&self, key: &str, asked: &[&'static str]) -> String {
        let is_meant = |known: &&&str| self.has(known) && !did_you_mean(key, [**known]).is_empty();
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

    /// Counts a key as asked for that is read elsewhere.
    pub fn know(&self, key: &'static str) {
        self.asked.borrow_mut().push(key);
    }

    /// Reads a key that must be there.
    pub fn required<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&Self, &'static str) -> Option<T>,
    ) -> Option<T> {
        let value = read(self, key);
        if !self.has(key) {
            self.reading
                .problem(self.line, Some(format!("{}{key}", self.prefix)), MISSING);
        }
        value
    }

    pub(super) fn entry(&self, key: &'static str) -> Option<&'a Located> {
        self.asked.borrow_mut().push(key);
        self.table.get(key).map(|(_, _, value)| value)
    }

    /// What is there, without counting the key as asked for.
    pub(super) fn found(&self, key: &str) -> Option<&'a Located> {
        self.table.get(key).map(|(_, _, value)| value)
    }

    pub(super) fn wrong(&self, key: &str, located: &Located, expected: &str) {
        self.problem_at(
            located.line,
            key,
            format!("expected {expected}, found {}", located.value.noun()),
        );
    }

    /// The string as a template; `expected` is what else would be told of.
    pub(super) fn template(
        &self,
        key: &str,
        located: &Located,
        secrecy: Secrecy,
        expected: &str,
    ) -> Option<Arc<Template>> {
        let line = located.line;
        let template = match &located.value {
            Value::Text(text) => self.parsed(key, line, text, secrecy)?,
            Value::Kept(template) if secrecy == Secrecy::Public && template.literal().is_none() => {
                self.problem_at(line, key, "a record has text here, and no reference");
                return None;
            }
            Value::Kept(template) => template.clone(),
            // What others could see was never a credential's name.
            Value::Old(text) => Arc::new(Template::of_old_record(text, secrecy != Secrecy::Public)),
            Value::Withheld => {
                let message = "a secret that stood in the configuration itself is not in the record: undo it by hand";
                self.problem_at(line, key, message);
                return None;
            }
            _ => {
                self.wrong(key, located, expected);
                return None;
            }
        };
        if secrecy == Secrecy::Public && template.is_secret() {
            let message = "a credential must not stand here, where others can see it; a command takes it in \
                           `environment`, a request in `headers`, `password` or its body";
            self.problem_at(line, key, message);
            return None;
        }
        Some(template)
    }

    fn parsed(
        &self,
        key: &str,
        line: usize,
        text: &str,
        secrecy: Secrecy,
    ) -> Option<Arc<Template>> {
        match Template::parse(text) {
            Ok(template) => Some(Arc::new(template)),
            // What is said of a fact repeats a part of the text, which is no matter where the text is nothing else.
            Err(_) if secrecy == Secrecy::Secret && !is_one_fact(text) => {
                let message = "has a `${…}` in it that is no fact (write `$${` for a literal `${`)";
                self.problem_at(line, key, message);
                None
            }
            Err(problems) => {
                problems
                    .into_iter()
                    .for_each(|problem| self.problem_at(line, key, problem));
                None
            }
        }
    }

    pub(super) fn field<T: 'static>(
        &self,
        key: &str,
        located: &Located,
        parse: fn(&str) -> Result<T, String>,
        secrecy: Secrecy,
    ) -> Option<Field<T>> {
        let template = self.template(key, located, secrecy, "a string")?;
        let key = format!("{}{key}", self.prefix);
        let field = Field {
            key: key.clone(),
            template,
            secrecy,
            parse,
        };
        if let Some(literal) = field.literal() {
            if secrecy == Secrecy::Secret {
                secrets::hide(literal);
            }
            if let Err(message) = parse(literal) {
                self.reading.problem(located.line, Some(key), message);
                return None;
            }
        } else {
            let look = field.clone();
            let look = Box::new(move |facts: &Facts| look.try_get(facts).map(drop));
            self.reading.check(Check {
                line: located.line,
                key,
                look,
            });
        }
        Some(field)
    }

    /// A string that becomes a `T` once the facts in it are known. Without facts it is parsed now, and a problem told.
    pub fn text<T: 'static>(
        &self,
        key: &'static str,
        parse: fn(&str) -> Result<T, String>,
        secrecy: Secrecy,
    ) -> Option<Field<T>> {
        self.entry(key)
            .and_then(|located| self.field(key, located, parse, secrecy))
    }

    /// The items of a list; a single value counts as a list of one, an empty list is a problem.
    pub(super) fn items(&self, key: &'static str) -> Option<&'a [Located]> {
        let located = self.entry(key)?;
        match &located.value {
            Value::List(items) if items.is_empty() => {
                self.problem_at(located.line, key, "must not be empty");
                None
            }
            Value::List(items) => Some(items.as_slice()),
            _ => Some(std::slice::from_ref(located)),
        }
    }

    /// A list of such strings; a single string counts as a list of one, an empty list is a problem.
    pub fn texts<T: 'static>(
        &self,
        key: &'static str,
        parse: fn(&str) -> Result<T, String>,
        secrecy: Secrecy,
    ) -> Option<Vec<Field<T>>> {
        let items = self.items(key)?;
        // All of them are read, so that every problem is told, before any missing one makes the whole `None`.
        let fields: Vec<_> = items
            .iter()
            .map(|item| self.field(key, item, parse, secrecy))
            .collect();
        fields.into_iter().collect()
    }

    /// As [`Section::texts`], with a value for where the key is not there, which must be one.
    pub fn texts_or<T: 'static>(
        &self,
        key: &'static str,
        default: &str,
        parse: fn(&str) -> Result<T, String>,
        secrecy: Secrecy,
    ) -> Option<Vec<Field<T>>> {
        if self.has(key) {
            return self.texts(key, parse, secrecy);
        }
        self.know(key);
        let located = Located {
            line: self.line,
            value: Value::Text(default.to_owned()),
        };
        Some(vec![self.field(key, &located, parse, secrecy)?])
    }

    /// As [`Section::texts`], where a single string is a problem too.
    pub fn list<T: 'static>(
        &self,
        key: &'static str,
        parse: fn(&str) -> Result<T, String>,
        secrecy: Secrecy,
    ) -> Option<Vec<Field<T>>> {
        let located = self.entry(key)?;
        if !matches!(located.value, Value::List(_)) {
            self.wrong(key, located, "a list of strings");
            return None;
        }
        self.texts(key, parse, secrecy)
    }

    /// A table of strings, in the order of the file: headers, an environment. Empty where the key is not there.
    pub fn map<T: 'static>(
        &self,
        key: &'static str,
        check_name: fn(&str) -> Result<(), String>,
        parse: fn(&str) -> Result<T, String>,
        secrecy: impl Fn(&str) -> Secrecy,
    ) -> Vec<(String, Field<T>)> {
        let Some(located) = self.entry(key) else {
            return Vec::new();
        };
        let Value::Table(table) = &located.value else {
            self.wrong(key, located, "a table of strings");
            return Vec::new();
        };
        let read = |(name, line, value): &(String, usize, Located)| {
            let key = format!("{key}.{name}");
            if let Err(message) = check_name(name) {
                self.problem_at(*line, &key, message);
            }
            let field = self.field(&key, value, parse, secrecy(name))?;
            Some((name.clone(), field))
        };
        table.entries.iter().filter_map(read).collect()
    }

    /// A table within this one.
    pub fn table(&self, key: &'static str) -> Option<Section<'a>> {
        let located = self.entry(key)?;
        let Value::Table(table) = &located.value else {
            self.wrong(key, located, "a table");
            return None;
        };
        let prefix = format!("{}{key}.", self.prefix);
        Some(Section {
            reading: self.reading,
            table,
            line: located.line,
            prefix,
            asked: RefCell::default(),
        })
    }
}

/// Whether a text is a fact, or what is meant as one, and nothing else.
fn is_one_fact(text: &str) -> bool {
    text.strip_prefix("${")
        .and_then(|rest| rest.split_once('}'))
        .is_some_and(|(_, after)| after.is_empty())
}
