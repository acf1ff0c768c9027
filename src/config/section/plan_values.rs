//! Strings that the plan itself needs: names, words, durations.

use std::time::Duration;

use super::field::Secrecy;
use super::table::Section;
use crate::config::document::{Spanned, Value};
use crate::config::suggestion::did_you_mean;
use crate::config::template::{Fact, Template};
use crate::text::duration;

impl Section<'_> {
    /// A string that the plan itself needs: a name, a word, a duration. Its facts are substituted now; `None` also on a
    /// build machine, where they are not known yet.
    fn word_at(&self, key: &str, spanned: &Spanned, expected: &str) -> Option<String> {
        let template = self.template(key, spanned, Secrecy::Public, expected)?;
        if let Some(literal) = template.literal() {
            return Some(literal.to_owned());
        }
        if let Some(fact) = template
            .facts()
            .find(|fact| fact.is_of_run() && **fact != Fact::Trigger)
        {
            self.problem_at(
                spanned.line,
                key,
                format!("{fact} is known only while a run lasts"),
            );
            return None;
        }
        match self.reading.facts?.render(&template) {
            Ok(text) => Some(text),
            Err(message) => {
                self.problem_at(spanned.line, key, message);
                None
            }
        }
    }

    /// A plain string that the plan itself needs.
    pub fn word(&self, key: &'static str) -> Option<String> {
        self.entry(key)
            .and_then(|spanned| self.word_at(key, spanned, "a string"))
    }

    /// A list of plain strings that the plan itself needs.
    pub fn words(&self, key: &'static str) -> Option<Vec<String>> {
        let spanned = self.entry(key)?;
        let Value::List(items) = &spanned.value else {
            self.wrong(key, spanned, "a list of strings");
            return None;
        };
        let words: Vec<_> = items
            .iter()
            .map(|item| self.word_at(key, item, "a string"))
            .collect();
        words.into_iter().collect()
    }

    /// One of several words. `noun` names what they are: "unknown kind `htpp`; did you mean `http`?".
    pub fn choice<T: Clone>(
        &self,
        key: &'static str,
        noun: &str,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        let spanned = self.entry(key)?;
        let word = self.word_at(key, spanned, "a string")?;
        let chosen = choices
            .iter()
            .find(|(name, _)| *name == word)
            .map(|(_, choice)| choice.clone());
        if chosen.is_none() {
            self.unknown(key, spanned.line, noun, &word, choices);
        }
        chosen
    }

    /// A list of such words.
    pub fn choices<T: Clone>(
        &self,
        key: &'static str,
        noun: &str,
        choices: &[(&'static str, T)],
    ) -> Option<Vec<T>> {
        let spanned = self.entry(key)?;
        let Value::List(items) = &spanned.value else {
            self.wrong(key, spanned, "a list of strings");
            return None;
        };
        if items.is_empty() {
            self.problem_at(spanned.line, key, "must not be empty");
        }
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
        (chosen.len() == items.len() && !items.is_empty()).then_some(chosen)
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
        let hint = hint(word, &names);
        self.problem_at(line, key, format!("unknown {noun} `{word}`{hint}"));
    }

    /// A duration such as "90s".
    pub fn duration(&self, key: &'static str) -> Option<Duration> {
        self.entry(key)
            .and_then(|spanned| self.duration_at(key, spanned))
    }

    /// A plain string that is also read elsewhere, where its problems are reported; `None` for those, too.
    pub fn word_elsewhere(&self, key: &str) -> Option<String> {
        let spanned = self.found(key)?;
        let template = match &spanned.value {
            Value::Text(text) => Template::parse(text).ok()?,
            Value::Kept(template) => template.as_ref().clone(),
            _ => return None,
        };
        match template.literal() {
            Some(literal) => Some(literal.to_owned()),
            None => self.reading.facts?.render(&template).ok(),
        }
    }

    /// As [`Section::word_elsewhere`], for a duration.
    pub fn duration_elsewhere(&self, key: &str) -> Option<Duration> {
        duration::parse(&self.word_elsewhere(key)?).ok()
    }

    fn duration_at(&self, key: &str, spanned: &Spanned) -> Option<Duration> {
        let word = self.word_at(key, spanned, "a duration such as \"90s\"")?;
        duration::parse(&word)
            .map_err(|message| self.problem_at(spanned.line, key, message))
            .ok()
    }

    /// A duration, or a table of durations by name; a single one has the name `default`.
    pub fn durations(
        &self,
        key: &'static str,
        names: &[&'static str],
    ) -> Option<Vec<(&'static str, usize, Duration)>> {
        let spanned = self.entry(key)?;
        let Value::Table(table) = &spanned.value else {
            return Some(vec![(
                "default",
                spanned.line,
                self.duration_at(key, spanned)?,
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
                    let hint = hint(name, names);
                    self.problem_at(*line, &inner, format!("unknown trigger{hint}"));
                }
            }
        }
        Some(durations)
    }
}

/// The word that was probably meant, or else all known ones.
fn hint(word: &str, known: &[&str]) -> String {
    match did_you_mean(word, known.iter().copied()) {
        hint if hint.is_empty() => format!("; known are {}", known.join(", ")),
        hint => hint,
    }
}
