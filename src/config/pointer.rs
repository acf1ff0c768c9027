//! Values in JSON, by JSON pointer.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::value::RawValue;

use crate::sys::files;

/// The string, number or boolean at a JSON pointer (RFC 6901) in a file, as [`value_in`] finds it.
///
/// # Errors
/// If the file cannot be read, and as [`value_in`].
pub fn value_at(path: &Path, pointer: &str) -> Result<String, String> {
    let text = files::read(path).map_err(|error| error.to_string())?;
    // Some editors put a byte order mark in front.
    value_in(text.strip_prefix('\u{feff}').unwrap_or(&text), pointer)
}

/// The string, number or boolean at a JSON pointer (RFC 6901) in a text, with numbers as written: 1.50 stays 1.50, and
/// no digit of a long number is lost.
///
/// # Errors
/// If the text is not JSON, or there is no such value. The sentence holds nothing of the text.
pub fn value_in(text: &str, pointer: &str) -> Result<String, String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_json_file_are_found_by_pointer() {
        let path = std::env::temp_dir().join(format!("farewell-facts-{}.json", std::process::id()));
        let text = "\u{feff}{\"v1\":{\"region\":\"\\u0065u\",\"zone\":3,\"list\":[true,-0.0e+1]},\"\":{\"a/b~\":1.50},\
                    \"id\": 12345678901234567890123 }";
        std::fs::write(&path, text).expect("written");
        let at = |pointer: &str| value_at(&path, pointer);
        assert_eq!(at("/v1/region").as_deref(), Ok("eu"));
        assert_eq!(at("/v1/zone").as_deref(), Ok("3"));
        assert_eq!(at("//a~1b~0").as_deref(), Ok("1.50"));
        assert_eq!(at("/id").as_deref(), Ok("12345678901234567890123"));
        assert_eq!(at("/v1/list/0").as_deref(), Ok("true"));
        assert_eq!(at("/v1/list/1").as_deref(), Ok("-0.0e+1"));
        for pointer in ["", "/v1/list", "/v2", "/v1/list/00", "/v1/list/2", "/id/0"] {
            assert!(at(pointer).is_err(), "{pointer}");
        }
        std::fs::remove_file(&path).expect("removed");
    }
}
