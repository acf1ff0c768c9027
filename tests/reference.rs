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
use keys::{Documented, Member, is_readable, sources};
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
        (
            format!("manual/{name}"),
            pages::page(name, template, &documented),
        )
    };
    let completion = |(shell, name): (Shell, &str)| {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "farewell", &mut text);
        let text = String::from_utf8(text).expect("UTF-8");
        (format!("units/completions/{name}"), text)
    };
    let completions = [
        (Shell::Bash, "farewell.bash"),
        (Shell::Zsh, "_farewell"),
        (Shell::Fish, "farewell.fish"),
    ];
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
        assert!(
            committed == text,
            "{path} is another one: FAREWELL_UPDATE_REFERENCE=1 makes it anew"
        );
    }
}

#[test]
fn a_key_that_is_not_documented_as_all_are_is_not_read() {
    assert!(is_readable(
        "`a` (string; default none; only with `b`): text"
    ));
    for wrong in [
        "`a`: text",
        "`a` (text; required): text",
        "`a` (string): text",
        "`a` (string; optional): text",
        "`a` (string; required; beside `b`): text",
        "`a` (string; required; only with b): text",
        "`a` (string; required): ",
        "`a` (string; required): text.",
        "a (string; required): text",
        "`a` (string; exactly one of b): text",
        "those of each [`Peer`]",
        "those of every [`Peer`] but `user`",
    ] {
        assert!(!is_readable(wrong), "{wrong}");
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
    assert_eq!(
        names(&documented.kinds),
        known(&mut KINDS.iter().map(|it| it.name))
    );
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
    let said = Said::by(farewell().args(["check", "--image", "--config", &path]));
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
        let is_word = |key: &str| shape.words.iter().any(|(name, _)| name == key);
        others.retain(|it| !is_word(it) && !(shape.is_step && it == "name"));
        let documented: BTreeSet<String> = shape.keys.iter().map(|it| it.name.clone()).collect();
        let mut own = documented.clone();
        own.retain(|it| !it.contains('.') && !is_word(it) && !(shape.is_step && it == "name"));
        assert_eq!(
            taken(&before, "", &others),
            own,
            "{told}: taken, documented"
        );
        let tables = documented
            .iter()
            .filter_map(|it| it.split_once('.').map(|it| it.0));
        for table in tables.collect::<BTreeSet<&str>>() {
            let below = documented
                .iter()
                .filter_map(|it| it.strip_prefix(&format!("{table}.")));
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
            "[[step]]\nname = \"a\"\nkind = \"command\"\nargv = [{}]\n",
            facts.join(", ")
        );
        fs::write(&path, text).expect("written");
        Said::by(farewell().args(["check", "--image", "--config", &path])).stderr
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

/// The blocks of TOML in a page of Markdown.
fn blocks(path: &str) -> Vec<String> {
    let text = read(path);
    let blocks = text.split("```toml\n").skip(1);
    let blocks: Vec<String> = blocks
        .map(|rest| rest.split("```").next().unwrap_or_default().to_owned())
        .collect();
    assert!(!blocks.is_empty(), "{path} has no example");
    blocks
}

/// The files of a folder with this ending.
fn files(folder: &str, ending: &str) -> Vec<String> {
    let entries = fs::read_dir(place(folder)).expect("a folder");
    let name = |entry: fs::DirEntry| entry.file_name().into_string().expect("UTF-8");
    let mut names: Vec<String> = entries.map(|it| name(it.expect("an entry"))).collect();
    names.retain(|it| it.ends_with(ending));
    names.sort();
    names
        .into_iter()
        .map(|it| format!("{folder}/{it}"))
        .collect()
}

#[test]
fn every_sample_is_valid() {
    let mut samples: Vec<(String, String)> = Vec::new();
    let mut whole = files("units", ".toml");
    whole.push("tests/vm/guest/farewell.toml".to_owned());
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
    let pages = files("manual", ".md")
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
const BEYOND_THE_SCHEMA: [&str; 15] = [
    "budget-zero",
    "credentials-in-sight",
    "credentials-missing",
    "cycle-after",
    "cycle-before",
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
fn what_is_wrong_with_a_configuration_is_seen_as_far_as_a_schema_can() {
    let paths = files("tests/configuration", ".toml");
    let texts: Vec<String> = paths
        .iter()
        .map(|path| String::from_utf8_lossy(&fs::read(place(path)).expect("a file")).into_owned())
        .collect();
    let (mut beyond, mut wrong) = (Vec::new(), Vec::new());
    for (path, problems) in paths.iter().zip(validated(&texts)) {
        let name = path.strip_prefix("tests/configuration/").expect("below");
        let name = name.strip_suffix(".toml").expect("its ending");
        let is_right =
            read(&format!("tests/configuration/{name}.expected")).starts_with("exit 0\n");
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
        let said = Said::by(farewell().args(["check", "--image", "--config", &path]));
        assert_eq!(
            said.code == 0,
            problems.is_empty(),
            "{text}{said:?}{problems:?}"
        );
    }
}

#[test]
fn the_pages_examples_are_configurations_without_a_problem() {
    let dir = Dir::new("reference-examples");
    let path = dir.file("farewell.toml");
    let mut examples = 0;
    for (name, template) in PAGES {
        for text in pages::configurations(template) {
            fs::write(&path, &text).expect("written");
            let said = Said::by(farewell().args(["check", "--image", "--config", &path]));
            assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{name}: {text}");
            examples += 1;
        }
    }
    assert!(examples >= 3, "{examples}");
}

#[test]
fn nothing_is_wrong_with_the_pages() {
    for (name, _) in PAGES {
        let path = place(&format!("manual/{name}"));
        let mut man = Command::new("man");
        man.args(["--warnings", "-E", "UTF-8", "-l"])
            .arg(&path)
            .env("LC_ALL", "C.UTF-8");
        let said = Said::by(&mut man);
        assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{name}");
        assert!(said.stdout.contains("SEE ALSO"), "{name}: {}", said.stdout);
        let said = Said::by(
            Command::new("mandoc")
                .args(["-T", "lint", "-W", "warning"])
                .arg(&path),
        );
        // A date would make the page another one at each build.
        let meant = "WARNING: missing date, using \"\": TH";
        let told: Vec<&str> = said.stdout.lines().chain(said.stderr.lines()).collect();
        assert!(
            told.len() == 1 && told[0].ends_with(meant),
            "{name}: {told:?}"
        );
    }
}

/// A page as people read it.
fn shown(name: &str) -> String {
    read(&format!("manual/{name}")).replace("\\-", "-")
}

#[test]
fn everything_that_is_installed_is_named_in_the_page_of_the_units() {
    let dir = Dir::new("reference-installed");
    let mut install = Command::new(place("packer/install.sh"));
    install
        .args(["--stage", "--binary", env!("CARGO_BIN_EXE_farewell")])
        .env("DESTDIR", &dir.0);
    let said = Said::by(&mut install);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""));
    let installed: Vec<&str> = said
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("installed "))
        .collect();
    let page = shown("farewell.service.8");
    for path in &installed {
        assert!(
            dir.0
                .join(path.trim_start_matches('/'))
                .symlink_metadata()
                .is_ok(),
            "{path}"
        );
        let is_text = path.contains("/share/doc/") && !path.ends_with(".conf");
        if is_text || path.contains("/share/man/") || path.ends_with("/bin/farewell") {
            continue;
        }
        let name = path.rsplit('/').next().expect("a name");
        let named = if name == "farewell" { path } else { name };
        assert!(
            page.contains(named),
            "farewell.service(8) does not name {path}"
        );
    }
    for (name, _) in PAGES {
        let section = name.rsplit('.').next().expect("a section");
        let path = format!("/usr/share/man/man{section}/{name}");
        assert!(installed.contains(&path.as_str()), "{path}: {installed:?}");
    }
}

#[test]
fn every_variable_of_the_environment_is_in_the_page_of_the_program() {
    let page = shown("farewell.8");
    let variables = pages::variables();
    assert!(variables.len() > 8, "{variables:?}");
    for variable in variables {
        assert!(
            page.contains(&format!("\\fB{variable}\\fR")),
            "farewell(8) does not name {variable}"
        );
    }
}

/// What bash offers for the last of these words.
fn completed(words: &[&str]) -> Vec<String> {
    let script = "source \"$1\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); \
        function=$(complete -p farewell | sed 's/.*-F \\([^ ]*\\).*/\\1/'); \
        \"$function\" farewell \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD-1]}\"; \
        printf '%s\\n' \"${COMPREPLY[@]}\"";
    let file = place("units/completions/farewell.bash");
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", script, "bash"])
        .arg(file)
        .args(words);
    let said = Said::by(&mut bash);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{words:?}");
    said.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_verbs_options_and_triggers() {
    assert_eq!(completed(&["farewell", "ru"]), ["run"]);
    assert_eq!(completed(&["farewell", "check", "--im"]), ["--image"]);
    let triggers = [
        "poweroff",
        "halt",
        "reboot",
        "kexec",
        "soft-reboot",
        "stop",
        "restart",
    ];
    assert_eq!(completed(&["farewell", "run", "--trigger", ""]), triggers);
    assert_eq!(
        completed(&["farewell", "run", "--trigger", "ke"]),
        ["kexec"]
    );
}

#[test]
fn fish_and_zsh_read_their_completions() {
    let fish =
        "source $argv[1]; complete -C 'farewell ru'; complete -C 'farewell run --trigger ke'";
    let file = place("units/completions/farewell.fish");
    let home = Dir::new("reference-fish");
    let mut command = Command::new("fish");
    command
        .args(["--no-config", "-c", fish])
        .arg(file)
        .env("HOME", &home.0);
    let said = Said::by(&mut command);
    assert_eq!(said.stderr, "");
    let words: Vec<&str> = said
        .stdout
        .lines()
        .filter_map(|line| line.split('\t').next())
        .collect();
    assert_eq!(words, ["run", "kexec"], "{said:?}");
    let said = Said::by(
        Command::new("zsh")
            .arg("-n")
            .arg(place("units/completions/_farewell")),
    );
    assert_eq!((said.code, said.stderr.as_str()), (0, ""));
    assert!(read("units/completions/_farewell").starts_with("#compdef farewell\n"));
}
