//! The types that values of the configuration have: what each is called, looks like, and does not look like.

use serde_json::{Value, json};

use farewell::model::trigger::Trigger;
use farewell::steps::KINDS;
use farewell::steps::deregister::REGISTRIES;
use farewell::steps::drain::BALANCERS;
use farewell::steps::lock::LOCKS;
use farewell::steps::wait_safe::CLUSTERS;

/// A duration as jiff reads it, or one that a fact makes.
const DURATION: &str = "^ *(([0-9]+([.,][0-9]+)? *(h|hrs?|hours?|m|mins?|minutes?|s|secs?|seconds?|ms|msecs?|millis|milliseconds?|us|µs|usecs?|micros|microseconds?|ns|nsecs?|nanos|nanoseconds?),? *)+|[0-9]+:[0-9][0-9]:[0-9][0-9]) *$|\\$\\{";
/// A unit's name with its suffix.
const UNIT: &str = "^[A-Za-z0-9:_.\\\\@-]+\\.(service|socket|device|mount|automount|swap|target|path|timer|slice|scope)$|\\$\\{";
/// The same, or a pattern of such names.
const UNITS: &str = "^[A-Za-z0-9:_.\\\\@*?!^\\[\\]-]+\\.(service|socket|device|mount|automount|swap|target|path|timer|slice|scope)$|\\$\\{";
/// A signal's name.
const SIGNAL: &str = "^SIG[A-Z0-9]+$";
/// Bytes a second.
const RATE: &str = "^[0-9]*[1-9][0-9]*[KMG]?$|\\$\\{";
/// A socket of lines of text.
const SOCKET: &str = "^(/|[^/\\s]+:[0-9]+$|\\$\\{)";
const PATH: &str = "^(/|\\$\\{)";
const URL: &str = "^([Hh][Tt][Tt][Pp][Ss]?://|[Uu][Nn][Ii][Xx]:///|\\$\\{)";
const PLACE: &str = "^(/|[Hh][Tt][Tt][Pp][Ss]?://|[Uu][Nn][Ii][Xx]:///|\\$\\{)";
const NAME: &str = "^[^\\s/\"]{1,64}$|\\$\\{";
const HOST: &str = "^\\.?[A-Za-z0-9:_-][A-Za-z0-9:._-]*$|\\$\\{";
const METHOD: &str = "^[^a-z\\s]+$|\\$\\{";
const POINTER: &str = "^(/|$|\\$\\{)";

/// A type by its words in a doc comment.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    Text,
    Texts,
    Integer(i64, i64),
    Integers(i64, i64),
    /// As `Integers`, or this word.
    IntegersOr(i64, i64, String),
    Boolean,
    Duration,
    DurationByTrigger,
    Path,
    Paths,
    /// Paths of unix sockets, or `host:port`.
    Sockets,
    Unit,
    Units,
    UnitList,
    Signal,
    Rate,
    Url,
    Urls,
    /// A path, or URLs.
    Place,
    Name,
    NameList,
    HostList,
    Pointer,
    Method,
    TriggerList,
    TextTable,
    /// Names, and what is captured under them.
    Captures,
    Table,
    Any,
    /// One of these words.
    Choice(Vec<String>),
    /// One of the names of a table, which `subject` calls so.
    Member {
        subject: String,
        names: Vec<&'static str>,
    },
}

impl Type {
    /// Reads the words.
    pub fn parse(words: &str) -> Option<Type> {
        Some(match words {
            "string" => Type::Text,
            "list of strings" => Type::Texts,
            "boolean" => Type::Boolean,
            "duration" => Type::Duration,
            "duration, or a table of them by trigger" => Type::DurationByTrigger,
            "path" => Type::Path,
            "paths" => Type::Paths,
            "sockets" => Type::Sockets,
            "unit" => Type::Unit,
            "units" => Type::Units,
            "signal" => Type::Signal,
            "rate" => Type::Rate,
            "list of units" => Type::UnitList,
            "URL" => Type::Url,
            "URLs" => Type::Urls,
            "path or URLs" => Type::Place,
            "name" => Type::Name,
            "list of names" => Type::NameList,
            "list of hosts" => Type::HostList,
            "JSON pointer" => Type::Pointer,
            "method of HTTP" => Type::Method,
            "list of triggers" => Type::TriggerList,
            "table of strings" => Type::TextTable,
            "table of captures" => Type::Captures,
            "table" => Type::Table,
            "value" => Type::Any,
            "kind" => Type::member(words, KINDS.iter().map(|it| it.name)),
            "registry" => Type::member(words, REGISTRIES.iter().map(|it| it.name)),
            "cluster" => Type::member(words, CLUSTERS.iter().map(|it| it.name)),
            "balancer" => Type::member(words, BALANCERS.iter().map(|it| it.name)),
            "lock type" => Type::member(words, LOCKS.iter().map(|it| it.name)),
            words => return Type::integer(words).or_else(|| Type::choice(words)),
        })
    }

