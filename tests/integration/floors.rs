//! The house: imports only go down, members do not know each other, each foreign crate has its door, and nothing grows too long.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Folders whose files are members of a table: none of them may import another one.
const MEMBERS: [&str; 5] = [
    "steps",
    "steps/drain",
    "steps/deregister",
    "steps/wait_safe",
    "steps/lock",
];

/// Where each foreign crate may be named: the beginnings of paths below src.
const DOORS: &[(&str, &[&str])] = &[
    (
        "base64",
        &[
            "model/secrets/",
            "sys/",
            "steps/deregister/",
            "steps/lock/",
            "clients/http/",
        ],
    ),
    ("clap", &["app/cli.rs", "app/mod.rs"]),
    ("env_logger", &["logging/"]),
    ("jiff", &["sys/clock.rs"]),
    ("nix", &["sys/"]),
    ("percent_encoding", &["sys/http/message.rs"]),
    ("ring", &["sys/digest.rs"]),
    ("rustix", &["sys/"]),
    ("rustls", &["sys/http/"]),
    ("rustls_native_certs", &["sys/http/"]),
    ("signal_hook", &["sys/"]),
    ("strsim", &["config/suggestion.rs"]),
    ("toml", &["config/document.rs"]),
    ("ureq", &["sys/http/"]),
    ("zbus", &["sys/dbus/", "sys/systemd/", "report/dbus/"]),
];

/// The most lines of a function, without comments.
const LONGEST_FUNCTION: usize = 60;

/// Functions that are one table, and as long as it is.
const TABLES: [(&str, &str); 4] = [
    ("history/record/reader.rs", "kind"),
    ("history/record/writer.rs", "entry"),
    ("sys/systemd/unit.rs", "of"),
    ("view/describe.rs", "of"),
];

/// Foreign crates that any file may name.
const EVERYWHERE: [&str; 4] = ["fastrand", "log", "serde", "serde_json"];

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every file below src: its path there, and its code without comments and unit tests.
fn code() -> BTreeMap<String, String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a source file");
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        let code: Vec<&str> = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect();
        let name = path
            .strip_prefix(&src)
            .expect("below src")
            .to_str()
            .expect("UTF-8")
            .to_owned();
        (name, code.join("\n"))
    };
    files.into_iter().map(read).collect()
}

/// The modules in floor order, lowest first, as src/lib.rs lists them.
fn floors() -> Vec<String> {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs"))
        .expect("lib.rs");
    lib.lines()
        .filter_map(|line| Some(line.strip_prefix("pub mod ")?.strip_suffix(';')?.to_owned()))
        .collect()
}

/// Whether the code before a name ends in a part of another one.
fn goes_on(before: &str) -> bool {
    before.chars().next_back().is_some_and(|character| {
        character.is_alphanumeric() || character == '_' || character == ':'
    })
}

/// The paths that `tree` begins with, each behind `path`: `a::b`, and each of `a::{b, c::{d, e}}`. Second, what follows.
fn paths<'a>(path: &[String], tree: &'a str) -> (Vec<Vec<String>>, &'a str) {
    let tree = tree.trim_start();
    if let Some(list) = tree.strip_prefix('{') {
        let (mut found, mut rest) = (Vec::new(), list);
        loop {
            let (of_item, after) = paths(path, rest);
            found.extend(of_item);
            let after = after.trim_start_matches(|character| !['{', '}', ','].contains(&character));
            match after.strip_prefix(',') {
                Some(more) => rest = more,
                None => return (found, after.strip_prefix('}').unwrap_or(after)),
            }
        }
    }
    let end = tree.find(|character: char| !character.is_alphanumeric() && character != '_');
    let (name, rest) = tree.split_at(end.unwrap_or(tree.len()));
    if name.is_empty() {
        return (Vec::new(), rest);
    }
    let mut path = path.to_vec();
    if name != "self" {
        path.push(name.to_owned());
    }
    let Some(tree) = rest.strip_prefix("::") else {
        return (vec![path], rest);
    };
    match paths(&path, tree) {
        // Everything in it: `*`.
        (found, rest) if found.is_empty() => (vec![path], rest),
        found => found,
    }
}

