//! Globs over paths: a fixed base directory, and patterns for the names below it.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// A parsed glob. `*` stands for any part of a name, `?` for one byte of it, `[a-z]` and `[!a-z]` for one byte of a
/// set, `\` takes the next byte as it is, and a part `**` stands for any number of directories. Names that begin with a
/// dot are names like others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    base: PathBuf,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// `**`.
    Below,
    Name(Vec<u8>),
}

/// The parts of a pattern that may match next in a directory.
pub(super) type Positions = Vec<usize>;

impl Pattern {
    /// Parses an absolute glob.
    ///
    /// # Errors
    /// A sentence, if it is not absolute or cannot name a file.
    pub fn parse(text: &str) -> Result<Pattern, String> {
        if !text.starts_with('/') || text.contains('\0') {
            return Err(format!("`{text}` must be an absolute path"));
        }
        let mut parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
        if text.ends_with('/') || parts.is_empty() {
            return Err(format!(
                "`{text}` names a directory; to copy all files in it write `{}/**`",
                text.trim_end_matches('/')
            ));
        }
        if parts.iter().any(|part| matches!(*part, "." | "..")) {
            return Err(format!("`{text}` must not contain `.` or `..`"));
        }
        if parts
            .iter()
            .any(|part| part.contains("**") && *part != "**")
        {
            return Err("`**` must be a whole path component: put a `/` on each side".to_owned());
        }
        let fixed = parts.iter().take_while(|part| is_fixed(part)).count();
        let fixed = fixed.min(parts.len() - 1);
        let rest = parts.split_off(fixed);
        let part = |part: &str| match part {
            "**" => Part::Below,
            name => Part::Name(name.as_bytes().to_vec()),
        };
        Ok(Pattern {
            base: Path::new("/").join(parts.join("/")),
            parts: rest.into_iter().map(part).collect(),
        })
    }

    /// The fixed directory, to which the names of matches are relative.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// The only name below the base that matches, where there is no wildcard.
    pub fn literal(&self) -> Option<&Path> {
        match self.parts.as_slice() {
            [Part::Name(name)] if is_fixed(str::from_utf8(name).ok()?) => {
                Some(Path::new(std::ffi::OsStr::from_bytes(name)))
            }
            _ => None,
        }
    }

    /// What may match next in the base.
    pub(super) fn begin(&self) -> Positions {
        self.closed(vec![0])
    }

    /// `**` also matches no directory at all.
    fn closed(&self, mut positions: Positions) -> Positions {
        let mut at = 0;
        while let Some(position) = positions.get(at).copied() {
            let next = position + 1;
            if self.parts[position] == Part::Below
                && next < self.parts.len()
                && !positions.contains(&next)
            {
                positions.push(next);
            }
            at += 1;
        }
        positions
    }

    /// Whether a file of that name matches.
    pub(super) fn takes(&self, positions: &Positions, name: &[u8]) -> bool {
        let last = self.parts.len() - 1;
        positions.contains(&last)
            && match &self.parts[last] {
                Part::Below => true,
                Part::Name(pattern) => matches(pattern, name),
            }
    }

    /// What may match next in a directory of that name; empty if it need not be read.
    pub(super) fn enter(&self, positions: &Positions, name: &[u8]) -> Positions {
        let mut next = Positions::new();
        for &position in positions {
            let to = match &self.parts[position] {
                Part::Below => position,
                Part::Name(pattern) if matches(pattern, name) => position + 1,
                Part::Name(_) => continue,
            };
            if to < self.parts.len() && !next.contains(&to) {
                next.push(to);
            }
        }
        self.closed(next)
    }
}

fn is_fixed(part: &str) -> bool {
    !part.contains(['*', '?', '[', '\\'])
}

/// Whether a name matches a glob without `/`.
pub(super) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    // Where to continue with one more byte matched by the last `*`.
    let mut again: Option<(usize, usize)> = None;
    let (mut at, mut byte) = (0, 0);
    while byte < name.len() {
        if pattern.get(at) == Some(&b'*') {
            again = Some((at + 1, byte));
            at += 1;
            continue;
        }
        match one(&pattern[at..], name[byte]) {
            Some(length) => {
                at += length;
                byte += 1;
            }
            None => match &mut again {
                Some((after, from)) => {
                    *from += 1;
                    (at, byte) = (*after, *from);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|it| *it == b'*')
}

/// The length of the pattern's first element, if that matches the byte.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        [b'[', set @ ..] => match in_set(set, byte) {
            Some((length, is_in)) => is_in.then_some(1 + length),
            None => (byte == b'[').then_some(1),
        },
        [same, ..] => (*same == byte).then_some(1),
        [] => None,
    }
}

/// The length of a set up to its `]`, and whether the byte is in it; `None` where it has no end.
fn in_set(set: &[u8], byte: u8) -> Option<(usize, bool)> {
    let is_negated = matches!(set.first(), Some(b'!' | b'^'));
    let begin = usize::from(is_negated);
    let (mut at, mut is_in) = (begin, false);
    loop {
        match set.get(at..)? {
            [b']', ..] if at > begin => return Some((at + 1, is_in != is_negated)),
            [low, b'-', high, ..] if *high != b']' => {
                is_in |= (*low..=*high).contains(&byte);
                at += 3;
            }
            [same, ..] => {
                is_in |= *same == byte;
                at += 1;
            }
            [] => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_like_their_globs() {
        for (pattern, name, is_like) in [
            ("*", "", true),
            ("*.log", "a.log", true),
            ("*.log", ".log", true),
            ("*.log", "a.log.1", false),
            ("a*b*c", "aXbYbc", true),
            ("a*b*c", "aXbYbd", false),
            ("?", "", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]x]", "]", true),
            ("[", "[", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), name.as_bytes()),
                is_like,
                "{pattern} {name}"
            );
        }
        // Each `*` once more would take exponential time in a matcher that calls itself.
        assert!(!matches(
            "*a".repeat(40).as_bytes(),
            "a".repeat(39).as_bytes()
        ));
    }

    #[test]
    fn the_fixed_part_ends_before_the_first_wildcard_and_before_the_file() {
        for (text, base) in [
            ("/var/log/app.log", "/var/log"),
            ("/var/log/*.log", "/var/log"),
            ("/var/**/x", "/var"),
            ("/*", "/"),
            ("/a", "/"),
        ] {
            assert_eq!(
                Pattern::parse(text).expect(text).base(),
                Path::new(base),
                "{text}"
            );
        }
        for text in ["a", "/", "/a/", "/a/../b", "/a/**b"] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn two_stars_stand_for_any_number_of_directories() {
        let pattern = Pattern::parse("/r/**/d/*.x").expect("a glob");
        let begin = pattern.begin();
        assert!(!pattern.takes(&begin, b"a.x"));
        let d = pattern.enter(&begin, b"d");
        assert!(pattern.takes(&d, b"a.x") && !pattern.takes(&d, b"a.y"));
        let deep = pattern.enter(&pattern.enter(&d, b"e"), b"d");
        assert!(pattern.takes(&deep, b"a.x"));
        let all = Pattern::parse("/r/**").expect("a glob");
        assert!(all.takes(&all.enter(&all.begin(), b"x"), b"y"));
        let flat = Pattern::parse("/r/*").expect("a glob");
        assert!(flat.enter(&flat.begin(), b"x").is_empty());
    }
}
