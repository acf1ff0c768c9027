//! Spellings of a secret: each function measures one at the beginning of a text.

/// The length of `secret` as it is, at the beginning of `text`.
pub(super) fn plain(text: &[u8], secret: &str) -> Option<usize> {
    text.starts_with(secret.as_bytes()).then_some(secret.len())
}

/// The same, percent-encoded, whichever bytes are encoded.
pub(super) fn percent(text: &[u8], secret: &str) -> Option<usize> {
    let mut length = 0;
    for byte in secret.bytes() {
        let rest = text.get(length..)?;
        length += match *rest.first()? {
            b'%' if hexadecimal(rest.get(1..3)?)? == u32::from(byte) => 3,
            b'%' => return None,
            b'+' if byte == b' ' => 1,
            found if found == byte => 1,
            _ => return None,
        };
    }
    Some(length)
}

/// The same, escaped as in a JSON string, whichever characters are escaped.
pub(super) fn json(text: &[u8], secret: &str) -> Option<usize> {
    const SHORT: [(char, u8); 8] = [
        ('"', b'"'),
        ('\\', b'\\'),
        ('/', b'/'),
        ('\n', b'n'),
        ('\r', b'r'),
        ('\t', b't'),
        ('\u{8}', b'b'),
        ('\u{c}', b'f'),
    ];
    let mut length = 0;
    for character in secret.chars() {
        let rest = text.get(length..)?;
        length += match (rest.first()?, rest.get(1)) {
            (b'\\', Some(b'u')) => {
                let mut units = [0; 2];
                let units = character.encode_utf16(&mut units);
                for (at, unit) in units.iter().enumerate() {
                    let escape = rest.get(6 * at..6 * at + 6)?;
                    let digits = escape.strip_prefix(b"\\u")?;
                    if hexadecimal(digits)? != u32::from(*unit) {
                        return None;
                    }
                }
                6 * units.len()
            }
            (b'\\', Some(letter)) if SHORT.contains(&(character, *letter)) => 2,
            (b'\\', _) => return None,
            _ => plain(rest, character.encode_utf8(&mut [0; 4]))?,
        };
    }
    Some(length)
}

/// The same, percent-encoded twice: `%2520` for a space.
pub(super) fn percent_twice(text: &[u8], secret: &str) -> Option<usize> {
    let mut length = 0;
    for byte in secret.bytes() {
        let rest = text.get(length..)?;
        length += match rest {
            [b'%', b'2', b'5', digits @ ..]
                if hexadecimal(digits.get(..2)?)? == u32::from(byte) =>
            {
                5
            }
            [found, ..] if *found == byte && byte != b'%' => 1,
            _ => return None,
        };
    }
    Some(length)
}

/// The same, with any of its characters as an entity of HTML or XML: `&amp;`, `&#38;`, `&#x26;`.
pub(super) fn html(text: &[u8], secret: &str) -> Option<usize> {
    const NAMED: [(&[u8], char); 5] = [
        (b"&amp;", '&'),
        (b"&lt;", '<'),
        (b"&gt;", '>'),
        (b"&quot;", '"'),
        (b"&apos;", '\''),
    ];
    let mut length = 0;
    for character in secret.chars() {
        let rest = text.get(length..)?;
        let named = (NAMED.iter())
            .find(|(entity, is)| *is == character && rest.starts_with(entity))
            .map(|(entity, _)| entity.len());
        length += match named.or_else(|| numbered(rest, character)) {
            Some(entity) => entity,
            None => plain(rest, character.encode_utf8(&mut [0; 4]))?,
        };
    }
    Some(length)
}

/// The length of `&#38;` or `&#x26;` at the beginning of `text`, where it is that character.
fn numbered(text: &[u8], character: char) -> Option<usize> {
    let inner = text.strip_prefix(b"&#")?;
    // Any number of leading zeros is allowed; unusually many are ignored, see `longest`.
    let most = 6 * character.len_utf8() - 3;
    let end = inner.iter().take(most + 1).position(|it| *it == b';')?;
    let inner = std::str::from_utf8(&inner[..end]).ok()?;
    let number = match inner.strip_prefix(['x', 'X']) {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => inner.parse(),
    };
    (number.ok()? == u32::from(character)).then_some(end + 3)
}

/// The same, quoted for a shell: a backslash before any character, and `'` as `'\''` or `'"'"'`.
pub(super) fn shell(text: &[u8], secret: &str) -> Option<usize> {
    let mut length = 0;
    for character in secret.chars() {
        let rest = text.get(length..)?;
        let bare = character.encode_utf8(&mut [0; 4]).len();
        length += match character {
            '\'' if rest.starts_with(br"'\''") => 4,
            '\'' if rest.starts_with(br#"'"'"'"#) => 5,
            _ if rest.first() == Some(&b'\\')
                && plain(&rest[1..], character.encode_utf8(&mut [0; 4])).is_some() =>
            {
                bare + 1
            }
            _ => plain(rest, character.encode_utf8(&mut [0; 4]))?,
        };
    }
    Some(length)
}

pub(super) fn hexadecimal(digits: &[u8]) -> Option<u32> {
    let digit = |value: u32, digit: &u8| Some(16 * value + char::from(*digit).to_digit(16)?);
    digits.iter().try_fold(0, digit)
}
