//! The registry of secrets, and the function that masks them.
//!
//! Every credential and every value of a secret key is registered here; all text that leaves the process (events, log
//! lines) goes through [`mask`]. The registry is global because the `log` facade is.

mod spelling;

use std::borrow::Cow;
use std::sync::RwLock;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use spelling::{hexadecimal, html, json, percent, percent_twice, plain, shell};

/// Replaces a secret in a text.
pub const MASK: &str = "********";

static HIDDEN: RwLock<Hidden> = RwLock::new(Hidden::new());

/// The fewest base64 characters that count as part of a secret: fewer occur by chance.
const TELLING: usize = 6;

/// The widths at which base64(1) and PEM break lines.
const WRAPS: [usize; 2] = [76, 64];

/// What is hidden.
struct Hidden {
    texts: Vec<String>,
    /// The bytes with which a spelling of one of them can begin.
    begins: [bool; 256],
}

impl Hidden {
    const fn new() -> Hidden {
        Hidden {
            texts: Vec::new(),
            begins: [false; 256],
        }
    }

    fn add(&mut self, text: &str) {
        let Some(first) = text.bytes().next() else {
            return;
        };
        if self.texts.iter().any(|known| known == text) {
            return;
        }
        for byte in [first, b'%', b'\\', b'&'] {
            self.begins[usize::from(byte)] = true;
        }
        self.texts.push(text.to_owned());
    }

    /// The end of the longest spelling of a secret that begins at `at`.
    fn end(&self, text: &[u8], at: usize) -> Option<usize> {
        if !self.begins[usize::from(text[at])] {
            return None;
        }
        let rest = &text[at..];
        let may_begin = |secret: &&String| {
            matches!(text[at], b'%' | b'\\' | b'&') || secret.as_bytes().first() == Some(&text[at])
        };
        let spelled = |secret: &String| {
            [
                plain(rest, secret),
                percent(rest, secret),
                json(rest, secret),
                percent_twice(rest, secret),
                html(rest, secret),
                shell(rest, secret),
            ]
            .into_iter()
            .flatten()
            .max()
        };
        let spellings = self.texts.iter().filter(may_begin).filter_map(spelled);
        Some(at + spellings.max()?)
    }
}

/// Masks `secret` from now on, in every spelling in which a peer or a child may repeat it: literally, line by line,
/// escaped as JSON, HTML or XML, quoted for a shell, percent-encoded once and twice, decoded as a form is, in
/// hexadecimal, and in both alphabets of base64, even in the middle of something longer.
pub fn hide(secret: &str) {
    let mut hidden = HIDDEN
        .write()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let whole = secret.trim();
    let lines = whole
        .lines()
        .map(str::trim)
        .filter(|line| line.len() > 3 || *line == whole);
    for text in std::iter::once(whole).chain(lines) {
        hidden.add(text);
        for decoded in form_decoded(text) {
            hidden.add(&decoded);
        }
        if text.len() >= TELLING {
            let digits: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
            hidden.add(&digits.to_ascii_uppercase());
            hidden.add(&digits);
        }
        for alphabet in [STANDARD, URL_SAFE] {
            hidden.add(alphabet.encode(text).trim_end_matches('='));
            for before in 0..3 {
                let within = encoded_within(&alphabet, before, text);
                let pieces = WRAPS.into_iter().filter(|_| before == 0).flat_map(|wrap| {
                    let starts = (0..within.len()).step_by(wrap);
                    starts.map(move |at| (at, at + wrap))
                });
                let pieces = pieces.filter_map(|(from, to)| within.get(from..to.min(within.len())));
                std::iter::once(within.as_str())
                    .chain(pieces)
                    .filter(|piece| piece.len() >= TELLING)
                    .for_each(|piece| hidden.add(piece));
            }
        }
    }
}

/// What a server decodes from `text` as a form's value: a plus becomes a space, and percent-encoding is decoded. Spaces
/// alone are not a secret, and occur in every text.
fn form_decoded(text: &str) -> impl Iterator<Item = String> {
    let blanks = text.contains('+').then(|| text.replace('+', " "));
    let decoded = blanks.as_deref().or(Some(text)).and_then(unescaped);
    [blanks, decoded]
        .into_iter()
        .flatten()
        .filter(|it| !it.trim().is_empty())
}

/// `text` with every `%XX` in it decoded; `None` if there is none, or the result is not UTF-8.
fn unescaped(text: &str) -> Option<String> {
    let (bytes, mut decoded, mut at) = (text.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        let escape = (bytes[at] == b'%').then(|| bytes.get(at + 1..at + 3).and_then(hexadecimal));
        let (byte, length) = match escape.flatten().and_then(|it| u8::try_from(it).ok()) {
            Some(byte) => (byte, 3),
            None => (bytes[at], 1),
        };
        decoded.push(byte);
        at += length;
    }
    (decoded.len() < bytes.len())
        .then(|| String::from_utf8(decoded).ok())
        .flatten()
}

