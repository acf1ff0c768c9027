//! The programs of this machine that the lab needs.

use std::fmt::Display;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

pub use crate::support::binary::printed as output;

/// Says what goes on, at once: libtest keeps back what `println` writes until a test has failed.
pub fn say(what: impl Display) {
    let _ = writeln!(std::io::stderr(), "vm: {what}");
}

/// Runs a program that the lab cannot do without.
pub fn must(command: &mut Command) -> String {
    output(command).unwrap_or_else(|error| panic!("{error}"))
}

/// What the lab keeps, below the target directory.
pub fn kept() -> PathBuf {
    // The target directory is two levels above the folder of a profile's binary.
    let binary = Path::new(env!("CARGO_BIN_EXE_farewell"));
    let target = binary.ancestors().nth(2).expect("target");
    target.join("vm")
}

/// An empty directory beside `dir` for what is to become it, without those that another recipe has made. Half of something
/// must never be taken for all of it.
pub fn half(dir: &Path) -> PathBuf {
    let (kept, name) = (dir.parent(), dir.file_name().and_then(|it| it.to_str()));
    let (kept, name) = (kept.expect("a folder"), name.expect("a name"));
    let (what, _) = name.split_once('-').expect("a name with a key");
    for entry in std::fs::read_dir(kept).expect("a directory").flatten() {
        let outdated = entry
            .file_name()
            .to_string_lossy()
            .starts_with(&format!("{what}-"));
        if outdated {
            std::fs::remove_dir_all(entry.path()).expect("what is outdated is removed");
        }
    }
    let half = kept.join(format!("{what}-half"));
    std::fs::create_dir(&half).expect("made");
    half
}

/// A name for what is made from these parts.
pub fn key(parts: impl Hash) -> String {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}
