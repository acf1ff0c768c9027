//! A search for secrets in whatever a process wrote, in every spelling that somebody may have given them.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

/// A part of a secret this long is as bad as the whole.
const PART: usize = 9;

/// Percent-encoded, all but letters and digits, in digits of either case.
pub fn percent(text: &str, upper: bool) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else if upper {
            write!(encoded, "%{byte:02X}").expect("a string");
        } else {
            write!(encoded, "%{byte:02x}").expect("a string");
        }
    }
    encoded
}

/// As Python writes it in JSON: nothing but ASCII.
pub fn json_ascii(text: &str) -> String {
    let mut escaped = String::new();
    for character in json(text).chars() {
        if character.is_ascii() {
            escaped.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(escaped, "\\u{unit:04x}").expect("a string");
            }
        }
    }
    escaped
}

pub fn json(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// The characters that `text` alone decides, wherever it stands in what is encoded.
fn base64(alphabet: &impl Engine, before: usize, text: &str) -> String {
    let bytes = [vec![b'u'; before], text.as_bytes().to_vec()].concat();
    let encoded = alphabet.encode(&bytes);
    encoded[(before * 8).div_ceil(6)..bytes.len() * 8 / 6].to_owned()
}

/// What must not be found of a secret.
fn spellings(secret: &str) -> Vec<String> {
    let mut all = Vec::new();
    for line in secret.lines() {
        let characters: Vec<char> = line.chars().collect();
        all.extend(characters.windows(PART).map(|part| part.iter().collect()));
        all.extend([
            percent(line, true),
            percent(line, false),
            json(line),
            json_ascii(line),
        ]);
        all.push(line.to_owned());
        for before in 0..3 {
            all.push(base64(&STANDARD, before, line));
            all.push(base64(&URL_SAFE, before, line));
        }
    }
    all
}

/// The spellings of these secrets in a text.
pub fn found(secrets: &[&str], text: &[u8]) -> Vec<String> {
    // A journal entry may hold anything; what is no text holds no secret.
    let text = String::from_utf8_lossy(text);
    let mut found: Vec<String> = secrets.iter().flat_map(|it| spellings(it)).collect();
    found.retain(|spelling| text.contains(spelling.as_str()));
    found
}