/// The module that a file is, as its path below the crate.
fn module(file: &str) -> Vec<String> {
    let name = file.strip_suffix(".rs").unwrap_or(file);
    let name = name.strip_suffix("/mod").unwrap_or(name);
    name.split('/').map(str::to_owned).collect()
}

/// Everything of the crate that `code`, which is `file`, names by `crate::` or `super::`: each as its path below the crate.
fn imports(file: &str, code: &str) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        if !goes_on(&code[..at]) {
            found.extend(paths(&[], &code[at + "crate::".len()..]).0);
        }
    }
    for (at, _) in code.match_indices("super::") {
        if goes_on(&code[..at]) {
            continue;
        }
        let (mut owner, mut rest) = (module(file), &code[at..]);
        while let Some(above) = rest.strip_prefix("super::") {
            owner.pop();
            rest = above;
        }
        found.extend(paths(&owner, rest).0);
    }
    found
}

#[test]
fn imports_only_go_down() {
    let floors = floors();
    assert!(floors.len() > 10, "{floors:?}");
    let mut wrong = Vec::new();
    for (file, code) in code() {
        let owner = file.split(['/', '.']).next().expect("a name");
        let Some(floor) = floors.iter().position(|name| name == owner) else {
            assert!(
                file == "main.rs" || file == "lib.rs",
                "src/{file} stands on no floor of src/lib.rs"
            );
            continue;
        };
        for path in imports(&file, &code) {
            let below = floors
                .iter()
                .position(|other| Some(other) == path.first())
                .is_some_and(|other| other <= floor);
            if !below {
                wrong.push(format!(
                    "src/{file} imports crate::{}, which does not stand below it",
                    path.join("::")
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// For each module of a folder, at whatever depth its files are, the names of its siblings that it imports.
fn siblings(folder: &str, code: &BTreeMap<String, String>) -> BTreeMap<String, BTreeSet<String>> {
    let folder = module(folder);
    let inside = |path: &[String]| path.strip_prefix(folder.as_slice())?.first().cloned();
    let mut siblings: BTreeMap<String, BTreeSet<String>> = code
        .keys()
        .filter_map(|file| Some((inside(&module(file))?, BTreeSet::new())))
        .collect();
    let modules: BTreeSet<String> = siblings.keys().cloned().collect();
    for (file, code) in code {
        let Some(own) = inside(&module(file)) else {
            continue;
        };
        let named = imports(file, code);
        let others = named
            .iter()
            .filter_map(|path| inside(path))
            .filter(|name| modules.contains(name) && *name != own);
        siblings.entry(own.clone()).or_default().extend(others);
    }
    siblings
}

#[test]
fn imports_are_found_at_every_depth() {
    let found = |code: &str| {
        let paths = imports("sys/systemd/deep/unit.rs", code).into_iter();
        paths.map(|path| path.join("::")).collect::<Vec<_>>()
    };
    assert_eq!(found("use super::a::B;"), ["sys::systemd::deep::a::B"]);
    assert_eq!(found("super::super::a::b()"), ["sys::systemd::a::b"]);
    assert_eq!(found("super::super::super::super::plan"), ["plan"]);
    assert_eq!(
        found("use super::{a as b, c::{self, D},\n  e::*};"),
        [
            "sys::systemd::deep::a",
            "sys::systemd::deep::c",
            "sys::systemd::deep::c::D",
            "sys::systemd::deep::e"
        ]
    );
    assert_eq!(
        found("use crate::{run, sys::{bus, http::Http}}; crate::plan::take()"),
        ["plan::take", "run", "sys::bus", "sys::http::Http"]
    );
    assert_eq!(found("nocrate::x other::super::y"), [""; 0]);
    let files = ["one/mod.rs", "one/deep/er.rs", "two.rs"].map(|file| format!("members/{file}"));
    let code = |deep: &str| {
        files
            .iter()
            .cloned()
            .zip(["", deep, "use super::one::X;"].map(str::to_owned))
            .collect()
    };
    let of = |deep: &str, member: &str| {
        siblings("members", &code(deep))[member]
            .iter()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(of("", "two"), ["one"]);
    assert_eq!(of("use super::super::super::two::Y;", "one"), ["two"]);
    assert_eq!(
        of("use super::super::two::Y;", "one"),
        [""; 0],
        "its own folder's two"
    );
}

#[test]
fn members_do_not_know_each_other() {
    let code = code();
    for folder in MEMBERS {
        for (member, others) in siblings(folder, &code) {
            assert!(
                others.is_empty(),
                "src/{folder}/{member} imports its siblings {others:?}"
            );
        }
    }
}

#[test]
fn folders_have_no_circles() {
    let code = code();
    let folders: BTreeSet<&str> = code
        .keys()
        .filter_map(|file| file.rsplit_once('/'))
        .map(|(folder, _)| folder)
        .collect();
    assert!(folders.iter().any(|folder| folder.contains('/')));
    for folder in folders {
        let mut imports = siblings(folder, &code);
        // Whoever imports nobody any more is taken out, until nobody is left, or a circle.
        while let Some(free) = imports
            .iter()
            .find(|(_, others)| others.is_empty())
            .map(|(name, _)| name.clone())
        {
            imports.remove(&free);
            imports.values_mut().for_each(|others| {
                others.remove(&free);
            });
        }
        assert!(imports.is_empty(), "a circle in src/{folder}: {imports:?}");
    }
}

#[test]
fn each_foreign_crate_has_its_door() {
    let mut wrong = Vec::new();
    for (file, code) in code() {
        for (name, doors) in DOORS {
            let named = code
                .match_indices(&format!("{name}::"))
                .any(|(at, _)| !goes_on(&code[..at]));
            if named && !doors.iter().any(|door| file.starts_with(door)) {
                wrong.push(format!(
                    "src/{file} names the crate {name}, whose door is {}",
                    doors.join(", ")
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let manifest = include_str!("../../Cargo.toml");
    let manifest: toml::Table = manifest.parse().expect("TOML");
    for crate_name in manifest["dependencies"].as_table().expect("a table").keys() {
        let name = crate_name.replace('-', "_");
        let has_door = DOORS.iter().any(|(known, _)| *known == name);
        let is_common = EVERYWHERE.contains(&name.as_str());
        assert!(
            has_door != is_common,
            "{name} needs a door, or a place in EVERYWHERE"
        );
    }
}

#[test]
fn functions_stay_short() {
    let mut long = Vec::new();
    for (file, code) in code() {
        let lines: Vec<&str> = code.lines().collect();
        for (begin, line) in lines.iter().enumerate() {
            let indent = &line[..line.len() - line.trim_start().len()];
            let Some((_, rest)) = line.split_once("fn ").filter(|(before, _)| {
                let before = before.trim();
                before.is_empty() || before.starts_with("pub") || before == "const"
            }) else {
                continue;
            };
            let end = format!("{indent}}}");
            let length = lines[begin..].iter().position(|it| *it == end);
            let name = rest.split(['(', '<']).next().unwrap_or_default();
            let is_table = TABLES.contains(&(file.as_str(), name));
            if !is_table && length.is_some_and(|length| length >= LONGEST_FUNCTION) {
                long.push(format!("src/{file}: {name}"));
            }
        }
    }
    assert!(
        long.is_empty(),
        "longer than {LONGEST_FUNCTION} lines: {long:?}"
    );
}

#[test]
fn files_stay_short() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in code().keys() {
        let lines = fs::read_to_string(src.join(file))
            .expect("a source file")
            .lines()
            .count();
        assert!(lines <= 400, "src/{file} has {lines} lines: split it");
    }
}
