//! The house: imports only go down, members do not know each other, and each foreign crate has one door.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Folders whose files are members of a table: none of them may import another one.
const MEMBERS: [&str; 5] = ["steps", "registries", "clusters", "locks", "reporters"];

/// Where each foreign crate may be named: the beginnings of paths below src.
const DOORS: [(&str, &[&str]); 14] = [
    (
        "base64",
        &["secrets.rs", "sys/", "registries/", "locks/", "peer/"],
    ),
    ("clap", &["cli.rs", "app/mod.rs"]),
    ("env_logger", &["logging.rs"]),
    ("jiff", &["sys/clock.rs"]),
    ("nix", &["sys/"]),
    ("ring", &["sys/digest.rs"]),
    ("rustls", &["sys/http/"]),
    ("rustls_native_certs", &["sys/http/"]),
    ("sd_notify", &["sys/notify.rs"]),
    ("signal_hook", &["sys/"]),
    ("strsim", &["config/suggestion.rs"]),
    ("toml", &["config/document.rs"]),
    ("ureq", &["sys/http/"]),
    ("zbus", &["sys/bus", "sys/systemd/"]),
];

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

/// What follows `prefix` in `code`, as far as it is a name; `use` lists in braces give each of their names.
fn named_after<'a>(code: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices(prefix) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|character| {
            character.is_alphanumeric() || character == '_' || character == ':'
        }) {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        let list = rest
            .strip_prefix('{')
            .and_then(|list| list.split('}').next());
        for item in list.map_or(vec![rest], |list| list.split(',').collect()) {
            let item = item.trim_start();
            let end = item.find(|character: char| !character.is_alphanumeric() && character != '_');
            names.insert(&item[..end.unwrap_or(item.len())]);
        }
    }
    names
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
        for name in named_after(&code, "crate::") {
            let below = floors
                .iter()
                .position(|other| other == name)
                .is_some_and(|other| other <= floor);
            if !below {
                wrong.push(format!(
                    "src/{file} imports crate::{name}, which does not stand below it"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// For each file of a folder, the names of its siblings that it imports.
fn siblings(folder: &str, code: &BTreeMap<String, String>) -> BTreeMap<String, BTreeSet<String>> {
    let prefix = format!("{folder}/");
    let inside = |file: &str| {
        file.strip_prefix(&prefix)
            .map(|rest| rest.split(['/', '.']).next().unwrap_or_default().to_owned())
    };
    let modules: BTreeSet<String> = code
        .keys()
        .filter_map(|file| inside(file))
        .filter(|name| name != "mod")
        .collect();
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (file, code) in code {
        let Some(module) = inside(file).filter(|name| name != "mod") else {
            continue;
        };
        let mut names = named_after(code, &format!("crate::{folder}::"));
        if file.matches('/').count() == 1 {
            names.extend(named_after(code, "super::"));
        }
        let known = names
            .into_iter()
            .filter(|name| modules.contains(*name) && **name != module);
        imports
            .entry(module.clone())
            .or_default()
            .extend(known.map(str::to_owned));
    }
    imports
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
        .filter_map(|file| file.split_once('/'))
        .map(|(folder, _)| folder)
        .collect();
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
            let named = !named_after(&code, &format!("{name}::")).is_empty();
            if named && !doors.iter().any(|door| file.starts_with(door)) {
                wrong.push(format!(
                    "src/{file} names the crate {name}, whose door is {}",
                    doors.join(", ")
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_stay_short() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in code().keys() {
        let lines = fs::read_to_string(src.join(file))
            .expect("a source file")
            .lines()
            .count();
        assert!(lines <= 440, "src/{file} has {lines} lines: split it");
    }
}
