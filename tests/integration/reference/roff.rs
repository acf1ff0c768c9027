//! Manual pages in man(7).

/// A text as a page has it: `code` in bold, the rest as it is.
pub fn text(text: &str) -> String {
    let mut out = String::new();
    for (at, part) in text.split('`').enumerate() {
        match at % 2 {
            0 => out += &plain(part),
            _ => out += &format!("\\fB{}\\fR", code(part)),
        }
    }
    // A line must not begin with what would be a request.
    match out.starts_with(['.', '\'']) {
        true => format!("\\&{out}"),
        false => out,
    }
}

/// A text without any markup.
pub fn plain(text: &str) -> String {
    let escaped = |character: char| match character {
        '\\' => "\\e".to_owned(),
        character if character.is_ascii() => character.to_string(),
        character => format!("\\[u{:04X}]", u32::from(character)),
    };
    text.chars().map(escaped).collect()
}

/// Something to be typed: no character of it may be printed as another one.
pub fn code(text: &str) -> String {
    let escaped = |character: char| match character {
        '-' => "\\-".to_owned(),
        '\'' => "\\(aq".to_owned(),
        '"' => "\\(dq".to_owned(),
        '`' => "\\(ga".to_owned(),
        '^' => "\\(ha".to_owned(),
        '~' => "\\(ti".to_owned(),
        character => plain(&character.to_string()),
    };
    text.chars().map(escaped).collect()
}

/// A paragraph with a tag before it, and lines that each begin anew.
pub fn tagged(tag: &str, lines: &[String]) -> String {
    format!(".TP\n{tag}\n{}\n", lines.join("\n.br\n"))
}

/// An example, as it is.
pub fn example(text: &str) -> String {
    let line = |line: &str| match code(line) {
        line if line.starts_with(['.', '\'']) => format!("\\&{line}\n"),
        line => format!("{line}\n"),
    };
    let lines: String = text.lines().map(line).collect();
    format!(".PP\n.RS 4\n.EX\n{lines}.EE\n.RE\n")
}
