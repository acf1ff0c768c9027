//! Servers that Debian does not have: fetched once, by their scripts in tests/servers.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// Tests that want a server at the same moment fetch it once.
static FETCHING: Mutex<()> = Mutex::new(());

/// The directory of a server that a script of tests/servers fetches, which is run where it is not there yet.
pub fn fetched(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let place = root.join("target/servers").join(name);
    let _one = FETCHING.lock().unwrap_or_else(PoisonError::into_inner);
    if !place.is_dir() {
        let script = root.join("tests/servers").join(name).join("install");
        let status = Command::new(&script).stdin(Stdio::null()).status();
        let status = status.unwrap_or_else(|error| panic!("{}: {error}", script.display()));
        assert!(status.success(), "{} failed", script.display());
    }
    place
}
