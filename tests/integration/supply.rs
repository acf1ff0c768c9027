//! What is promised of security holds: each test that SECURITY.md names is there, and the crates are as deny.toml wants them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

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

/// The files that may hold the test `named`, as `suite::module::test`: those whose path ends with its modules.
fn files_of(named: &str) -> Vec<PathBuf> {
    let parts: Vec<&str> = named.split("::").collect();
    let [suite, modules @ .., _] = &parts[..] else {
        return Vec::new();
    };
    let mut found = Vec::new();
    if *suite == "unit" {
        sources(&root().join("src"), &mut found);
    } else {
        let tests = root().join("tests/integration");
        sources(&tests.join(format!("{suite}.rs")), &mut found);
        sources(&tests.join(suite), &mut found);
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
        .split_once("\n| attacker | attack | defence | tests |\n|---|---|---|---|\n")
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

/// What cargo knows of every crate of Cargo.lock, on every platform; what was not needed for a build is fetched.
fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root())
        .output()
        .expect("cargo");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn table(file: &str) -> toml::Table {
    let text = fs::read_to_string(root().join(file)).expect(file);
    text.parse()
        .unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Whether the beginning of an SPDX expression is met by the licences that are allowed, which are noted; takes it off.
fn is_met(words: &mut &[String], allowed: &[String], used: &mut BTreeSet<String>) -> bool {
    let mut any = false;
    let mut all = true;
    loop {
        let (word, rest) = words.split_first().expect("a licence");
        *words = rest;
        let mut is_one = if word == "(" {
            let is_one = is_met(words, allowed, used);
            *words = &words[1..];
            is_one
        } else {
            allowed.contains(word)
        };
        if is_one && word != "(" {
            used.insert(word.clone());
        }
        if words.first().is_some_and(|it| it == "WITH") {
            // An exception makes another licence of it.
            is_one = false;
            *words = &words[2..];
        }
        all &= is_one;
        match words.first().map(String::as_str) {
            Some("AND") => *words = &words[1..],
            Some("OR") => {
                (any, all) = (any || all, true);
                *words = &words[1..];
            }
            _ => return any || all,
        }
    }
}

fn texts(value: &toml::Value) -> Vec<String> {
    let items = value.as_array().expect("a list").iter();
    items
        .map(|it| it.as_str().expect("a text").to_owned())
        .collect()
}

fn licences(packages: &[Value], deny: &toml::Table, problems: &mut Vec<String>) {
    let allowed = texts(&deny["licenses"]["allow"]);
    let mut used = BTreeSet::new();
    for package in packages {
        let expression = package["license"].as_str().unwrap_or("NONE");
        let spaced = expression.replace('(', " ( ").replace(')', " ) ");
        let words: Vec<String> = spaced.split_whitespace().map(str::to_owned).collect();
        if !is_met(&mut &words[..], &allowed, &mut used) {
            problems.push(format!("{}: {expression} is not allowed", package["name"]));
        }
    }
    for allowed in allowed.iter().filter(|it| !used.contains(*it)) {
        problems.push(format!("{allowed} is allowed, and no crate has it"));
    }
}

/// All come from the registry that cargo asks where a dependency names none, and Cargo.lock knows what they must be.
fn origins(packages: &[Value], lock: &toml::Table, problems: &mut Vec<String>) {
    let source = |name: &str| {
        let mut found = packages.iter().filter(|it| it["name"] == name);
        found.next().map_or(Value::Null, |it| it["source"].clone())
    };
    let registry = source("serde");
    let sums: BTreeSet<(&str, &str)> = lock["package"]
        .as_array()
        .expect("packages")
        .iter()
        .filter(|it| it.get("checksum").is_some())
        .map(|it| {
            (
                it["name"].as_str().expect("it"),
                it["version"].as_str().expect("it"),
            )
        })
        .collect();
    for package in packages {
        let name = package["name"].as_str().expect("a name");
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            if !dependency["registry"].is_null() {
                problems.push(format!("{name}: names a registry of its own"));
            }
            if name == "farewell" && dependency["req"] == "*" {
                problems.push(format!("{}: any version would do", dependency["name"]));
            }
        }
        if name == "farewell" {
            continue;
        }
        if package["source"] != registry || registry.is_null() {
            problems.push(format!("{name}: comes from {}", package["source"]));
        }
        let version = package["version"].as_str().expect("a version");
        if !sums.contains(&(name, version)) {
            problems.push(format!("{name}: Cargo.lock has no checksum"));
        }
    }
}

fn versions(packages: &[Value], deny: &toml::Table, problems: &mut Vec<String>) {
    let mut by_name: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in packages {
        let version = package["version"].as_str().expect("a version");
        let name = package["name"].as_str().expect("a name");
        by_name.entry(name).or_default().push(version);
    }
    for skip in deny["bans"]["skip"].as_array().expect("a list") {
        let (name, version) = skip["crate"]
            .as_str()
            .and_then(|it| it.split_once(':'))
            .expect("NAME:VERSION");
        assert!(skip["reason"].as_str().is_some_and(|it| it.len() > 10));
        let there = by_name.entry(name).or_default();
        let before = there.len();
        there.retain(|it| !it.starts_with(&format!("{version}.")));
        if before < 2 || there.len() != before - 1 {
            problems.push(format!(
                "{name} {version} is tolerated, and is no second version"
            ));
        }
    }
    for (name, versions) in by_name.iter().filter(|(_, it)| it.len() > 1) {
        problems.push(format!("{name}: versions {}", versions.join(", ")));
    }
}

/// What of these crates deny.toml does not allow.
fn problems(metadata: &Value, lock: &toml::Table) -> Vec<String> {
    let deny = table("deny.toml");
    for (section, key) in [
        ("advisories", "yanked"),
        ("licenses", "unused-allowed-license"),
        ("bans", "multiple-versions"),
        ("bans", "wildcards"),
        ("sources", "unknown-registry"),
        ("sources", "unknown-git"),
    ] {
        assert_eq!(deny[section][key].as_str(), Some("deny"), "{key}");
    }
    let sources: Vec<&String> = deny["sources"]
        .as_table()
        .expect("a table")
        .keys()
        .collect();
    assert_eq!(sources.len(), 2, "no other source is allowed: {sources:?}");
    let packages = metadata["packages"].as_array().expect("packages");
    let mut problems = Vec::new();
    licences(packages, &deny, &mut problems);
    origins(packages, lock, &mut problems);
    versions(packages, &deny, &mut problems);
    problems
}

#[test]
fn every_crate_is_allowed_by_licence_source_and_version() {
    let metadata = metadata();
    let count = metadata["packages"].as_array().expect("packages").len();
    assert!(count > 50, "{count} crates");
    assert_eq!(problems(&metadata, &table("Cargo.lock")), [""; 0]);
}

#[test]
fn a_crate_that_is_not_allowed_would_be_found() {
    let (good, lock) = (metadata(), table("Cargo.lock"));
    let with = |name: &str, change: &dyn Fn(&mut Value)| {
        let mut metadata = good.clone();
        let packages = metadata["packages"].as_array_mut().expect("packages");
        let package = packages.iter_mut().find(|it| it["name"] == name);
        change(package.expect(name));
        problems(&metadata, &lock).join("; ")
    };
    for licence in [
        "GPL-3.0-only",
        "MIT AND GPL-3.0-only",
        "GPL-3.0-only OR (MIT AND MPL-2.0)",
        "(MIT OR Apache-2.0) AND MPL-2.0",
        "Apache-2.0 WITH LLVM-exception",
    ] {
        let told = with("toml", &|it| it["license"] = licence.into());
        assert_eq!(told, format!("\"toml\": {licence} is not allowed"));
    }
    let told = with("toml", &|it| it["license"] = Value::Null);
    assert_eq!(told, "\"toml\": NONE is not allowed");
    let told = with("subtle", &|it| it["license"] = "MIT".into());
    assert_eq!(told, "BSD-3-Clause is allowed, and no crate has it");
    for source in [
        "git+https://host.example/toml",
        "registry+https://host.example",
    ] {
        let told = with("toml", &|it| it["source"] = source.into());
        assert_eq!(told, format!("toml: comes from \"{source}\""));
    }
    let told = with("toml", &|it| it["source"] = Value::Null);
    assert_eq!(told, "toml: comes from null");
    let told = with("farewell", &|it| {
        it["dependencies"][0]["registry"] = "https://host.example".into();
        it["dependencies"][1]["req"] = "*".into();
    });
    assert_eq!(
        told,
        "farewell: names a registry of its own; \"clap\": any version would do"
    );
    let told = with("toml", &|it| it["version"] = "0.1.0".into());
    assert_eq!(told, "toml: Cargo.lock has no checksum");
    let told = with("memchr", &|it| it["name"] = "bytes".into());
    assert!(told.contains("bytes: versions "), "{told}");
    let told = with("windows-sys", &|it| it["name"] = "gone".into());
    let expected = "windows-sys 0.52 is tolerated, and is no second version";
    assert!(told.contains(expected), "{told}");
}

#[test]
fn the_rust_that_cargo_toml_asks_for_is_enough_and_no_other_one_is_pinned() {
    let number = |version: &str| -> Vec<u32> {
        let parts = version.split('.').map(|it| it.parse().expect("a number"));
        parts.chain([0, 0]).take(3).collect()
    };
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    let asked = |package: &Value| package["rust_version"].as_str().map(number);
    let own = packages.iter().find(|it| it["name"] == "farewell");
    let own = own.and_then(asked).expect("a rust-version");
    for package in packages {
        let other = asked(package).unwrap_or_default();
        assert!(other <= own, "{} asks for {other:?}", package["name"]);
    }
    for file in ["rust-toolchain", "rust-toolchain.toml"] {
        assert!(!root().join(file).exists(), "{file}");
    }
}
