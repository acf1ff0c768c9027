//! Values that must not be seen, and the one place that hides them.
//!
//! Every credential that is read and every value of a secret key is registered here; whatever leaves the process as
//! text (events, log lines) goes through [`mask`]. The registry is global because the `log` facade is.

use std::borrow::Cow;
use std::sync::RwLock;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

/// What stands in a text where a secret stood.
pub const MASK: &str = "********";

static HIDDEN: RwLock<Vec<String>> = RwLock::new(Vec::new());

/// Hides `secret` from now on, in the spellings in which a peer or a child may repeat it: as it is, line by line,
/// escaped as JSON, percent-encoded, and in both alphabets of base64.
pub fn hide(secret: &str) {
    let mut spellings: Vec<String> = Vec::new();
    let whole = secret.trim();
    let lines = whole
        .lines()
        .map(str::trim)
        .filter(|line| line.len() > 3 || *line == whole);
    for text in std::iter::once(whole).chain(lines) {
        let json = serde_json::Value::from(text).to_string();
        spellings.push(text.to_owned());
        spellings.push(json[1..json.len() - 1].to_owned());
        spellings.push(percent_encoded(text));
        for base64 in [STANDARD.encode(text), URL_SAFE.encode(text)] {
            spellings.push(base64.trim_end_matches('=').to_owned());
        }
    }
    let mut hidden = HIDDEN
        .write()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    for spelling in spellings {
        if !spelling.is_empty() && !hidden.contains(&spelling) {
            hidden.push(spelling);
        }
    }
    // The longest first: a secret that contains another one is hidden whole.
    hidden.sort_by_key(|spelling| std::cmp::Reverse(spelling.len()));
}

/// `text` with every hidden value replaced by [`MASK`].
pub fn mask(text: &str) -> Cow<'_, str> {
    let hidden = HIDDEN
        .read()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut masked = Cow::Borrowed(text);
    for secret in hidden.iter() {
        if masked.contains(secret.as_str()) {
            masked = Cow::Owned(masked.replace(secret.as_str(), MASK));
        }
    }
    masked
}

/// The length in bytes of the longest hidden spelling: who cuts text apart keeps this much more, masks, and then cuts.
pub fn longest() -> usize {
    HIDDEN
        .read()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
        .first()
        .map_or(0, String::len)
}

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_masked() {
        hide("hunter2 \"quoted\"/+\n");
        for text in [
            "a hunter2 \"quoted\"/+ b",
            r#"{"t":"hunter2 \"quoted\"/+"}"#,
            "q=hunter2%20%22quoted%22%2F%2B&x",
            &format!("Basic {}", STANDARD.encode("hunter2 \"quoted\"/+")),
        ] {
            let masked = mask(text);
            assert!(masked.contains(MASK), "{masked}");
            assert!(!masked.contains("hunter2"), "{masked}");
        }
        assert_eq!(mask("nothing here"), "nothing here");
    }

    #[test]
    fn a_secret_of_several_lines_is_masked_line_by_line() {
        hide("-----BEGIN-----\nQUJDREVG\n-----END-----\n");
        assert!(!mask("child says QUJDREVG").contains("QUJDREVG"));
    }
}