/// The base64 characters that `text` alone determines if `before` bytes precede it, whatever follows.
fn encoded_within(alphabet: &impl Engine, before: usize, text: &str) -> String {
    let bytes = [vec![0; before], text.as_bytes().to_vec()].concat();
    let (from, to) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
    alphabet
        .encode(bytes)
        .get(from..to)
        .unwrap_or_default()
        .to_owned()
}

/// `text` with every hidden value replaced by [`MASK`].
pub fn mask(text: &str) -> Cow<'_, str> {
    let hidden = HIDDEN
        .read()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let bytes = text.as_bytes();
    let (mut masked, mut copied) = (String::new(), 0);
    // The end of overlapping spellings, which are masked as one.
    let mut until: Option<usize> = None;
    for at in 0..bytes.len() {
        if until.is_some_and(|end| end <= at) {
            copied = until.take().unwrap_or(at);
        }
        if let Some(end) = hidden.end(bytes, at) {
            if until.is_none() {
                masked.push_str(&text[copied..at]);
                masked.push_str(MASK);
            }
            until = until.max(Some(end));
        }
    }
    copied = until.unwrap_or(copied);
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    masked.push_str(&text[copied..]);
    Cow::Owned(masked)
}

/// The length in bytes of the longest spelling: to cut a text, keep this much more, mask, then cut.
pub fn longest() -> usize {
    let hidden = HIDDEN
        .read()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let longest = hidden.texts.iter().map(String::len).max();
    // As `\u001b` or `&quot;` spells one byte.
    longest.map_or(0, |length| 6 * length)
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
    fn spellings_of_other_encoders_are_masked() {
        hide("pä/s% \u{1f511}\\\\<k>");
        for text in [
            "pä/s% \u{1f511}\\\\<k>",
            "p%c3%a4/s%25+%F0%9F%94%91%5c%5C%3Ck%3e",
            r"p\u00e4\/s% \ud83d\uDD11\\\\\u003ck\u003E",
        ] {
            assert_eq!(mask(&format!("a {text} b")), "a ******** b", "{text}");
        }
    }

    #[test]
    fn what_templates_shells_and_dumps_make_of_a_secret_is_masked() {
        hide("it's <a> & \"b\" 100%");
        for text in [
            "it&#39;s &lt;a&gt; &amp; &quot;b&quot; 100%",
            "it&apos;s &#60;a&#x3E; &#x26; &#34;b&#X22; 100&#37;",
            r#"'it'\''s <a> & "b" 100%'"#,
            r#"'it'"'"'s <a> & "b" 100%'"#,
            r#"it\'s\ \<a\>\ \&\ \"b\"\ 100%"#,
            "it%2527s%2520%253Ca%253e%2520%2526%2520%2522b%2522%2520100%2525",
            "69742773203c613e2026202262222031303025",
            "69742773203C613E2026202262222031303025",
        ] {
            let masked = mask(text).replace(MASK, "");
            assert!(masked.len() <= 2, "{text}: {masked}");
        }
    }

    #[test]
    fn what_a_server_decodes_as_a_form_is_masked() {
        hide("form+s3cret/with+plus=");
        for text in [
            "form+s3cret/with+plus=",
            "form s3cret/with plus=",
            "form%20s3cret%2Fwith%20plus%3D",
            r"form s3cret\/with plus\u003d",
        ] {
            assert_eq!(mask(&format!("a {text} b")), "a ******** b", "{text}");
        }
        hide("form%2Bs3cret%zz+x");
        for text in [
            "form%2Bs3cret%zz+x",
            "form%2Bs3cret%zz x",
            "form+s3cret%zz x",
        ] {
            assert_eq!(mask(&format!("a {text} b")), "a ******** b", "{text}");
        }
        hide("++");
        assert_eq!(mask("two  blanks, one"), "two  blanks, one");
    }

    #[test]
    fn base64_is_masked_in_the_middle_of_something_longer_and_across_lines() {
        let secret = "aligned-s3cret-of-30-characters";
        hide(secret);
        for before in ["", "u", "u:", "uu:"] {
            for after in ["", "x", "xy", "\n"] {
                let encoded = STANDARD.encode(format!("{before}{secret}{after}"));
                let shown = mask(&encoded).replace(MASK, "");
                assert!(shown.len() < 12, "{before:?} {after:?}: {shown}");
            }
        }
        let long = "0123456789abcdefghijklmnopqrstuvwxyz".repeat(5);
        hide(&long);
        let encoded = STANDARD.encode(&long);
        for line in encoded.as_bytes().chunks(76) {
            let line = String::from_utf8_lossy(line);
            assert!(mask(&line).starts_with(MASK), "{line}");
        }
    }

    #[test]
    fn secrets_that_overlap_are_hidden_whole() {
        hide("overlap-one");
        hide("one-and-two");
        assert_eq!(mask("x overlap-one-and-two y"), "x ******** y");
        assert_eq!(mask("overlap-oneoverlap-one"), "****************");
    }

    #[test]
    fn a_secret_of_several_lines_is_masked_line_by_line() {
        hide("-----BEGIN-----\nQUJDREVG\n-----END-----\n");
        assert!(!mask("child says QUJDREVG").contains("QUJDREVG"));
    }
}
