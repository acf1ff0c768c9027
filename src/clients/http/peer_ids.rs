//! Validates IDs from peers and the configuration before they are put into a path or a record.

use crate::config::section::non_empty;

/// A UUID, such as a Nomad node's or a Consul session's ID.
pub fn uuid(text: &str) -> Result<String, String> {
    let is_hyphen = |at: usize| matches!(at, 8 | 13 | 18 | 23);
    let is_good = |(at, byte): (usize, u8)| match is_hyphen(at) {
        true => byte == b'-',
        false => byte.is_ascii_hexdigit(),
    };
    match text.len() == 36 && text.bytes().enumerate().all(is_good) {
        true => Ok(text.to_owned()),
        false => Err("this is not a UUID".to_owned()),
    }
}

/// An id of letters, digits, hyphens and underscores, such as an Elasticsearch node's.
pub fn node_id(text: &str) -> Result<String, String> {
    let is_good = |it: u8| it.is_ascii_alphanumeric() || it == b'-' || it == b'_';
    match (1..=64).contains(&text.len()) && text.bytes().all(is_good) {
        true => Ok(text.to_owned()),
        false => Err("this is not an ID of letters, digits, hyphens and underscores".to_owned()),
    }
}

/// One segment of a path. Servers resolve `.` and `..`, percent-encoded too.
pub fn segment(text: &str) -> Result<String, String> {
    match text {
        "." | ".." => Err(format!("`{text}` would lead to another path of the server")),
        _ => non_empty(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_safe_in_a_path_is_told_from_what_is_not() {
        assert!(uuid("b3cd18dd-9c7d-715b-fcea-94ce880b0eac").is_ok());
        for text in [
            "",
            "b3cd18dd-9c7d-715b-fcea-94ce880b0ea/",
            "b3cd18dd09c7d0715b0fcea094ce880b0eac",
            "${file:/etc/shadow}",
            "------------------------------------",
        ] {
            assert!(uuid(text).is_err(), "{text}");
        }
        assert!(segment("..a").is_ok());
        for text in ["", ".", ".."] {
            assert!(segment(text).is_err(), "{text:?}");
        }
        assert!(node_id("W3xT-0_Qa").is_ok());
        for text in [
            "",
            "a/b",
            "../x",
            "a?b",
            "${file:/etc/shadow}",
            &"a".repeat(65),
        ] {
            assert!(node_id(text).is_err(), "{text}");
        }
    }
}
