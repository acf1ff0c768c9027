//! That the schema takes what the program takes, and nothing else as far as it can see.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use super::SCHEMA;
use super::cases::{Case, checked, shapes};
use super::keys::Documented;
use super::pages::{self, PAGES};
use super::tree::{blocks, files, place, read};
use crate::support::Dir;
use crate::support::binary::{Ended, farewell};

/// What the schema says of each document: its problems.
fn validated(texts: &[String]) -> Vec<Vec<String>> {
    let mut python = Command::new(place("tests/integration/reference/validate.py"))
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
#[ignore = "needs python3-jsonschema; tests/run has it"]
fn program_and_schema_agree_on_every_key() {
    let documented = Documented::read();
    let cases: Vec<Case> = shapes(&documented)
        .iter()
        .flat_map(|shape| shape.cases())
        .collect();
    assert!(cases.len() > 1000, "{}", cases.len());
    let texts: Vec<String> = cases
        .iter()
        .enumerate()
        .map(|(at, case)| case.text(at))
        .collect();
    let mut wrong = Vec::new();
    for (at, (case, (errors, problems))) in cases
        .iter()
        .zip(checked(&cases).into_iter().zip(validated(&texts)))
        .enumerate()
    {
        let told = format!(
            "{}\n{}check: {errors:?}\nschema: {problems:?}\n",
            case.told,
            case.text(at)
        );
        let is_about = |error: &String| case.about.iter().any(|key| error.contains(key));
        let is_told = errors.iter().any(is_about);
        if errors.is_empty() != case.is_right || is_told == case.is_right {
            wrong.push(format!("the program: {told}"));
        }
        if problems.is_empty() != case.is_right {
            wrong.push(format!("the schema: {told}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

#[test]
#[ignore = "needs python3-jsonschema; tests/run has it"]
fn every_sample_is_valid() {
    let mut samples: Vec<(String, String)> = Vec::new();
    let mut whole = files("units", ".toml");
    whole.push("tests/integration/vm/guest/farewell.toml".to_owned());
    samples.extend(whole.iter().map(|path| (path.clone(), read(path))));
    // What the sample suggests, without its marks.
    let suggested: Vec<String> = read("units/farewell.toml")
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with([' ', ':']) => rest.to_owned(),
            _ => line.to_owned(),
        })
        .collect();
    samples.push((
        "what units/farewell.toml suggests".to_owned(),
        suggested.join("\n"),
    ));
    let pages = files("units/manual", ".md")
        .into_iter()
        .chain(["README.md".to_owned()]);
    samples
        .extend(pages.flat_map(|path| blocks(&path).into_iter().map(move |it| (path.clone(), it))));
    for (name, template) in PAGES {
        samples.extend(
            pages::configurations(template)
                .into_iter()
                .map(|it| (name.to_owned(), it)),
        );
    }
    assert!(samples.len() > 20, "{}", samples.len());
    let texts: Vec<String> = samples.iter().map(|(_, text)| text.clone()).collect();
    for ((path, text), problems) in samples.iter().zip(validated(&texts)) {
        assert!(problems.is_empty(), "{path}: {problems:?}\n{text}");
    }
}

/// Configurations that are wrong in ways that no schema sees: in what names mean, in what is on the machine, and in sums.
const BEYOND_THE_SCHEMA: [&str; 16] = [
    "budget-zero",
    "credentials-in-sight",
    "credentials-missing",
    "cycle-after",
    "cycle-before",
    "duplicate-names-checked",
    "duplicate-names",
    "facts-late",
    "facts-missing",
    "facts-of-a-run",
    "facts-unknown",
    "huge-durations",
    "itself",
    "reserve-too-large",
    "tls-files",
    "unknown-names",
];

#[test]
#[ignore = "needs python3-jsonschema; tests/run has it"]
fn what_is_wrong_with_a_configuration_is_seen_as_far_as_a_schema_can() {
    let paths = files("tests/integration/configuration", ".toml");
    let texts: Vec<String> = paths
        .iter()
        .map(|path| String::from_utf8_lossy(&fs::read(place(path)).expect("a file")).into_owned())
        .collect();
    let (mut beyond, mut wrong) = (Vec::new(), Vec::new());
    for (path, problems) in paths.iter().zip(validated(&texts)) {
        let name = path
            .strip_prefix("tests/integration/configuration/")
            .expect("below");
        let name = name.strip_suffix(".toml").expect("its ending");
        let is_right = read(&format!("tests/integration/configuration/{name}.expected"))
            .starts_with("exit 0\n");
        match (is_right, problems.is_empty()) {
            (true, false) => wrong.push(format!("{path}: {problems:?}")),
            (false, true) => beyond.push(name),
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(beyond, BEYOND_THE_SCHEMA);
}

#[test]
#[ignore = "needs python3-jsonschema; tests/run has it"]
fn durations_are_those_of_the_program() {
    let step = |duration: &str| {
        format!(
            "[[step]]\nname = \"a\"\nkind = \"command\"\nargv = [\"a\"]\ngrace = \"{duration}\"\n"
        )
    };
    let durations = [
        "500ms",
        "90s",
        "2m",
        "1h 30m",
        "1h30m",
        "1.5s",
        "90 seconds",
        "1 hour, 2 minutes",
        "0s",
        "1us",
        "01:02:03",
        "${env:HOME}",
        "",
        "5",
        "-5s",
        "2 weeks",
        "1mo",
        "soon",
        "5s ago",
        "s",
        "1 2s",
        "1d",
    ];
    let texts: Vec<String> = durations.iter().map(|it| step(it)).collect();
    let dir = Dir::new("reference-durations");
    let path = dir.file("farewell.toml");
    for (text, problems) in texts.iter().zip(validated(&texts)) {
        fs::write(&path, text).expect("written");
        let said = Ended::of(farewell().args(["check", "--image", "--config", &path]));
        assert_eq!(
            said.code == 0,
            problems.is_empty(),
            "{text}{said:?}{problems:?}"
        );
    }
}