    fn member(subject: &str, names: impl Iterator<Item = &'static str>) -> Type {
        Type::Member {
            subject: subject.to_owned(),
            names: names.collect(),
        }
    }

    fn integer(words: &str) -> Option<Type> {
        if let Some((integers, word)) = words.split_once(" or ")
            && let Some(Type::Integers(low, high)) = Type::integer(integers)
        {
            return Some(Type::IntegersOr(
                low,
                high,
                word.trim_matches('"').to_owned(),
            ));
        }
        let (subject, range) = words.split_once(" from ")?;
        let (low, high) = range.split_once(" to ")?;
        let (low, high) = (low.parse().ok()?, high.parse().ok()?);
        match subject {
            "integer" => Some(Type::Integer(low, high)),
            "integers" => Some(Type::Integers(low, high)),
            _ => None,
        }
    }

    /// `"a" or "b"`.
    fn choice(words: &str) -> Option<Type> {
        let quoted = |word: &str| Some(word.strip_prefix('"')?.strip_suffix('"')?.to_owned());
        words
            .split(" or ")
            .map(quoted)
            .collect::<Option<_>>()
            .map(Type::Choice)
    }

    /// What it is called, for people; code in backticks.
    pub fn subject(&self) -> String {
        let subject = match self {
            Type::Text => "a string",
            Type::Texts => "a list of strings",
            Type::Integer(low, high) => return format!("an integer from {low} to {high}"),
            Type::Integers(low, high) => {
                return format!("an integer from {low} to {high}, or a list of them");
            }
            Type::IntegersOr(low, high, word) => {
                return format!("an integer from {low} to {high}, a list of them, or `\"{word}\"`");
            }
            Type::Boolean => "`true` or `false`",
            Type::Duration => "a duration",
            Type::DurationByTrigger => "a duration, or a table of durations by trigger",
            Type::Path => "an absolute path",
            Type::Paths => "an absolute path, or a list of them",
            Type::Sockets => "the path of a unix socket or `host:port`, or a list of them",
            Type::Unit => "a unit",
            Type::Units => "a unit, or a list of them",
            Type::Signal => "a signal",
            Type::Rate => "a rate",
            Type::UnitList => "a list of units",
            Type::Url => "a URL",
            Type::Urls => "a URL, or a list of them",
            Type::Place => "an absolute path or a URL, or a list of URLs",
            Type::Name => "a name",
            Type::NameList => "a list of names of steps",
            Type::HostList => "a list of hosts",
            Type::Pointer => "a JSON pointer",
            Type::Method => "a method of HTTP",
            Type::TriggerList => "a list of triggers",
            Type::TextTable => "a table of strings",
            Type::Captures => "a table of captures",
            Type::Table => "a table",
            Type::Any => "any value",
            Type::Choice(words) => {
                let words: Vec<String> = words.iter().map(|it| format!("`\"{it}\"`")).collect();
                return words.join(" or ");
            }
            Type::Member { subject, names } => {
                return format!("a {subject}: `{}`", names.join("`, `"));
            }
        };
        subject.to_owned()
    }

