//! TOML documents as values with line numbers.

use std::cell::RefCell;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::template::Template;

/// A value and the line it begins on, from 1.
#[derive(Clone, Debug)]
pub struct Spanned {
    pub line: usize,
    pub value: Value,
}

/// A TOML value, or a record's substitute for one.
#[derive(Clone, Debug)]
pub enum Value {
    /// A string.
    Text(String),
    /// An integer that fits 64 bits.
    Integer(i64),
    Float(f64),
    Boolean(bool),
    /// A date or time, which no key accepts.
    Datetime,
    /// An array.
    List(Vec<Spanned>),
    /// A table, in the order of the file.
    Table(Table),
    /// A string from a record, which is not parsed as a template.
    Kept(Arc<Template>),
    /// A string from a record of the first format.
    Old(String),
    /// A secret that is not in the record.
    Withheld,
}

impl Value {
    /// The type, for messages: "a string", "an integer".
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Text(_) | Value::Kept(_) | Value::Old(_) | Value::Withheld => "a string",
            Value::Integer(_) => "an integer",
            Value::Float(_) => "a float",
            Value::Boolean(_) => "a boolean",
            Value::Datetime => "a date or time",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }
}

/// The entries of a table, in the order of the file.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Key, line of the key, and value.
    pub entries: Vec<(String, usize, Spanned)>,
}

impl Table {
    /// The entry with this key.
    pub fn get(&self, key: &str) -> Option<&(String, usize, Spanned)> {
        self.entries.iter().find(|(name, _, _)| name == key)
    }
}

/// A syntax error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
    /// Whether more than the line may be missing from the table.
    pub is_structural: bool,
}

/// A parsed text.
#[derive(Clone, Debug, Default)]
pub struct Document {
    /// What could be parsed.
    pub table: Table,
    /// Its syntax errors: the first one of each line, up to one inside a list, since an unclosed list would consume the
    /// rest of the document.
    pub errors: Vec<SyntaxError>,
    /// Lines that are valid but probably not what is meant, with the reason.
    pub warnings: Vec<(usize, String)>,
}

/// Parses a document. CR LF becomes LF even in multi-line strings, as TOML allows: a script in one must not depend on
/// the editor's line ends.
pub fn parse(text: &str) -> Document {
    let text = &text.replace("\r\n", "\n");
    let lines = Lines::of(text);
    let (table, mut errors) = DeTable::parse_recoverable(text);
    errors.sort_by_key(|error| error.span().map_or(0, |span| span.start));
    if let Some(first) = errors.iter().position(|it| is_in_list(it.message())) {
        errors.truncate(first + 1);
    }
    let mut problems: Vec<SyntaxError> = errors
        .iter()
        .map(|error| {
            let span = error.span().unwrap_or_default();
            SyntaxError {
                line: lines.line(span.start),
                message: understandable(error.message(), text.get(span).unwrap_or_default()),
                is_structural: error.message() != DUPLICATE,
            }
        })
        .collect();
    let table = lines.table(table.into_inner(), &mut problems);
    problems.sort_by_key(|problem| problem.line);
    problems.dedup_by_key(|problem| problem.line);
    Document {
        table,
        errors: problems,
        warnings: lines.warnings.into_inner(),
    }
}

/// The first `\xHH` of a string's source. TOML 1.1 has this escape in double quotes, where it silently changes the name
/// of a systemd unit, whose own escapes look the same.
fn hexadecimal_escape(raw: &str) -> Option<&str> {
    if !raw.starts_with('"') {
        return None;
    }
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        if rest[at + 1..].starts_with('x') {
            return rest.get(at..at + 4);
        }
        rest = rest.get(at + 2..)?;
    }
    None
}

const DUPLICATE: &str = "duplicate key";

fn is_in_list(message: &str) -> bool {
    message.contains("array") && !message.contains("array table")
}

/// The parser's message for people who do not know the grammar. `at`: the text that it is about.
fn understandable(message: &str, at: &str) -> String {
    match message {
        DUPLICATE => format!("the key `{at}` is set twice"),
        _ if message.starts_with("string values must be quoted") && at.is_empty() => {
            "the value is missing".to_owned()
        }
        _ if message.starts_with("string values must be quoted") => {
            "a string must be in double quotes".to_owned()
        }
        _ if is_in_list(message) => {
            "a list is not closed: a `]` or a comma is missing here or above".to_owned()
        }
        "unclosed table, expected `]`" => "a `[` without its `]`".to_owned(),
        "unclosed array table, expected `]`" => "a `[[` without its `]]`".to_owned(),
        "invalid basic string, expected `\"`" | "invalid literal string, expected `'`" => {
            "a string is not closed on its line".to_owned()
        }
        "key with no value, expected `=`" => "a key without its `=`".to_owned(),
        message => message.to_owned(),
    }
}

struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
    warnings: RefCell<Vec<(usize, String)>>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        let ends = text
            .bytes()
            .enumerate()
            .filter(|(_, byte)| *byte == b'\n')
            .map(|(at, _)| at + 1);
        Lines {
            text,
            starts: std::iter::once(0).chain(ends).collect(),
            warnings: RefCell::default(),
        }
    }

    fn line(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset)
    }

    fn table(&self, table: DeTable<'_>, problems: &mut Vec<SyntaxError>) -> Table {
        let mut entries: Vec<_> = table
            .into_iter()
            .map(|(key, value)| {
                let (start, line) = (key.span().start, self.line(key.span().start));
                let spanned = Spanned {
                    line: self.line(value.span().start),
                    value: self.value(value, problems),
                };
                (start, (key.into_inner().into_owned(), line, spanned))
            })
            .collect();
        entries.sort_unstable_by_key(|(start, _)| *start);
        Table {
            entries: entries.into_iter().map(|(_, entry)| entry).collect(),
        }
    }

    fn value(&self, value: toml::Spanned<DeValue<'_>>, problems: &mut Vec<SyntaxError>) -> Value {
        let line = self.line(value.span().start);
        let raw = self.text.get(value.span()).unwrap_or_default();
        match value.into_inner() {
            DeValue::String(text) => {
                if let Some(escape) = hexadecimal_escape(raw) {
                    let message = format!(
                        "in double quotes `{escape}` is an escape for one character; where a backslash is meant, as \
                         in the name of a systemd unit, write the string in single quotes"
                    );
                    self.warnings.borrow_mut().push((line, message));
                }
                Value::Text(text.into_owned())
            }
            DeValue::Integer(number) => {
                match i64::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => Value::Integer(number),
                    Err(_) => {
                        problems.push(SyntaxError {
                            line,
                            // Not repeated: it may be a password without its quotes.
                            message: "this integer does not fit 64 bits".to_owned(),
                            is_structural: false,
                        });
                        Value::Integer(0)
                    }
                }
            }
            DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(boolean) => Value::Boolean(boolean),
            DeValue::Datetime(_) => Value::Datetime,
            DeValue::Array(items) => Value::List(
                items
                    .into_iter()
                    .map(|item| Spanned {
                        line: self.line(item.span().start),
                        value: self.value(item, problems),
                    })
                    .collect(),
            ),
            DeValue::Table(table) => Value::Table(self.table(table, problems)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_know_their_line_and_every_syntax_error_is_told() {
        let Document { table, errors, .. } = parse("a = 1\n\nb = { c = [\n true ] }\n");
        assert!(errors.is_empty());
        let Some((
            _,
            line,
            Spanned {
                value: Value::Table(inner),
                ..
            },
        )) = table.get("b")
        else {
            panic!("{table:?}")
        };
        assert_eq!(*line, 3);
        let Some((
            _,
            _,
            Spanned {
                value: Value::List(items),
                ..
            },
        )) = inner.get("c")
        else {
            panic!("{inner:?}")
        };
        assert_eq!(items[0].line, 4);

        let Document { errors, .. } = parse("a = \nb = 1\nc = [1\nd = 99999999999999999999\n");
        assert!(errors.len() >= 2, "{errors:?}");
        assert_eq!(errors[0].line, 1);
    }

    #[test]
    fn escapes_that_look_like_those_of_unit_names_are_found() {
        let escape = hexadecimal_escape;
        assert_eq!(escape(r#""machine-qemu\x2d1.scope""#), Some(r"\x2d"));
        assert_eq!(escape(r#""\\x2d""#), None);
        assert_eq!(escape(r#""a\tb\n""#), None);
        assert_eq!(escape(r"'machine-qemu\x2d1.scope'"), None);
        let warnings = parse("a = 1\nb = [\n  \"x\\x2dy\" ]\n").warnings;
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert_eq!(warnings[0].0, 3);
    }

    #[test]
    fn a_multi_line_string_has_the_same_lines_whatever_the_editor() {
        let document = parse("a = \"\"\"#!/bin/sh\r\ntrue\r\n\"\"\"\r\nb = 1\r\n");
        assert!(document.errors.is_empty(), "{document:?}");
        let (_, _, a) = document.table.get("a").expect("there");
        assert!(matches!(&a.value, Value::Text(text) if text == "#!/bin/sh\ntrue\n"));
        let (_, line, _) = document.table.get("b").expect("there");
        assert_eq!(*line, 4);
    }
}
