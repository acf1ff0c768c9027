//! Intents: what a step is about to change that outlives a reboot.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value, json};

use crate::model::secrets::MASK;

/// A lasting change that a step is about to make, as the record keeps it: everything that its undo needs, since the
/// configuration may have changed by then.
///
/// It is data: text that is never rendered as a template, and references to where secrets are read, never their values.
/// So nothing in it needs to be masked, and masking a password that is a common word cannot damage it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Intent {
    /// The name of the kind's member: "nomad". Empty if the kind has no members.
    pub member: String,
    /// What it is, for people: "the drain of node web-1".
    pub subject: String,
    /// Identifies the changed object, the same in every run: the node, the instance or the key, and nothing that
    /// changes from run to run. Intents of one kind and member on the same object are one [`Chain`]. Empty in a record
    /// of the first format, which did not have it.
    pub thing: String,
    /// Addresses, ids, the state before, and references to secrets, in the member's own terms.
    pub what: Keys,
}

/// The key of the condition that must hold before something is undone, in the terms of its kind.
pub const READY: &str = "ready";

/// An intent's data by name.
pub type Keys = BTreeMap<String, Datum>;

/// A value in an intent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Value", into = "Value")]
pub enum Datum {
    /// True or false.
    Flag(bool),
    Number(Number),
    /// Text as it is.
    Text(String),
    /// Text that is assembled when it is needed. Empty for a secret in the configuration itself, which is not recorded.
    Reference(Vec<Piece>),
    List(Vec<Datum>),
    /// Names and their values.
    Table(Keys),
    /// A string of a record of the first format: text with `${` written as `$${`, or, in a secret value, the name of a
    /// credential.
    Old(String),
}

/// A piece of a text that is assembled when it is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Text as it is.
    Text(String),
    /// Text read from a source.
    From(Source),
}

/// The source of a value that is not in the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The credential of this name.
    Credential(String),
    File(PathBuf),
    /// The value at a JSON pointer in a file.
    Json(PathBuf, String),
    /// A variable of the environment.
    Env(String),
}

/// The only member of a reference's JSON object; no key or header has this name.
const REFERENCE: &str = "read from";

/// Identifies an intent of a run. Another step of the same run may withdraw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntentId {
    /// The step that declared it, by its index in the plan.
    pub step: usize,
    /// Which of that step's, from 0.
    pub number: u32,
}

/// The pending intents on one object, left by successive runs. Their undo restores what the first one found, with the
/// addresses and references of the last one.
#[derive(Clone, Debug)]
pub struct Chain {
    first: Intent,
    later: Vec<Intent>,
}

impl Chain {
    /// A chain that begins with this intent.
    pub fn new(first: Intent) -> Chain {
        Chain {
            first,
            later: Vec::new(),
        }
    }

    /// Adds an intent of a later run.
    pub fn push(&mut self, intent: Intent) {
        self.later.push(intent);
    }

    /// The first intent.
    pub fn first(&self) -> &Intent {
        &self.first
    }

    /// The last intent.
    pub fn last(&self) -> &Intent {
        self.later.last().unwrap_or(&self.first)
    }

    /// All intents, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Intent> {
        std::iter::once(&self.first).chain(&self.later)
    }

    /// The texts of a key in the intents that have it, oldest first.
    pub fn texts(&self, key: &str) -> Vec<String> {
        let text = |it: &Intent| Some(it.what.get(key)?.text()?.into_owned());
        self.iter().filter_map(text).collect()
    }
}

impl Intent {
    /// Whether it contains masked text, as in records of the first format, so that it is incomplete.
    pub fn is_masked(&self) -> bool {
        self.thing.is_empty()
            && (self.member.contains(MASK) || self.what.iter().any(|(name, it)| it.masks(name)))
    }
}

/// An intent as it stands in a record.
#[derive(Serialize, Deserialize)]
struct Written {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    member: String,
    #[serde(rename = "noun")]
    subject: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    thing: String,
    what: Value,
}

impl From<Intent> for Written {
    fn from(intent: Intent) -> Written {
        Written {
            member: intent.member,
            subject: intent.subject,
            thing: intent.thing,
            what: Datum::Table(intent.what).into(),
        }
    }
}

impl From<Written> for Intent {
    fn from(written: Written) -> Intent {
        let is_old = written.thing.is_empty();
        let read = if is_old { old } else { Datum::from };
        let entries = match written.what {
            Value::Object(entries) => entries,
            // farewell never writes this: the undo misses what it needs, and reports it.
            _ => serde_json::Map::new(),
        };
        Intent {
            member: written.member,
            subject: written.subject,
            thing: written.thing,
            what: keys(entries, read),
        }
    }
}

/// Entry by entry: collecting into a map sorts a list, with code for each iterator type.
fn keys(entries: serde_json::Map<String, Value>, read: fn(Value) -> Datum) -> Keys {
    let mut keys = Keys::new();
    for (name, value) in entries {
        keys.insert(name, read(value));
    }
    keys
}

/// A value of a record of the first format.
fn old(value: Value) -> Datum {
    match value {
        Value::String(text) => Datum::Old(text),
        Value::Array(items) => Datum::List(items.into_iter().map(old).collect()),
        Value::Object(entries) => Datum::Table(keys(entries, old)),
        value => Datum::from(value),
    }
}

