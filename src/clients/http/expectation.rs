//! What an answer must match: its status, and a value in it.

use serde_json::Value;

use crate::config::facts::Facts;
use crate::config::section::{Json, Section};
use crate::model::error::Failure;
use crate::sys::http::{Answer, BODY_LIMIT};

/// The expected answer: the keys `status`, `pointer` and `equals` of a table.
pub struct Expectation {
    status: Option<Vec<i64>>,
    pointer: Option<String>,
    equals: Option<Json>,
}

impl Expectation {
    /// Reads its keys and finishes the section; `has_body`: whether the answer has one.
    pub fn read(section: &Section<'_>, has_body: bool) -> Expectation {
        let status = section.integers("status", 100..=599);
        let pointer = if section.has("equals") {
            section.required("pointer", |section, key| section.word(key))
        } else {
            section.word("pointer")
        };
        let equals = section.json("equals");
        let is_pointer = |it: &String| it.is_empty() || it.starts_with('/');
        if !pointer.as_ref().is_none_or(is_pointer) {
            section.problem("pointer", "a JSON pointer is empty or begins with `/`");
        }
        if !has_body && section.has("pointer") {
            section.problem("pointer", "the answer to a HEAD request has no body");
        }
        section.finish();
        Expectation {
            status,
            pointer,
            equals,
        }
    }

    /// An answer with one of these statuses, or any 2xx.
    pub fn of_status(status: Option<Vec<i64>>) -> Expectation {
        Expectation {
            status,
            pointer: None,
            equals: None,
        }
    }

    /// The statuses; `None` for any 2xx.
    pub fn status(&self) -> Option<&[i64]> {
        self.status.as_deref()
    }

    /// The pointer and the value.
    pub fn value(&self) -> (Option<&str>, Option<&Json>) {
        (self.pointer.as_deref(), self.equals.as_ref())
    }

    /// Whether the answer has the status.
    pub fn has_status(&self, answer: &Answer) -> bool {
        match &self.status {
            Some(wanted) => wanted.contains(&i64::from(answer.status)),
            None => answer.is_success(),
        }
    }

    /// What does not match in the answer besides its status; `None` if it matches.
    pub fn missing(&self, answer: &Answer, facts: &Facts) -> Result<Option<String>, Failure> {
        let equals = self.equals.as_ref().map(|it| it.get(facts)).transpose()?;
        Ok(self.lack(answer, equals.as_ref()))
    }

    fn lack(&self, answer: &Answer, equals: Option<&Value>) -> Option<String> {
        if !self.has_status(answer) {
            return Some(String::new());
        }
        let pointer = self.pointer.as_deref()?;
        if answer.truncated {
            return Some(format!(", which is longer than {} MiB", BODY_LIMIT >> 20));
        }
        let Ok(document) = serde_json::from_slice::<Value>(&answer.body) else {
            return Some(", which is not JSON".to_owned());
        };
        // The actual value is not shown: a document may contain confidential data.
        match (document.pointer(pointer), equals) {
            (None, _) => Some(format!(" with nothing at {pointer:?}")),
            (Some(Value::Null), None) => Some(format!(" with null at {pointer:?}")),
            (Some(_), None) => None,
            (Some(value), Some(equals)) if is_same(value, equals) => None,
            (Some(_), Some(_)) => Some(format!(" with another value at {pointer:?}")),
        }
    }
}

/// Whether two values are equal, with 1 and 1.0 as the same number.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            one == other || (one.is_f64() || other.is_f64()) && one.as_f64() == other.as_f64()
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .zip(other)
                    .all(|(one, other)| is_same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let same = |(key, one): (&String, &Value)| {
                other.get(key).is_some_and(|other| is_same(one, other))
            };
            one.len() == other.len() && one.iter().all(same)
        }
        _ => one == other,
    }
}
