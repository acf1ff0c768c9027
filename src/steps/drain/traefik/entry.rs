//! A server entry of a service, its place in the file, and what the parsers of both formats share.

use std::ops::Range;

/// The path of keys to the servers of an HTTP service; `None` stands for the name of the service.
const PLACE: [Option<&str>; 5] = [
    Some("http"),
    Some("services"),
    None,
    Some("loadBalancer"),
    Some("servers"),
];

/// A server of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) service: String,
    pub(super) url: String,
    /// Its lines, from 0.
    pub(super) lines: Range<usize>,
}

/// Whether a path of keys is that of servers, or of a table that contains them.
pub(super) fn leads_there<T: AsRef<str>>(names: &[T]) -> bool {
    let is_same = |(name, place): (&T, &Option<&str>)| place.is_none_or(|it| it == name.as_ref());
    names.len() <= PLACE.len() && names.iter().zip(&PLACE).all(is_same)
}

/// The name of the service, if a path of keys is that of its servers.
pub(super) fn service<T: AsRef<str>>(names: &[T]) -> Option<String> {
    (names.len() == PLACE.len() && leads_there(names)).then(|| names[2].as_ref().to_owned())
}

/// An error message for a line, which is counted from 0.
pub(super) fn at_line(line: usize, cause: impl AsRef<str>) -> String {
    format!("line {}: {}", line + 1, cause.as_ref())
}

/// An error message for syntax that is not supported.
pub(super) fn unsupported(what: &str) -> String {
    format!("`{what}` is not supported")
}

/// Splits a value that begins with a quoted string into the string and the rest. `None` if the quote is not closed or the
/// string contains an escape.
pub(super) fn unquoted(value: &str) -> Option<(&str, &str)> {
    let quote = value.chars().next().filter(|it| "\"'".contains(*it))?;
    let (text, rest) = value[1..].split_once(quote)?;
    let is_escaped = quote == '"' && text.contains('\\') || rest.starts_with(quote);
    (!is_escaped).then_some((text, rest))
}

/// The number of brackets that a line opens and does not close, outside of quotes.
pub(super) fn depth(line: &str) -> i64 {
    let (mut depth, mut quote) = (0, None);
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match quote {
            Some('"') if letter == '\\' => drop(letters.next()),
            Some(open) if letter == open => quote = None,
            Some(_) => {}
            None => match letter {
                '"' | '\'' => quote = Some(letter),
                '#' => break,
                '[' | '{' => depth += 1,
                ']' | '}' => depth -= 1,
                _ => {}
            },
        }
    }
    depth
}
