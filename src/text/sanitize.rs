//! Sanitizes text for terminals, and fits it into columns.

use std::borrow::Cow;
use std::fmt::Write as _;

/// `text` on one line and without terminal control: white space becomes a space; other control characters, and those
/// that change the text direction, are escaped (`\x1b`).
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '\t' | '\n' => plain.push(' '),
            it if !is_obeyed(it) => plain.push(it),
            it if it.is_ascii() || it.is_control() => {
                // Writing to a string cannot fail.
                let _ = write!(plain, "\\x{:02x}", u32::from(it));
            }
            it => plain.extend(it.escape_unicode()),
        }
    }
    Cow::Owned(plain)
}

fn is_obeyed(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// How many columns of a terminal `text` takes.
pub fn columns(text: &str) -> usize {
    text.chars().map(width).sum()
}

/// `text` in at most `limit` columns, with `dots` (`…` or `...`) at its end if something is missing.
pub fn fit<'a>(text: &'a str, limit: usize, dots: &str) -> Cow<'a, str> {
    if columns(text) <= limit {
        return Cow::Borrowed(text);
    }
    let dots = if columns(dots) < limit { dots } else { "" };
    let room = limit - columns(dots);
    let mut used = 0;
    let kept: String = text
        .chars()
        .take_while(|character| {
            used += width(*character);
            used <= room
        })
        .collect();
    Cow::Owned(kept + dots)
}

/// The spaces that pad `text` to `limit` columns.
pub fn padding(text: &str, limit: usize) -> String {
    " ".repeat(limit.saturating_sub(columns(text)))
}

// Not Unicode's whole table, but what a host name or a program's message may hold: the crate `unicode-width` adds 12 kB to
// the binary, and a line that is a column off costs less.
fn width(character: char) -> usize {
    match u32::from(character) {
        0x300..=0x36f | 0x200b..=0x200d | 0x20d0..=0x20ff | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_spelt_out() {
        assert_eq!(plain("all is well – ü"), "all is well – ü");
        assert_eq!(
            plain("\x1b]0;title\x07 a\tb\nc\r\u{9b}31m"),
            "\\x1b]0;title\\x07 a b c\\x0d\\x9b31m"
        );
        assert_eq!(plain("a\u{202e}b"), "a\\u{202e}b");
    }

    #[test]
    fn text_is_cut_by_columns() {
        assert_eq!(fit("leave-registry", 14, "…"), "leave-registry");
        assert_eq!(fit("leave-registry", 8, "…"), "leave-r…");
        assert_eq!(fit("leave-registry", 8, "..."), "leave...");
        assert_eq!(fit("leave", 2, "..."), "le");
        assert_eq!(fit("leave", 0, "…"), "");
        assert_eq!(columns("日本e\u{301}"), 5);
        assert_eq!(fit("日本語", 4, "…"), "日…");
        assert_eq!(padding("日本", 6), "  ");
    }
}
