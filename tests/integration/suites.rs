//! Every module of this program is a suite of `tests/run`, and every file here belongs to one.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// What `tests/run` has beside the modules.
const CARGO: [&str; 3] = ["format", "lint", "unit"];

#[test]
fn no_module_is_left_out() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(root.join("tests/run")).arg("--list").output();
    let output = output.expect("tests/run");
    let printed = String::from_utf8(output.stdout).expect("UTF-8");
    let listed: BTreeSet<&str> = printed.lines().collect();
    let folder = fs::read_dir(root.join("tests/integration")).expect("a folder");
    let module = |path: &Path| {
        let is_module =
            path.extension().is_some_and(|it| it == "rs") || path.join("mod.rs").exists();
        let name = path.file_stem()?.to_str()?.to_owned();
        (is_module && !["main", "support"].contains(&&*name)).then_some(name)
    };
    let modules: Vec<String> = folder
        .filter_map(|entry| module(&entry.expect("an entry").path()))
        .collect();
    let expected: BTreeSet<&str> = (CARGO.into_iter())
        .chain(modules.iter().map(String::as_str))
        .collect();
    assert_eq!(
        listed, expected,
        "tests/integration/main.rs names the modules"
    );
}

/// `cargo test` alone names what it leaves out and why; `tests/run` leaves nothing out.
#[test]
fn what_is_left_out_says_what_it_needs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration");
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap_or_default();
            let reasons = text
                .lines()
                .map(str::trim)
                .filter(|it| it.starts_with("#[ignore"));
            for reason in reasons {
                let begins = reason.starts_with("#[ignore = \"needs ");
                let ends = reason.ends_with("; tests/run has it\"]");
                assert!(begins && ends, "{}: {reason}", path.display());
            }
        }
    }
}
