//! The servers in a file of Traefik's file provider, and how entries are commented out and restored.

use std::path::Path;

use super::entry::Entry;
use super::{toml_file, yaml_file};

/// The prefix of a line that was commented out.
const MARK: &str = "# farewell: ";

/// Like Traefik, farewell tells YAML from TOML by the extension.
fn is_toml(path: &Path) -> Option<bool> {
    match path.extension()?.to_str()? {
        "toml" => Some(true),
        "yml" | "yaml" => Some(false),
        _ => None,
    }
}

/// All servers of all HTTP services, in file order.
///
/// # Errors
/// The line that is not supported, and why.
pub(super) fn entries(path: &Path, text: &str) -> Result<Vec<Entry>, String> {
    if let Some(at) = text.find("{{") {
        let line = text[..at].matches('\n').count() + 1;
        return Err(format!("line {line}: a template (`{{{{`) is not supported"));
    }
    match is_toml(path) {
        Some(true) => toml_file::entries(text),
        Some(false) => yaml_file::entries(text),
        None => Err("its name must end in .yml, .yaml or .toml".to_owned()),
    }
}

/// As [`entries`], with everything that farewell has commented out.
pub(super) fn entries_before(path: &Path, text: &str) -> Result<Vec<Entry>, String> {
    let bare = |line: &str| line.strip_prefix(MARK).unwrap_or(line).to_owned();
    let text: String = text.split_inclusive('\n').map(bare).collect();
    entries(path, &text)
}

/// Comments these entries out.
pub(super) fn take_out(text: &str, entries: &[&Entry]) -> String {
    let is_one = |at: &usize| entries.iter().any(|it| it.lines.contains(at));
    let lines = text.split_inclusive('\n').enumerate();
    lines.fold(String::new(), |text, (at, line)| match is_one(&at) {
        true => text + MARK + line,
        false => text + line,
    })
}

/// The lines of an entry, without the last line break.
pub(super) fn lines_of(text: &str, entry: &Entry) -> String {
    let lines = text.split_inclusive('\n').skip(entry.lines.start);
    let lines: String = lines.take(entry.lines.len()).collect();
    lines.trim_end_matches(['\n', '\r']).to_owned()
}

/// Restores lines that were commented out; `None` if there is no such comment.
pub(super) fn put_back(text: &str, lines: &str) -> Option<String> {
    let comment: String = lines
        .split_inclusive('\n')
        .map(|it| MARK.to_owned() + it)
        .collect();
    let is_whole = |at: &usize| {
        let (before, after) = (&text[..*at], &text[at + comment.len()..]);
        (before.is_empty() || before.ends_with('\n'))
            && (after.is_empty() || after.starts_with(['\n', '\r']))
    };
    let mut found = text.match_indices(&comment).map(|(at, _)| at);
    let at = found.find(is_whole)?;
    Some(format!(
        "{}{lines}{}",
        &text[..at],
        &text[at + comment.len()..]
    ))
}

/// Whether a server is commented out, by hand or by farewell.
pub(super) fn is_commented_out(text: &str, url: &str) -> bool {
    text.lines().any(|line| {
        let Some(comment) = line.trim_start().strip_prefix('#') else {
            return false;
        };
        let words = comment.trim_start_matches('#').trim();
        let words = words
            .strip_prefix("farewell:")
            .unwrap_or(words)
            .trim_start();
        let words = words.strip_prefix("- ").unwrap_or(words).trim_start();
        let Some(value) = words.strip_prefix("url") else {
            return false;
        };
        let value = value.trim_start().strip_prefix([':', '=']).unwrap_or("");
        let value = value.split(" #").next().unwrap_or_default();
        value.trim().trim_matches(['"', '\'']) == url
    })
}
