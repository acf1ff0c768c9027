//! The form of the ids that peers give: what has another one is not sent back, kept, or put into a path.

/// A UUID, as nodes of Nomad and sessions of Consul have it.
///
/// # Errors
/// When it is none.
pub fn uuid(text: &str) -> Result<String, String> {
    let is_hyphen = |at: usize| matches!(at, 8 | 13 | 18 | 23);
    let is_good = |(at, byte): (usize, u8)| match is_hyphen(at) {
        true => byte == b'-',
        false => byte.is_ascii_hexdigit(),
    };
    match text.len() == 36 && text.bytes().enumerate().all(is_good) {
        true => Ok(text.to_owned()),
        false => Err("this is no UUID".to_owned()),
    }
}

/// An id of letters, digits, hyphens and underscores, as nodes of Elasticsearch have it.
///
/// # Errors
/// When it is none.
pub fn word(text: &str) -> Result<String, String> {
    let is_good = |it: u8| it.is_ascii_alphanumeric() || it == b'-' || it == b'_';
    match (1..=64).contains(&text.len()) && text.bytes().all(is_good) {
        true => Ok(text.to_owned()),
        false => Err("this is no id of letters, digits, hyphens and underscores".to_owned()),
    }
}

/// What fills a part of a path: servers take `.` and `..` for steps in it, and percent-encoding does not change that.
///
/// # Errors
/// When it is one of them.
pub fn no_step(text: &str) -> Result<(), String> {
    match text {
        "." | ".." => Err(format!("`{text}` would lead to another path of the server")),
        _ => Ok(()),
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
        assert!(no_step("..a").is_ok() && no_step(".").is_err() && no_step("..").is_err());
        assert!(word("W3xT-0_Qa").is_ok());
        for text in [
            "",
            "a/b",
            "../x",
            "a?b",
            "${file:/etc/shadow}",
            &"a".repeat(65),
        ] {
            assert!(word(text).is_err(), "{text}");
        }
    }
}