    /// Its JSON Schema, without a description.
    pub fn schema(&self) -> Value {
        let text = |pattern: &str| json!({"type": "string", "pattern": pattern});
        let list = |items: Value| json!({"type": "array", "items": items});
        let some = |items: Value| json!({"type": "array", "items": items, "minItems": 1});
        // Each word of a schema is about values of one type, so that one that is wrong is told as what it is.
        let or_list = |one: Value| {
            let mut schema = one.clone();
            schema["type"] = json!([one["type"], "array"]);
            schema["items"] = one;
            schema["minItems"] = 1.into();
            schema
        };
        let integer =
            |low: &i64, high: &i64| json!({"type": "integer", "minimum": low, "maximum": high});
        let triggers = || Trigger::ALL.map(Trigger::as_str);
        match self {
            Type::Text => json!({"type": "string"}),
            Type::Texts => some(json!({"type": "string"})),
            Type::Integer(low, high) => integer(low, high),
            Type::Integers(low, high) => or_list(integer(low, high)),
            Type::IntegersOr(low, high, word) => {
                let mut schema = or_list(integer(low, high));
                schema["type"] = json!(["integer", "array", "string"]);
                schema["pattern"] = format!("^{word}$").into();
                schema
            }
            Type::Boolean => json!({"type": "boolean"}),
            Type::Duration => text(DURATION),
            Type::DurationByTrigger => {
                let names = std::iter::once("default").chain(triggers());
                let entries = names
                    .map(|name| (name.to_owned(), text(DURATION)))
                    .collect();
                json!({
                    "type": ["string", "object"],
                    "pattern": DURATION,
                    "properties": Value::Object(entries),
                    "additionalProperties": false,
                })
            }
            Type::Path => text(PATH),
            Type::Paths => or_list(text(PATH)),
            Type::Sockets => or_list(text(SOCKET)),
            Type::Unit => text(UNIT),
            Type::Units => or_list(text(UNITS)),
            Type::Signal => text(SIGNAL),
            Type::Rate => text(RATE),
            Type::UnitList => list(text(UNIT)),
            Type::Url => text(URL),
            Type::Urls => or_list(text(URL)),
            Type::Place => or_list(text(PLACE)),
            Type::Name => text(NAME),
            Type::NameList => list(json!({"type": "string"})),
            Type::HostList => list(text(HOST)),
            Type::Pointer => text(POINTER),
            Type::Method => text(METHOD),
            Type::TriggerList => some(json!({"enum": triggers()})),
            Type::TextTable => {
                json!({"type": "object", "additionalProperties": {"type": "string"}})
            }
            Type::Captures => json!({
                "type": "object",
                "minProperties": 1,
                "propertyNames": {"pattern": "^[A-Za-z0-9_-]+$"},
                "additionalProperties": {
                    "type": "object",
                    "properties": {"pointer": text(POINTER), "secret": {"type": "boolean"}},
                    "required": ["pointer"],
                    "additionalProperties": false,
                },
            }),
            Type::Table => json!({"type": "object"}),
            Type::Any => json!({"type": ["string", "number", "boolean", "array", "object"]}),
            Type::Choice(words) => json!({"enum": words}),
            Type::Member { names, .. } => json!({"enum": names}),
        }
    }

    /// A value of it, in TOML.
    pub fn good(&self) -> String {
        let good = match self {
            Type::Text | Type::Name => "\"a1\"",
            Type::Texts | Type::NameList => "[\"a1\"]",
            Type::Integer(_, high) => return high.to_string(),
            Type::Integers(low, _) | Type::IntegersOr(low, ..) => return low.to_string(),
            Type::Boolean => "true",
            Type::Duration => "\"10s\"",
            Type::DurationByTrigger => "{ default = \"1m 30s\", stop = \"30m\" }",
            Type::Path | Type::Paths | Type::Place | Type::Sockets => "\"/srv\"",
            Type::Unit | Type::Units => "\"app.service\"",
            Type::Signal => "\"SIGQUIT\"",
            Type::Rate => "\"20M\"",
            Type::UnitList => "[\"app@1.service\", \"a-b.mount\"]",
            Type::Url | Type::Urls => "\"http://127.0.0.1:1\"",
            Type::HostList => "[\".example\", \"10.0.0.1\", \"::1\"]",
            Type::Pointer => "\"/a\"",
            Type::Method => "\"POST\"",
            Type::TriggerList => "[\"stop\", \"soft-reboot\"]",
            Type::TextTable => "{ A-b = \"c\" }",
            Type::Captures => "{ a-1 = { pointer = \"/a\", secret = true } }",
            Type::Table => "{}",
            Type::Any => "{ a = [1, 2.5, \"b\", true] }",
            Type::Choice(words) => return format!("\"{}\"", words[0]),
            Type::Member { names, .. } => return format!("\"{}\"", names[0]),
        };
        good.to_owned()
    }

