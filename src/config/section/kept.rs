//! Keys that were written down by a run, read again as a table of the configuration is.

use std::path::Path;

use serde_json::Value as Json;

use super::reading::Reading;
use super::table::Section;
use crate::config::document::{Located, Table, Value};

/// Reads `what`, an object whose strings are as [`super::Field::keep`] returns them, with `read`.
///
/// # Errors
/// What is wrong with it, in one sentence: something else has written it.
pub fn read_kept<T>(
    what: &Json,
    read: impl FnOnce(&Section<'_>) -> Option<T>,
) -> Result<T, String> {
    let Value::Table(table) = value(what).ok_or("what the record keeps is no table")? else {
        return Err("what the record keeps is no table".to_owned());
    };
    let reading = Reading::new(Path::new("record"), None, None);
    let read = read(&Section::new(&reading, &table, 0));
    let (problems, _) = reading.finish();
    match read {
        Some(read) if problems.is_empty() => Ok(read),
        _ => {
            let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
            Err(problems.join("; "))
        }
    }
}

fn value(json: &Json) -> Option<Value> {
    let located = |json: &Json| value(json).map(|value| Located { line: 0, value });
    Some(match json {
        Json::String(text) => Value::Text(text.clone()),
        Json::Bool(boolean) => Value::Boolean(*boolean),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => Value::Integer(integer),
            None => Value::Float(number.as_f64()?),
        },
        Json::Array(items) => Value::List(items.iter().map(located).collect::<Option<_>>()?),
        Json::Object(members) => {
            let entry = |(name, json): (&String, &Json)| Some((name.clone(), 0, located(json)?));
            let entries = members.iter().map(entry).collect::<Option<_>>()?;
            Value::Table(Table { entries })
        }
        Json::Null => return None,
    })
}
