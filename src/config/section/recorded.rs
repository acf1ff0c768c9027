//! Reads keys that a run has recorded, like a table of the configuration.

use std::path::Path;
use std::sync::Arc;

use super::findings::Reading;
use super::recorded_template::part;
use super::table::Section;
use crate::config::document::{Spanned, Table, Value};
use crate::config::template::{Part, Template};
use crate::model::intent::{Datum, Keys};

/// Reads `what`, whose values are from [`super::Field::keep`], with `read`. Text is never parsed as a template.
///
/// # Errors
/// One sentence, if it is malformed, or the undo needs something that is not in the record.
pub fn read_kept<T>(
    what: &Keys,
    read: impl FnOnce(&Section<'_>) -> Option<T>,
) -> Result<T, String> {
    let table = table(what).ok_or("what the record keeps is not a table of keys")?;
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

fn table(keys: &Keys) -> Option<Table> {
    let entry = |(name, it): (&String, &Datum)| Some((name.clone(), 0, spanned(it)?));
    let entries = keys.iter().map(entry).collect::<Option<_>>()?;
    Some(Table { entries })
}

fn spanned(datum: &Datum) -> Option<Spanned> {
    let value = match datum {
        Datum::Flag(flag) => Value::Boolean(*flag),
        Datum::Number(number) => match number.as_i64() {
            Some(integer) => Value::Integer(integer),
            None => Value::Float(number.as_f64()?),
        },
        Datum::Text(text) => Value::Kept(kept(vec![Part::Literal(text.clone())])),
        Datum::Reference(pieces) if pieces.is_empty() => Value::Withheld,
        Datum::Reference(pieces) => Value::Kept(kept(pieces.iter().map(part).collect())),
        Datum::List(items) => Value::List(items.iter().map(spanned).collect::<Option<_>>()?),
        Datum::Table(keys) => Value::Table(table(keys)?),
        Datum::Old(text) => Value::Old(text.clone()),
    };
    Some(Spanned { line: 0, value })
}

fn kept(parts: Vec<Part>) -> Arc<Template> {
    Arc::new(Template::of(parts))
}