    /// A list of values, in TOML, where one of them may stand in its place.
    pub fn list(&self) -> Option<String> {
        Some(match self {
            Type::Integers(low, high) => format!("[{low}, {high}]"),
            Type::IntegersOr(_, _, word) => format!("{word:?}"),
            Type::Paths => "[\"/srv\", \"/mnt\"]".to_owned(),
            Type::Sockets => "[\"/run/a.sock\", \"lb-1:9999\", \"[::1]:1\"]".to_owned(),
            Type::Units => "[\"app@*.service\", \"a-b.mount\"]".to_owned(),
            Type::Urls | Type::Place => {
                "[\"https://a.example/b\", \"http://[::1]:1\", \"unix:///run/a.sock\"]".to_owned()
            }
            _ => return None,
        })
    }

    /// Values of other types, and others that are none of it, in TOML.
    pub fn bad(&self) -> Vec<String> {
        let bad: &[&str] = match self {
            Type::Text | Type::Member { .. } => &["7"],
            Type::Choice(_) => &["7", "\"neither\""],
            Type::Name => &["7", "\"a b\"", "\"\""],
            Type::Texts => &["\"a\"", "[]", "[7]"],
            Type::Boolean => &["\"true\"", "1"],
            Type::Duration | Type::DurationByTrigger => {
                &["7", "\"7\"", "\"soon\"", "\"-5s\"", "[]"]
            }
            Type::Path => &["7", "\"srv\""],
            Type::Sockets => &["7", "\"srv\"", "[\"lb-1:\"]", "[]"],
            Type::Paths => &["7", "\"srv\"", "[\"srv\"]", "[]"],
            Type::Unit => &["7", "\"app\"", "\"a b.service\""],
            Type::Units => &["7", "\"app\"", "[\"app\"]", "[]"],
            Type::Signal => &["7", "\"QUIT\"", "\"SIGquit\""],
            Type::Rate => &["7", "\"fast\"", "\"20m\"", "\"-1M\""],
            Type::UnitList => &["\"app.service\"", "[\"app\"]", "[7]"],
            Type::Url => &["7", "\"example.com\"", "\"ftp://a\""],
            Type::Urls => &["7", "\"example.com\"", "[\"ftp://a\"]", "[]"],
            Type::Place => &["7", "\"srv\"", "[\"ftp://a\"]", "[]"],
            Type::NameList => &["\"a\"", "[7]"],
            Type::HostList => &["\"a\"", "[7]", "[\"http://a\"]", "[\"..a\"]", "[\"\"]"],
            Type::Pointer => &["7", "\"a\""],
            Type::Method => &["7", "\"get\""],
            Type::TriggerList => &["\"stop\"", "[]", "[\"restart\"]"],
            Type::TextTable => &["\"a\"", "[]", "{ a = 1 }"],
            Type::Captures => &[
                "\"a\"",
                "{}",
                "{ a = 1 }",
                "{ a = {} }",
                "{ a = { pointer = \"a\" } }",
                "{ \"a b\" = { pointer = \"/a\" } }",
                "{ a = { pointer = \"/a\", no-such-key = 1 } }",
            ],
            Type::Table => &["\"a\"", "[]", "{ no-such-key = 1 }"],
            Type::Any => &["1979-05-27"],
            Type::Integer(low, high) => {
                let range = [low - 1, high + 1].map(|it| it.to_string());
                return ["\"1\"".to_owned(), "1.5".to_owned()]
                    .into_iter()
                    .chain(range)
                    .collect();
            }
            Type::Integers(low, high) | Type::IntegersOr(low, high, _) => {
                let range = [low - 1, high + 1].map(|it| format!("[{it}]"));
                return ["\"1\"".to_owned(), "[]".to_owned()]
                    .into_iter()
                    .chain(range)
                    .collect();
            }
        };
        bad.iter().map(|it| (*it).to_owned()).collect()
    }
}
