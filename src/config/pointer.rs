//! Values in JSON files, by JSON pointer.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::value::RawValue;

use crate::sys::files;

/// The string, number or boolean at a JSON pointer (RFC 6901) in a file, with numbers as written: 1.50 stays 1.50, and
/// no digit of a long number is lost.
///
/// # Errors
/// If the file cannot be read or is not JSON, or there is no such value.
pub fn value_at(path: &Path, pointer: &str) -> Result<String, String> {
    let text = files::read(path).map_err(|error| error.to_string())?;
    // Some editors put a byte order mark in front.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let no_json = |error: serde_json::Error| {
        format!(
            "not valid JSON at line {}, column {}",
            error.line(),
            error.column()
        )
    };
    let mut value: &RawValue = serde_json::from_str(text).map_err(no_json)?;
    for token in pointer.split('/').skip(1) {
        let token = token.replace("~1", "/").replace("~0", "~");
        value = inside(value, &token).ok_or("there is no value at this pointer")?;
    }
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'"') => serde_json::from_str(text).map_err(no_json),
        Some(b'-' | b'0'..=b'9' | b't' | b'f') => Ok(text.to_owned()),
        _ => Err("the value there is not a string, a number or a boolean".to_owned()),
    }
}

/// The value in an object or array for one token of a JSON pointer (RFC 6901).
fn inside<'a>(value: &'a RawValue, token: &str) -> Option<&'a RawValue> {
    if value.get().starts_with('[') {
        let is_index = token == "0" || !token.starts_with(['0', '+']);
        let at = token.parse::<usize>().ok().filter(|_| is_index)?;
        let items: Vec<&RawValue> = serde_json::from_str(value.get()).ok()?;
        return items.get(at).copied();
    }
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(value.get()).ok()?;
    members.get(token).copied()
}
