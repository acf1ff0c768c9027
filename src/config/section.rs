//! Reading one table of the configuration key by key, with every problem told and none hiding another.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::facts::Facts;
use super::problem::{Problem, Severity};
use super::suggestion::did_you_mean;
use super::template::Template;
use super::toml::{Located, Table, Value};
use super::{duration, template};
use crate::failure::{Failure, Word};
use crate::secrets;

/// Whether a string may hold a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrecy {
    /// It is shown or can be seen by others (a URL, a path, an argv): a credential in it is refused.
    Public,
    /// It may hold a credential.
    MayHold,
    /// It is a secret as a whole, wherever it comes from.
    Secret,
}

/// A configured string that becomes a `T` when a step begins and the facts in it are known.
pub struct Field<T> {
    key: String,
    template: Arc<Template>,
    secrecy: Secrecy,
    parse: fn(&str) -> Result<T, String>,
}

impl<T> Clone for Field<T> {
    fn clone(&self) -> Self {
        Field {
            key: self.key.clone(),
            template: self.template.clone(),
            secrecy: self.secrecy,
            parse: self.parse,
        }
    }
}

impl<T> Field<T> {
    /// The value, with the facts as they are now.
    ///
    /// # Errors
    /// A `config` failure when a fact or a credential cannot be read, or when what comes out is no `T`.
    pub fn get(&self, facts: &Facts) -> Result<T, Failure> {
        self.try_get(facts)
            .map_err(|cause| Failure::new(Word::Config, format!("key \"{}\"", self.key), cause))
    }

    fn try_get(&self, facts: &Facts) -> Result<T, String> {
        let text = facts.render(&self.template)?;
        if self.secrecy == Secrecy::Secret {
            secrets::hide(&text);
        }
        (self.parse)(&text)
    }

    /// The text, when no fact is in it.
    pub fn literal(&self) -> Option<&str> {
        self.template.literal()
    }
}

type Look = Box<dyn Fn(&Facts) -> Result<(), String>>;

/// A look at one field that can only be taken when facts are known.
pub struct Check {
    line: usize,
    key: String,
    look: Look,
}

/// What is found while the tables of one step (or of `[farewell]`) are read.
pub struct Reading<'a> {
    file: &'a Path,
    step: Option<String>,
    /// Facts for strings that the plan itself needs; `None` on a build machine, where they are not there yet.
    facts: Option<&'a Facts>,
    found: RefCell<Found>,
}

#[derive(Default)]
struct Found {
    problems: Vec<Problem>,
    checks: Vec<Check>,
}

impl<'a> Reading<'a> {
    /// A reading of a step, or of the head when `step` is `None`.
    pub fn new(file: &'a Path, step: Option<String>, facts: Option<&'a Facts>) -> Self {
        Reading {
            file,
            step,
            facts,
            found: RefCell::default(),
        }
    }

    /// Reports something wrong with the whole step.
    pub fn problem(&self, line: usize, key: Option<String>, message: impl Into<String>) {
        self.found.borrow_mut().problems.push(Problem {
            severity: Severity::Error,
            file: self.file.to_owned(),
            line,
            step: self.step.clone(),
            key,
            message: message.into(),
        });
    }

    /// The problems so far, and the looks that `check` takes at the fields when it knows the facts.
    pub fn finish(self) -> (Vec<Problem>, Vec<Check>) {
        let found = self.found.into_inner();
        (found.problems, found.checks)
    }
}

impl Check {
    /// Takes the look; the problem found, as (line, key, message).
    pub fn look(&self, facts: &Facts) -> Option<(usize, String, String)> {
        (self.look)(facts)
            .err()
            .map(|message| (self.line, self.key.clone(), message))
    }
}

