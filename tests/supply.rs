//! What is promised of security holds: each test that SECURITY.md names is there.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files of Rust at or below `path`.
fn sources(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a folder") {
            sources(&entry.expect("an entry").path(), found);
        }
    } else if path.extension().is_some_and(|it| it == "rs") {
        found.push(path.to_owned());
    }
}

/// The files that may hold the test `named`, as `program::module::test`: those whose path ends with its modules.
fn files_of(named: &str) -> Vec<PathBuf> {
    let parts: Vec<&str> = named.split("::").collect();
    let [program, modules @ .., _] = &parts[..] else {
        return Vec::new();
    };
    let mut found = Vec::new();
    if *program == "unit" {
        sources(&root().join("src"), &mut found);
    } else {
        sources(&root().join(format!("tests/{program}.rs")), &mut found);
        sources(&root().join("tests").join(program), &mut found);
    }
    let module = modules.iter().rfind(|it| **it != "tests");
    found.retain(|path| {
        let folder = path.parent().and_then(Path::file_name);
        let stem = if path.ends_with("mod.rs") {
            folder
        } else {
            path.file_stem()
        };
        module.is_none_or(|it| stem.is_some_and(|stem| stem == *it))
    });
    found
}

/// Whether one of its files has the test `named`: a function of this name right below `#[test]`.
fn is_there(named: &str) -> bool {
    let name = named.rsplit("::").next().unwrap_or_default();
    files_of(named).iter().any(|path| {
        let text = fs::read_to_string(path).expect("a source file");
        let mut is_test = false;
        text.lines().map(str::trim).any(|line| {
            let is_it = is_test && line.starts_with(&format!("fn {name}("));
            is_test = line == "#[test]" || (is_test && line.starts_with("#["));
            is_it
        })
    })
}

/// The rows of SECURITY.md's table of attacks, cell by cell.
fn attacks() -> Vec<Vec<String>> {
    let text = fs::read_to_string(root().join("SECURITY.md")).expect("SECURITY.md");
    let (_, table) = text
        .split_once(
            "\n| attacker | what they can do | what is defended | test |\n|---|---|---|---|\n",
        )
        .expect("the table of attacks");
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    let cells = |row: &str| {
        let row = row.trim().trim_matches('|').replace("\\|", "\u{1}");
        row.split('|').map(|it| it.trim().to_owned()).collect()
    };
    rows.map(cells).collect()
}

#[test]
fn every_attack_that_security_md_tells_of_has_a_test() {
    let rows = attacks();
    assert!(rows.len() > 10, "{rows:#?}");
    for row in rows {
        let [attacker, act, defended, tests] = &row[..] else {
            panic!("not four cells: {row:?}")
        };
        assert!(
            [attacker, act, defended].iter().all(|it| !it.is_empty()),
            "{row:?}"
        );
        let named: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "names no test: {row:?}");
        for name in named {
            assert!(
                is_there(name),
                "SECURITY.md names {name}, which is not there"
            );
        }
    }
}

#[test]
fn a_test_that_is_not_there_would_be_found() {
    assert!(is_there("supply::a_test_that_is_not_there_would_be_found"));
    assert!(!is_there("supply::a_test_of_another_name"));
    assert!(!is_there("supply::attacks"), "a function that is no test");
    assert!(!is_there("floors::a_test_that_is_not_there_would_be_found"));
    assert!(!is_there(
        "supply::module::a_test_that_is_not_there_would_be_found"
    ));
    assert!(!is_there("a_test_that_is_not_there_would_be_found"));
}
