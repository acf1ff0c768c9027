//! The reference: manual pages, completions and the JSON Schema are made of the sources, and say what the program does.
//!
//! `FAREWELL_UPDATE_REFERENCE=1 cargo test --test reference` makes the committed files anew.

mod support;

#[path = "reference/cases.rs"]
mod cases;
#[path = "reference/keys.rs"]
mod keys;
#[path = "reference/pages.rs"]
mod pages;
#[path = "reference/roff.rs"]
mod roff;
#[path = "reference/schema.rs"]
mod schema;
#[path = "reference/values.rs"]
mod values;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::CommandFactory as _;
use clap_complete::Shell;

use farewell::cli::Cli;
use farewell::clusters::CLUSTERS;
use farewell::locks::VIAS;
use farewell::registries::REGISTRIES;
use farewell::steps::KINDS;

use cases::{Case, checked, shapes};
use keys::{Documented, Member, sources};
use pages::PAGES;
use support::Dir;
use support::program::{Said, farewell};

fn place(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(place(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

const SCHEMA: &str = "units/farewell.schema.json";

/// Everything that is made: where it is committed, and its text.
fn made() -> Vec<(String, String)> {
    let documented = Documented::read();
    let page = |(name, template): (&str, &str)| {
        (format!("manual/{name}"), pages::page(name, template, &documented))
    };
    let completion = |(shell, name): (Shell, &str)| {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "farewell", &mut text);
        let text = String::from_utf8(text).expect("UTF-8");
        (format!("units/completions/{name}"), text)
    };
    let completions =
        [(Shell::Bash, "farewell.bash"), (Shell::Zsh, "_farewell"), (Shell::Fish, "farewell.fish")];
    let mut made: Vec<(String, String)> = PAGES.into_iter().map(page).collect();
    made.extend(completions.into_iter().map(completion));
    made.push((SCHEMA.to_owned(), schema::schema(&documented)));
    made
}

#[test]
fn what_is_committed_is_what_is_made() {
    for (path, text) in made() {
        if std::env::var_os("FAREWELL_UPDATE_REFERENCE").is_some() {
            fs::create_dir_all(place(&path).parent().expect("a folder")).expect("made");
            fs::write(place(&path), &text).expect("written");
        }
        let committed = fs::read_to_string(place(&path)).unwrap_or_default();
        assert!(committed == text, "{path} is another one: FAREWELL_UPDATE_REFERENCE=1 makes it anew");
    }
}

#[test]
fn every_kind_and_member_is_documented() {
    let documented = Documented::read();
    let names = |members: &[Member]| -> BTreeSet<String> {
        members.iter().map(|it| it.name.clone()).collect()
    };
    let known = |names: &mut dyn Iterator<Item = &'static str>| -> BTreeSet<String> {
        names.map(str::to_owned).collect()
    };
    assert_eq!(names(&documented.kinds), known(&mut KINDS.iter().map(|it| it.name)));
    for (key, members) in &documented.members {
        let known = match *key {
            "registry" => known(&mut REGISTRIES.iter().map(|it| it.name)),
            "cluster" => known(&mut CLUSTERS.iter().map(|it| it.name)),
            _ => known(&mut VIAS.iter().map(|it| it.name)),
        };
        assert_eq!(names(members), known, "{key}");
    }
}

/// Every word that stands as a string in src/ and could be a key.
fn candidates() -> BTreeSet<String> {
    let is_key = |word: &&str| {
        word.len() < 40
            && word.starts_with(|it: char| it.is_ascii_lowercase())
            && word.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-')
    };
    let sources = sources();
    let words = sources.values().flat_map(|text| text.split('"')).filter(is_key);
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
    let said = Said::by(farewell().args(["check", "--image", "--config", &path]));
    let prefix = match table {
        "" => String::new(),
        table => format!("{table}."),
    };
    let is_unknown = |key: &&String| said.stderr.contains(&format!("key \"{prefix}{key}\": unknown key"));
    assert!(candidates.iter().any(|it| is_unknown(&it)), "{said:?}");
    candidates.iter().filter(|it| !is_unknown(it)).cloned().collect()
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
        let words: Vec<String> =
            shape.words.iter().map(|(key, word)| format!("{key} = {word}")).collect();
        let before = format!("{head}\n{}", words.join("\n"));
        let mut others = candidates.clone();
        let is_word = |key: &str| shape.words.iter().any(|(name, _)| name == key);
        others.retain(|it| !is_word(it) && !(shape.is_step && it == "name"));
        let documented: BTreeSet<String> = shape.keys.iter().map(|it| it.name.clone()).collect();
        let mut own = documented.clone();
        own.retain(|it| !it.contains('.') && !is_word(it) && !(shape.is_step && it == "name"));
        assert_eq!(taken(&before, "", &others), own, "{told}: taken, documented");
        let tables = documented.iter().filter_map(|it| it.split_once('.').map(|it| it.0));
        for table in tables.collect::<BTreeSet<&str>>() {
            let below = documented.iter().filter_map(|it| it.strip_prefix(&format!("{table}.")));
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
        let text = format!("[[step]]\nname = \"a\"\nkind = \"command\"\nargv = [{}]\n", facts.join(", "));
        fs::write(&path, text).expect("written");
        Said::by(farewell().args(["check", "--image", "--config", &path])).stderr
    };
    let forms = documented.facts.iter().map(|(form, _)| form.replace("PATH", "/a").replace("POINTER", "b"));
    let told = check(&mut forms.filter(|it| !it.contains("credential")));
    assert_eq!(told, "", "documented, and not known");
    let candidates = candidates();
    let told = check(&mut candidates.iter().map(|it| format!("${{{it}}}")));
    let is_unknown = |it: &&String| told.contains(&format!("unknown fact ${{{it}}}"));
    let known: BTreeSet<&str> = candidates.iter().filter(|it| !is_unknown(it)).map(String::as_str).collect();
    let name = |form: &'_ str| form.trim_matches(['$', '{', '}']).split(':').next().map(str::to_owned);
    let documented: BTreeSet<String> = documented.facts.iter().filter_map(|it| name(&it.0)).collect();
    assert_eq!(known, documented.iter().map(String::as_str).collect());
}

/// What the schema says of each document: its problems.
fn validated(texts: &[String]) -> Vec<Vec<String>> {
    let mut python = Command::new(place("tests/reference/validate.py"))
        .arg(place(SCHEMA))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let documents = serde_json::to_vec(texts).expect("JSON");
    let mut pipe = python.stdin.take().expect("a pipe");
    let writing = std::thread::spawn(move || pipe.write_all(&documents));
    let output = python.wait_with_output().expect("it ends");
    writing.join().expect("no panic").expect("written");
    assert!(output.status.success(), "validate.py: {}", output.status);
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn program_and_schema_agree_on_every_key() {
    let documented = Documented::read();
    let cases: Vec<Case> = shapes(&documented).iter().flat_map(|shape| shape.cases()).collect();
    assert!(cases.len() > 1000, "{}", cases.len());
    let texts: Vec<String> = cases.iter().enumerate().map(|(at, case)| case.text(at)).collect();
    let mut wrong = Vec::new();
    for (at, (case, (errors, problems))) in
        cases.iter().zip(checked(&cases).into_iter().zip(validated(&texts))).enumerate()
    {
        let told = format!("{}\n{}check: {errors:?}\nschema: {problems:?}\n", case.told, case.text(at));
        let is_about = |error: &String| case.about.iter().any(|key| error.contains(key));
        let is_told = errors.iter().any(is_about);
        if errors.is_empty() != case.is_right || is_told == case.is_right {
            wrong.push(format!("the program: {told}"));
        }
        if problems.is_empty() != case.is_right {
            wrong.push(format!("the schema: {told}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