/// One table, read key by key. Whatever is wrong is reported to its [`Reading`] once; the readers then return `None`,
/// as they do for a key that is not there.
pub struct Section<'a> {
    reading: &'a Reading<'a>,
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

    fn problem_at(&self, line: usize, key: &str, message: impl Into<String>) {
        self.reading
            .problem(line, Some(format!("{}{key}", self.prefix)), message);
    }

    /// Adds a look that `check` takes at a key when it knows the facts: at what belongs together, or lies on the disk.
    pub fn check(&self, key: &str, look: impl Fn(&Facts) -> Result<(), String> + 'static) {
        self.reading.found.borrow_mut().checks.push(Check {
            line: self.line_of(key),
            key: format!("{}{key}", self.prefix),
            look: Box::new(look),
        });
    }

    /// Reports every key that nobody asked for. Not to be called where it is not known which keys are right.
    pub fn finish(&self) {
        let asked = self.asked.borrow();
        for (key, line, _) in &self.table.entries {
            if !asked.contains(&key.as_str()) {
                let message = format!("unknown key{}", did_you_mean(key, asked.iter().copied()));
                self.problem_at(*line, key, message);
            }
        }
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
                .problem(self.line, Some(format!("{}{key}", self.prefix)), "missing");
        }
        value
    }

    fn entry(&self, key: &'static str) -> Option<&'a Located> {
        self.asked.borrow_mut().push(key);
        self.table.get(key).map(|(_, _, value)| value)
    }

    fn wrong(&self, key: &str, located: &Located, expected: &str) {
        self.problem_at(
            located.line,
            key,
            format!("expected {expected}, found {}", located.value.noun()),
        );
    }

    fn template(
        &self,
        key: &str,
        line: usize,
        text: &str,
        secrecy: Secrecy,
    ) -> Option<Arc<Template>> {
        match Template::parse(text) {
            Ok(template) if template.is_secret() && secrecy == Secrecy::Public => {
                let message = "a credential must not stand here, where others can see it";
                self.problem_at(line, key, message);
                None
            }
            Ok(template) => Some(Arc::new(template)),
            Err(problems) => {
                problems
                    .into_iter()
                    .for_each(|problem| self.problem_at(line, key, problem));
                None
            }
        }
    }

    fn field<T: 'static>(
        &self,
        key: &str,
        located: &Located,
        parse: fn(&str) -> Result<T, String>,
        secrecy: Secrecy,
    ) -> Option<Field<T>> {
        let Value::Text(text) = &located.value else {
            self.wrong(key, located, "a string");
            return None;
        };
        let template = self.template(key, located.line, text, secrecy)?;
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
            self.reading.found.borrow_mut().checks.push(Check {
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

    /// A list of such strings; a single string counts as a list of one, an empty list is a problem.
    pub fn texts<T: 'static>(
        &self,
        key: &'static str,
        parse: fn(&str) -> Result<T, String>,
        secrecy: Secrecy,
    ) -> Option<Vec<Field<T>>> {
        let located = self.entry(key)?;
        let items = match &located.value {
            Value::List(items) if items.is_empty() => {
                self.problem_at(located.line, key, "must not be empty");
                return None;
            }
            Value::List(items) => items.as_slice(),
            _ => std::slice::from_ref(located),
        };
        // All of them are read, so that every problem is told, before any missing one makes the whole `None`.
        let fields: Vec<_> = items
            .iter()
            .map(|item| self.field(key, item, parse, secrecy))
            .collect();
        fields.into_iter().collect()
    }

    /// A table of strings, in the order of the file: headers, an environment. Empty where the key is not there.
    pub fn map<T: 'static>(
        &self,
        key: &'static str,
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
        let read = |(name, _, value): &(String, usize, Located)| {
            let field = self.field(&format!("{key}.{name}"), value, parse, secrecy(name))?;
            Some((name.clone(), field))
        };
        table.entries.iter().filter_map(read).collect()
    }

    /// A string that is needed to make the plan: a name, a word, a duration. Facts in it are put in now; `None` also
    /// where they cannot be known yet, on a build machine.
    fn word_at(&self, key: &str, located: &Located, expected: &str) -> Option<String> {
        let Value::Text(text) = &located.value else {
            self.wrong(key, located, expected);
            return None;
        };
        let template = self.template(key, located.line, text, Secrecy::Public)?;
        if let Some(literal) = template.literal() {
            return Some(literal.to_owned());
        }
        if let Some(fact) = template
            .facts()
            .find(|fact| fact.is_of_run() && **fact != template::Fact::Trigger)
        {
            self.problem_at(
                located.line,
                key,
                format!("{fact} is known only while a run lasts"),
            );
            return None;
        }
        match self.reading.facts?.render(&template) {
            Ok(text) => Some(text),
            Err(message) => {
                self.problem_at(located.line, key, message);
                None
            }
        }
    }

    /// A plain string that is needed to make the plan.
    pub fn word(&self, key: &'static str) -> Option<String> {
        self.entry(key)
            .and_then(|located| self.word_at(key, located, "a string"))
    }

    /// A list of plain strings that are needed to make the plan.
    pub fn words(&self, key: &'static str) -> Option<Vec<String>> {
        let located = self.entry(key)?;
        let Value::List(items) = &located.value else {
            self.wrong(key, located, "a list of strings");
            return None;
        };
        let words: Vec<_> = items
            .iter()
            .map(|item| self.word_at(key, item, "a string"))
            .collect();
        words.into_iter().collect()
    }

    /// One of some words. `noun` names what they are: "unknown kind `htpp`; did you mean `http`?".
    pub fn choice<T: Clone>(
        &self,
        key: &'static str,
        noun: &str,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        let located = self.entry(key)?;
        let word = self.word_at(key, located, "a string")?;
        let chosen = choices
            .iter()
            .find(|(name, _)| *name == word)
            .map(|(_, choice)| choice.clone());
        if chosen.is_none() {
            self.unknown(key, located.line, noun, &word, choices);
        }
        chosen
    }

    /// A list of some words.
    pub fn choices<T: Clone>(
        &self,
        key: &'static str,
        noun: &str,
        choices: &[(&'static str, T)],
    ) -> Option<Vec<T>> {
        let located = self.entry(key)?;
        let Value::List(items) = &located.value else {
            self.wrong(key, located, "a list of strings");
            return None;
        };
        let mut chosen = Vec::new();
        for item in items {
            let Some(word) = self.word_at(key, item, "a string") else {
                continue;
            };
            match choices.iter().find(|(name, _)| *name == word) {
                Some((_, choice)) => chosen.push(choice.clone()),
                None => self.unknown(key, item.line, noun, &word, choices),
            }
        }
        (chosen.len() == items.len()).then_some(chosen)
    }

    fn unknown<T>(
        &self,
        key: &str,
        line: usize,
        noun: &str,
        word: &str,
        choices: &[(&'static str, T)],
    ) {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let hint = match did_you_mean(word, names.iter().copied()) {
            hint if hint.is_empty() => format!("; known are {}", names.join(", ")),
            hint => hint,
        };
        self.problem_at(line, key, format!("unknown {noun} `{word}`{hint}"));
    }

    /// A duration such as "90s".
    pub fn duration(&self, key: &'static str) -> Option<Duration> {
        self.entry(key)
            .and_then(|located| self.duration_at(key, located))
    }

    fn duration_at(&self, key: &str, located: &Located) -> Option<Duration> {
        let word = self.word_at(key, located, "a duration such as \"90s\"")?;
        duration::parse(&word)
            .map_err(|message| self.problem_at(located.line, key, message))
            .ok()
    }

    /// A duration, or a table of durations by name; a single one has the name `default`.
    pub fn durations(
        &self,
        key: &'static str,
        names: &[&'static str],
    ) -> Option<Vec<(&'static str, usize, Duration)>> {
        let located = self.entry(key)?;
        let Value::Table(table) = &located.value else {
            return Some(vec![(
                "default",
                located.line,
                self.duration_at(key, located)?,
            )]);
        };
        let mut durations = Vec::new();
        for (name, line, value) in &table.entries {
            let inner = format!("{key}.{name}");
            match names.iter().find(|known| *known == name) {
                Some(known) => durations.extend(
                    self.duration_at(&inner, value)
                        .map(|it| (*known, *line, it)),
                ),
                None => {
                    let hint = did_you_mean(name, names.iter().copied());
                    self.problem_at(*line, &inner, format!("unknown trigger{hint}"));
                }
            }
        }
        Some(durations)
    }

    /// An integer within `range`.
    pub fn integer(&self, key: &'static str, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        self.entry(key)
            .and_then(|located| self.integer_at(key, located, &range))
    }

    fn integer_at(
        &self,
        key: &str,
        located: &Located,
        range: &std::ops::RangeInclusive<i64>,
    ) -> Option<i64> {
        match located.value {
            Value::Integer(number) if range.contains(&number) => Some(number),
            Value::Integer(number) => {
                let message = format!(
                    "{number} is not between {} and {}",
                    range.start(),
                    range.end()
                );
                self.problem_at(located.line, key, message);
                None
            }
            _ => {
                self.wrong(key, located, "an integer");
                None
            }
        }
    }

    /// A list of integers within `range`; a single one counts as a list of one, an empty list is a problem.
    pub fn integers(
        &self,
        key: &'static str,
        range: std::ops::RangeInclusive<i64>,
    ) -> Option<Vec<i64>> {
        let located = self.entry(key)?;
        let items = match &located.value {
            Value::List(items) if items.is_empty() => {
                self.problem_at(located.line, key, "must not be empty");
                return None;
            }
            Value::List(items) => items.as_slice(),
            _ => std::slice::from_ref(located),
        };
        let integers: Vec<_> = items
            .iter()
            .map(|item| self.integer_at(key, item, &range))
            .collect();
        integers.into_iter().collect()
    }

    /// A boolean.
    pub fn boolean(&self, key: &'static str) -> Option<bool> {
        let located = self.entry(key)?;
        match located.value {
            Value::Boolean(boolean) => Some(boolean),
            _ => {
                self.wrong(key, located, "true or false");
                None
            }
        }
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

    /// A value of any type, as JSON, with facts in its strings.
    pub fn json(&self, key: &'static str) -> Option<Json> {
        self.entry(key)
            .and_then(|located| self.json_at(key, located))
    }

    fn json_at(&self, key: &str, located: &Located) -> Option<Json> {
        match &located.value {
            Value::Text(_) => self
                .field(key, located, plain, Secrecy::MayHold)
                .map(Json::Text),
            Value::Integer(number) => Some(Json::Plain((*number).into())),
            Value::Float(number) => Some(Json::Plain((*number).into())),
            Value::Boolean(boolean) => Some(Json::Plain((*boolean).into())),
            Value::Datetime => {
                self.wrong(key, located, "a value that JSON has");
                None
            }
            Value::List(items) => {
                let items: Vec<_> = items.iter().map(|item| self.json_at(key, item)).collect();
                items.into_iter().collect::<Option<_>>().map(Json::List)
            }
            Value::Table(table) => {
                let read = |(name, _, value): &(String, usize, Located)| {
                    Some((name.clone(), self.json_at(&format!("{key}.{name}"), value)?))
                };
                let entries: Vec<_> = table.entries.iter().map(read).collect();
                entries.into_iter().collect::<Option<_>>().map(Json::Table)
            }
        }
    }
}

/// A JSON value with facts in its strings.
#[derive(Clone)]
pub enum Json {
    /// A value without facts.
    Plain(serde_json::Value),
    /// A string.
    Text(Field<String>),
    /// An array.
    List(Vec<Json>),
    /// An object.
    Table(Vec<(String, Json)>),
}

impl Json {
    /// The value, with the facts as they are now.
    ///
    /// # Errors
    /// As [`Field::get`].
    pub fn get(&self, facts: &Facts) -> Result<serde_json::Value, Failure> {
        Ok(match self {
            Json::Plain(value) => value.clone(),
            Json::Text(field) => field.get(facts)?.into(),
            Json::List(items) => items
                .iter()
                .map(|item| item.get(facts))
                .collect::<Result<Vec<_>, _>>()?
                .into(),
            Json::Table(entries) => {
                let read = |(name, value): &(String, Json)| Ok((name.clone(), value.get(facts)?));
                serde_json::Value::Object(entries.iter().map(read).collect::<Result<_, Failure>>()?)
            }
        })
    }
}

/// The text as it is.
///
/// # Errors
/// None.
pub fn plain(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

/// An absolute path: systemd runs farewell in `/`, and a relative path would mean another file by hand.
///
/// # Errors
/// When it is not absolute.
pub fn path(text: &str) -> Result<std::path::PathBuf, String> {
    if text.starts_with('/') {
        Ok(text.into())
    } else {
        Err(format!("the path `{text}` must be absolute"))
    }
}
