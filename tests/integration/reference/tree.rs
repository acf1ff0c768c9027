//! The project's own files.

use std::fs;
use std::path::{Path, PathBuf};

pub fn place(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

pub fn read(path: &str) -> String {
    fs::read_to_string(place(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The files of a folder with this ending.
pub fn files(folder: &str, ending: &str) -> Vec<String> {
    let entries = fs::read_dir(place(folder)).expect("a folder");
    let name = |entry: fs::DirEntry| entry.file_name().into_string().expect("UTF-8");
    let mut names: Vec<String> = entries.map(|it| name(it.expect("an entry"))).collect();
    names.retain(|it| it.ends_with(ending));
    names.sort();
    names
        .into_iter()
        .map(|it| format!("{folder}/{it}"))
        .collect()
}

/// The blocks of TOML in a page of Markdown.
pub fn blocks(path: &str) -> Vec<String> {
    let text = read(path);
    let blocks = text.split("```toml\n").skip(1);
    let blocks: Vec<String> = blocks
        .map(|rest| rest.split("```").next().unwrap_or_default().to_owned())
        .collect();
    assert!(!blocks.is_empty(), "{path} has no example");
    blocks
}
