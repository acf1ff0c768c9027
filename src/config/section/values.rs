//! Numbers, booleans, and values of any type.

use std::ops::RangeInclusive;

use super::field::{Field, Secrecy, plain};
use super::table::Section;
use crate::config::document::{Spanned, Value};
use crate::config::facts::Facts;
use crate::model::error::Failure;

impl Section<'_> {
    /// An integer within `range`.
    pub fn integer(&self, key: &'static str, range: RangeInclusive<i64>) -> Option<i64> {
        self.entry(key)
            .and_then(|spanned| self.integer_at(key, spanned, &range))
    }

    fn integer_at(&self, key: &str, spanned: &Spanned, range: &RangeInclusive<i64>) -> Option<i64> {
        match spanned.value {
            Value::Integer(number) if range.contains(&number) => Some(number),
            Value::Integer(number) => {
                let message = format!(
                    "{number} is not between {} and {}",
                    range.start(),
                    range.end()
                );
                self.problem_at(spanned.line, key, message);
                None
            }
            _ => {
                self.wrong(key, spanned, "an integer");
                None
            }
        }
    }

    /// A list of integers within `range`; a single one counts as a list of one, an empty list is a problem.
    pub fn integers(&self, key: &'static str, range: RangeInclusive<i64>) -> Option<Vec<i64>> {
        let items = self.items(key)?;
        let integers: Vec<_> = items
            .iter()
            .map(|item| self.integer_at(key, item, &range))
            .collect();
        integers.into_iter().collect()
    }

    /// As [`Section::integers`], or one special word.
    pub fn integers_or(
        &self,
        key: &'static str,
        range: RangeInclusive<i64>,
        word: &str,
    ) -> Option<IntegersOrWord> {
        match self.found(key).map(|spanned| (spanned, &spanned.value)) {
            Some((_, Value::Text(text))) if text == word => {
                self.know(key);
                Some(IntegersOrWord::Word)
            }
            Some((spanned, Value::Text(_))) => {
                self.know(key);
                self.wrong(key, spanned, &format!("integers or {word:?}"));
                None
            }
            _ => self.integers(key, range).map(IntegersOrWord::Integers),
        }
    }

    pub fn boolean(&self, key: &'static str) -> Option<bool> {
        let spanned = self.entry(key)?;
        match spanned.value {
            Value::Boolean(boolean) => Some(boolean),
            _ => {
                self.wrong(key, spanned, "true or false");
                None
            }
        }
    }

    /// A value of any type, as JSON, with facts in its strings.
    pub fn json(&self, key: &'static str) -> Option<Json> {
        self.entry(key)
            .and_then(|spanned| self.json_at(key, spanned))
    }

    fn json_at(&self, key: &str, spanned: &Spanned) -> Option<Json> {
        match &spanned.value {
            Value::Text(_) | Value::Kept(_) | Value::Old(_) | Value::Withheld => self
                .field(key, spanned, plain, Secrecy::MayHold)
                .map(Json::Text),
            Value::Integer(number) => Some(Json::Plain((*number).into())),
            Value::Float(number) => Some(Json::Plain((*number).into())),
            Value::Boolean(boolean) => Some(Json::Plain((*boolean).into())),
            Value::Datetime => {
                self.wrong(key, spanned, "a JSON value");
                None
            }
            Value::List(items) => {
                let items: Vec<_> = items.iter().map(|item| self.json_at(key, item)).collect();
                items.into_iter().collect::<Option<_>>().map(Json::List)
            }
            Value::Table(table) => {
                let read = |(name, _, value): &(String, usize, Spanned)| {
                    Some((name.clone(), self.json_at(&format!("{key}.{name}"), value)?))
                };
                let entries: Vec<_> = table.entries.iter().map(read).collect();
                entries.into_iter().collect::<Option<_>>().map(Json::Table)
            }
        }
    }
}

/// What [`Section::integers_or`] reads.
pub enum IntegersOrWord {
    /// A list of integers.
    Integers(Vec<i64>),
    Word,
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
    /// The value with the current facts.
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
                let mut object = serde_json::Map::new();
                for (name, value) in entries {
                    object.insert(name.clone(), value.get(facts)?);
                }
                object.into()
            }
        })
    }
}