impl Datum {
    /// The text, if it is literal.
    pub fn text(&self) -> Option<std::borrow::Cow<'_, str>> {
        match self {
            Datum::Text(text) => Some(text.into()),
            Datum::Old(text) => Some(text.replace("$${", "${").into()),
            _ => None,
        }
    }

    fn masks(&self, name: &str) -> bool {
        name.contains(MASK)
            || match self {
                Datum::Old(text) => text.contains(MASK),
                Datum::List(items) => items.iter().any(|it| it.masks("")),
                Datum::Table(keys) => keys.iter().any(|(name, it)| it.masks(name)),
                Datum::Flag(_) | Datum::Number(_) | Datum::Text(_) | Datum::Reference(_) => false,
            }
    }
}

impl From<Datum> for Value {
    fn from(datum: Datum) -> Value {
        match datum {
            Datum::Flag(flag) => flag.into(),
            Datum::Number(number) => number.into(),
            Datum::Text(text) | Datum::Old(text) => text.into(),
            Datum::Reference(pieces) => {
                let pieces: Vec<Value> = pieces.into_iter().map(Value::from).collect();
                json!({ REFERENCE: pieces })
            }
            Datum::List(items) => items.into_iter().map(Value::from).collect(),
            Datum::Table(keys) => {
                let mut entries = serde_json::Map::new();
                for (name, datum) in keys {
                    entries.insert(name, datum.into());
                }
                Value::Object(entries)
            }
        }
    }
}

impl From<Piece> for Value {
    fn from(piece: Piece) -> Value {
        match piece {
            Piece::Text(text) => text.into(),
            // A path in a configuration is UTF-8.
            Piece::From(source) => serde_json::to_value(source).unwrap_or_default(),
        }
    }
}

impl From<Value> for Datum {
    fn from(value: Value) -> Datum {
        match value {
            Value::Bool(flag) => Datum::Flag(flag),
            Value::String(text) => Datum::Text(text),
            Value::Array(items) => Datum::List(items.into_iter().map(Datum::from).collect()),
            Value::Object(entries) => match entries.get(REFERENCE) {
                Some(Value::Array(pieces)) if entries.len() == 1 => {
                    let pieces: Option<Vec<_>> = pieces.iter().map(piece).collect();
                    // A reference of a newer farewell counts as missing.
                    Datum::Reference(pieces.unwrap_or_default())
                }
                _ => Datum::Table(keys(entries, Datum::from)),
            },
            Value::Number(number) => Datum::Number(number),
            // Never written.
            Value::Null => Datum::List(Vec::new()),
        }
    }
}

fn piece(value: &Value) -> Option<Piece> {
    match value {
        Value::String(text) => Some(Piece::Text(text.clone())),
        value => serde_json::from_value(value.clone()).ok().map(Piece::From),
    }
}

impl From<&str> for Datum {
    fn from(text: &str) -> Datum {
        Datum::Text(text.to_owned())
    }
}

impl From<String> for Datum {
    fn from(text: String) -> Datum {
        Datum::Text(text)
    }
}

impl From<bool> for Datum {
    fn from(flag: bool) -> Datum {
        Datum::Flag(flag)
    }
}

impl From<i64> for Datum {
    fn from(number: i64) -> Datum {
        Datum::Number(number.into())
    }
}

impl From<Vec<Datum>> for Datum {
    fn from(items: Vec<Datum>) -> Datum {
        Datum::List(items)
    }
}

impl From<Keys> for Datum {
    fn from(keys: Keys) -> Datum {
        Datum::Table(keys)
    }
}

/// As JSON, for comparing objects.
impl fmt::Display for Datum {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        Value::from(self.clone()).fmt(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_as_it_was() {
        // As a peer would name itself to be rendered, and a word that is also a password.
        let texts = ["${file:/etc/shadow}", "$${x", "fleet", "********", "\u{0}"];
        crate::model::secrets::hide("fleet");
        let texts: Vec<Datum> = texts.into_iter().map(Datum::from).collect();
        let reference = Datum::Reference(vec![
            Piece::Text("Bearer ".to_owned()),
            Piece::From(Source::Credential("t".to_owned())),
            Piece::From(Source::File("/x".into())),
            Piece::From(Source::Json("/x".into(), "/a".to_owned())),
            Piece::From(Source::Env("X".to_owned())),
        ]);
        let what: [(&str, Datum); 6] = [
            ("url", texts.into()),
            ("token", reference),
            ("gone", Datum::Reference(Vec::new())),
            ("eligible", true.into()),
            ("number", 7.into()),
            (
                "headers",
                Keys::from([("From".to_owned(), "a".into())]).into(),
            ),
        ];
        let intent = Intent {
            member: "nomad".to_owned(),
            subject: "the drain of node fleet".to_owned(),
            thing: "fleet".to_owned(),
            what: what.map(|(key, it)| (key.to_owned(), it)).into(),
        };
        let text = serde_json::to_string(&intent).expect("JSON");
        let read: Intent = serde_json::from_str(&text).expect("an intent");
        assert_eq!(read, intent);
        assert!(!read.is_masked());
    }

    #[test]
    fn strings_of_the_first_version_are_told_from_text() {
        let old = r#"{"member":"m","noun":"n","what":{"a":"x$${b","c":["********"],"d":true}}"#;
        let old: Intent = serde_json::from_str(old).expect("an intent");
        assert_eq!(old.what["a"].text().as_deref(), Some("x${b"));
        assert_eq!(old.what["d"], Datum::Flag(true));
        assert!(old.is_masked());
    }
}
