//! TOML documents as values that know their line.

use toml::de::{DeTable, DeValue};

/// A value and the line it begins on, from 1.
#[derive(Clone, Debug)]
pub struct Located {
    /// The line.
    pub line: usize,
    /// The value.
    pub value: Value,
}

/// A TOML value.
#[derive(Clone, Debug)]
pub enum Value {
    /// A string.
    Text(String),
    /// An integer that fits 64 bits.
    Integer(i64),
    /// A float.
    Float(f64),
    /// A boolean.
    Boolean(bool),
    /// A date or time, which no key takes.
    Datetime,
    /// An array.
    List(Vec<Located>),
    /// A table, in the order of the file.
    Table(Table),
}

impl Value {
    /// The type, for messages: "a string", "an integer".
    pub fn noun(&self) -> &'static str {
        match self {
            Value::Text(_) => "a string",
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
    pub entries: Vec<(String, usize, Located)>,
}

impl Table {
    /// The entry with this key.
    pub fn get(&self, key: &str) -> Option<&(String, usize, Located)> {
        self.entries.iter().find(|(name, _, _)| name == key)
    }
}

/// A syntax error: line and message.
pub type SyntaxError = (usize, String);

/// Parses a document, and returns what could be understood of it beside every syntax error.
pub fn parse(text: &str) -> (Table, Vec<SyntaxError>) {
    let lines = Lines::of(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut problems: Vec<SyntaxError> = errors
        .iter()
        .map(|error| {
            (
                error.span().map_or(1, |span| lines.line(span.start)),
                error.message().to_owned(),
            )
        })
        .collect();
    let table = lines.table(table.into_inner(), &mut problems);
    problems.sort();
    (table, problems)
}

struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    fn of(text: &str) -> Self {
        let ends = text
            .bytes()
            .enumerate()
            .filter(|(_, byte)| *byte == b'\n')
            .map(|(at, _)| at + 1);
        Lines {
            starts: std::iter::once(0).chain(ends).collect(),
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
                let located = Located {
                    line: self.line(value.span().start),
                    value: self.value(value, problems),
                };
                (start, (key.into_inner().into_owned(), line, located))
            })
            .collect();
        entries.sort_by_key(|(start, _)| *start);
        Table {
            entries: entries.into_iter().map(|(_, entry)| entry).collect(),
        }
    }

    fn value(&self, value: toml::Spanned<DeValue<'_>>, problems: &mut Vec<SyntaxError>) -> Value {
        let line = self.line(value.span().start);
        match value.into_inner() {
            DeValue::String(text) => Value::Text(text.into_owned()),
            DeValue::Integer(number) => {
                match i64::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => Value::Integer(number),
                    Err(_) => {
                        // Not repeated: it may be a password without its quotes.
                        problems.push((line, "this integer does not fit 64 bits".to_owned()));
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
                    .map(|item| Located {
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
        let (table, problems) = parse("a = 1\n\nb = { c = [\n true ] }\n");
        assert!(problems.is_empty());
        let Some((
            _,
            line,
            Located {
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
            Located {
                value: Value::List(items),
                ..
            },
        )) = inner.get("c")
        else {
            panic!("{inner:?}")
        };
        assert_eq!(items[0].line, 4);

        let (_, problems) = parse("a = \nb = 1\nc = [1\nd = 99999999999999999999\n");
        assert!(problems.len() >= 2, "{problems:?}");
        assert_eq!(problems[0].0, 1);
    }
}
