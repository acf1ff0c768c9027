//! That the keys and facts that are documented are those that the program takes.

use std::collections::BTreeSet;
use std::fs;

use super::cases::shapes;
use super::keys::{Documented, sources};
use crate::support::Dir;
use crate::support::binary::{Ended, farewell};

/// Every word that stands as a string in src/ and could be a key.
fn candidates() -> BTreeSet<String> {
    let is_key = |word: &&str| {
        word.len() < 40
            && word.starts_with(|it: char| it.is_ascii_lowercase())
            && word
                .bytes()
                .all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-')
    };
    let sources = sources();
    let words = sources
        .values()
        .flat_map(|text| text.split('"'))
        .filter(is_key);
    words.map(str::to_owned).collect()
}

/// The keys that the program takes in a table, of all candidates: those that it does not call unknown.
fn taken(before: &str, table: &str, candidates: &BTreeSet<String>) -> BTreeSet<String> {
    let dir = Dir::new("reference-taken");
    let path = dir.file("farewell.toml");
    let entries: Vec<String> = candidates.iter().map(|it| format!("{it} = 1")).collect();
    let text = match table {
        "" => format!("{before}\n{}\n", entries.join("\n")),
        table => format!("{before}\n{table} = {{ {} }}\n", entries.join(", ")),
    };
    fs::write(&path, text).expect("written");
    let said = Ended::of(farewell().args(["check", "--image", "--config", &path]));
    let prefix = match table {
        "" => String::new(),
        table => format!("{table}."),
    };
    let is_unknown = |key: &&String| {
        said.stderr
            .contains(&format!("key \"{prefix}{key}\": unknown key"))
    };
    assert!(candidates.iter().any(|it| is_unknown(&it)), "{said:?}");
    candidates
        .iter()
        .filter(|it| !is_unknown(it))
        .cloned()
        .collect()
}

#[test]
fn the_documented_keys_are_those_that_are_taken() {
    let documented = Documented::read();
    let candidates = candidates();
    assert!(candidates.len() > 100, "{candidates:?}");
    for shape in shapes(&documented) {
        let told = &shape.told;
        let head = match shape.is_step {
            true => "[[step]]\nname = \"a\"",
            false => "[farewell]",
        };
        let words: Vec<String> = shape
            .words
            .iter()
            .map(|(key, word)| format!("{key} = {word}"))
            .collect();
        let before = format!("{head}\n{}", words.join("\n"));
        let mut others = candidates.clone();
        // What is there already.
        let is_given = |key: &str| {
            let is_word = shape.words.iter().any(|(name, _)| name == key);
            is_word || shape.is_step && key == "name"
        };
        others.retain(|it| !is_given(it));
        let documented: BTreeSet<String> = shape.keys.iter().map(|it| it.name.clone()).collect();
        let mut own = documented.clone();
        own.retain(|it| !it.contains('.') && !is_given(it));
        assert_eq!(
            taken(&before, "", &others),
            own,
            "{told}: taken, documented"
        );
        let tables = documented
            .iter()
            .filter_map(|it| it.rsplit_once('.').map(|it| it.0));
        for table in tables.collect::<BTreeSet<&str>>() {
            let below = documented
                .iter()
                .filter_map(|it| it.strip_prefix(&format!("{table}.")));
            let below = below.filter(|it| !it.contains('.'));
            let below: BTreeSet<String> = below.map(str::to_owned).collect();
            assert_eq!(taken(&before, table, &candidates), below, "{told}, {table}");
        }
    }
}

#[test]
fn the_documented_facts_are_those_that_are_known() {
    let documented = Documented::read();
    let check = |facts: &mut dyn Iterator<Item = String>| {
        let dir = Dir::new("reference-facts");
        let path = dir.file("farewell.toml");
        let facts: Vec<String> = facts.map(|it| format!("'{it}'")).collect();
        let text = format!(
            "[[step]]\nname = \"STEP\"\nkind = \"http\"\nurl = \"http://127.0.0.1:1\"\ncapture = {{ NAME = {{ pointer = \"/a\" }} }}\n\
             [[step]]\nname = \"a\"\nkind = \"command\"\nargv = [{}]\n",
            facts.join(", ")
        );
        fs::write(&path, text).expect("written");
        Ended::of(farewell().args(["check", "--image", "--config", &path])).stderr
    };
    let forms = documented
        .facts
        .iter()
        .map(|(form, _)| form.replace("PATH", "/a").replace("POINTER", "b"));
    let told = check(&mut forms.filter(|it| !it.contains("credential")));
    assert_eq!(told, "", "documented, and not known");
    let candidates = candidates();
    let told = check(&mut candidates.iter().map(|it| format!("${{{it}}}")));
    let is_unknown = |it: &&String| told.contains(&format!("unknown fact ${{{it}}}"));
    let known: BTreeSet<&str> = candidates
        .iter()
        .filter(|it| !is_unknown(it))
        .map(String::as_str)
        .collect();
    let name = |form: &'_ str| {
        form.trim_matches(['$', '{', '}'])
            .split(':')
            .next()
            .map(str::to_owned)
    };
    let documented: BTreeSet<String> = documented
        .facts
        .iter()
        .filter_map(|it| name(&it.0))
        .collect();
    assert_eq!(known, documented.iter().map(String::as_str).collect());
}
