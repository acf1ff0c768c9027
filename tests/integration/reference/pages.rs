//! The manual pages: templates beside this file, in which a line `@NAME ARGUMENT@` stands for
//! what is made of the sources, and lines that begin with `@|` are an example.

use clap::{Arg, ArgAction, Command, CommandFactory as _};

use farewell::app::cli::Cli;

use super::keys::{Documented, Key, Member, doc, sources};
use super::roff::{code, example, tagged, text};

/// What begins a line of an example in a template.
const EXAMPLE: &str = "@|";

/// The pages, by their names.
pub const PAGES: [(&str, &str); 3] = [
    ("farewell.8", include_str!("farewell.8.in")),
    ("farewell.service.8", include_str!("farewell.service.8.in")),
    ("farewell.toml.5", include_str!("farewell.toml.5.in")),
];

/// A page as it is committed.
pub fn page(name: &str, template: &str, documented: &Documented) -> String {
    let (title, section) = name.rsplit_once('.').expect("a section");
    let mut page = format!(
        ".\\\" Made from src/ and tests/integration/reference/{name}.in by: FAREWELL_UPDATE_REFERENCE=1 cargo test --test integration reference::\n\
         .nr HY 0\n\
         .TH {} {section} \"\" \"farewell {}\" \"farewell\"\n\
         .ad l\n",
        title.to_uppercase(),
        env!("CARGO_PKG_VERSION"),
    );
    let mut shown = String::new();
    for line in template.lines().chain([""]) {
        if let Some(line) = line.strip_prefix(EXAMPLE) {
            shown += &format!("{}\n", line.strip_prefix(' ').unwrap_or(line));
            continue;
        }
        if !shown.is_empty() {
            page += &example(&std::mem::take(&mut shown));
        }
        match line
            .strip_prefix('@')
            .and_then(|line| line.strip_suffix('@'))
        {
            Some(mark) => page += &made(mark, documented),
            None if line.is_empty() => {}
            None => page += &format!("{line}\n"),
        }
    }
    page
}

/// The examples of a template that are configurations.
pub fn configurations(template: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    for line in template.lines() {
        let last = found.last_mut().expect("one");
        match line.strip_prefix(EXAMPLE) {
            Some(line) => *last += &format!("{}\n", line.strip_prefix(' ').unwrap_or(line)),
            None if !last.is_empty() => found.push(String::new()),
            None => {}
        }
    }
    found.retain(|text| text.contains("[[step]]"));
    found
}

fn made(mark: &str, documented: &Documented) -> String {
    let (name, argument) = mark.split_once(' ').unwrap_or((mark, ""));
    match (name, argument) {
        ("synopsis", _) => synopsis(),
        ("options", _) => options(&Cli::command()),
        ("verbs", _) => verbs(),
        ("exit-codes", _) => exit_codes(),
        ("keys", "farewell") => keys(&documented.settings),
        ("keys", "step") => keys(&documented.step),
        ("keys", "http") => keys(&documented.peer),
        ("kinds", _) => documented
            .kinds
            .iter()
            .map(|it| member(it, "", documented))
            .collect(),
        ("members", key) => {
            let (_, members) = documented
                .members
                .iter()
                .find(|it| it.0 == key)
                .expect("a table");
            members
                .iter()
                .map(|it| member(it, key, documented))
                .collect()
        }
        ("facts", _) => {
            let fact = |(form, told): &(String, String)| {
                tagged(
                    &format!("\\fB{}\\fR", code(form)),
                    &[format!("{}.", text(&capital(told)))],
                )
            };
            documented.facts.iter().map(fact).collect()
        }
        _ => panic!("nothing is made of @{mark}@"),
    }
}

fn capital(told: &str) -> String {
    let mut told = told.to_owned();
    if told.is_char_boundary(1) {
        told[..1].make_ascii_uppercase();
    }
    told
}

fn keys(keys: &[Key]) -> String {
    let key = |key: &Key| {
        let told = format!("{}.", text(&capital(&key.text)));
        tagged(
            &format!("\\fB{}\\fR", code(&key.name)),
            &[text(&key.summary()), told],
        )
    };
    keys.iter().map(key).collect()
}

/// A kind, or a member of the table that `table` names.
fn member(member: &Member, table: &str, documented: &Documented) -> String {
    let heading = match table {
        "" => code(&member.name),
        table => code(&format!("{table} = \"{}\"", member.name)),
    };
    let (own, peer): (Vec<Key>, Vec<Key>) = member
        .keys
        .iter()
        .cloned()
        .partition(|key| key.origin != "Peer");
    let mut page = format!(
        ".SS {}\n{}\n",
        quoted(&heading),
        text(&capital(&member.sentence))
    );
    page += &keys(&own);
    if !peer.is_empty() {
        let names = |keys: &[&Key]| {
            let names: Vec<String> = keys.iter().map(|key| format!("`{}`", key.name)).collect();
            names.join(", ")
        };
        let missing: Vec<&Key> = documented
            .peer
            .iter()
            .filter(|key| !member.keys.iter().any(|own| own.name == key.name))
            .collect();
        let without = match missing.as_slice() {
            [] => String::new(),
            missing => format!(", but no {}", names(missing)),
        };
        let peer: Vec<&Key> = peer.iter().collect();
        let told = format!(
            "The keys that all HTTP peers have: {}{without}.",
            names(&peer)
        );
        page += &format!(".PP\n{}\n", text(&told));
    }
    page
}

/// An argument of a macro.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\\(dq"))
}

/// An option or argument as it is typed: in bold, its value in italics.
fn typed(arg: &Arg) -> String {
    let values = arg.get_value_names().unwrap_or_default();
    let value = values.first().map(|it| format!("\\fI{}\\fR", code(it)));
    match arg.get_long() {
        None => value.unwrap_or_default(),
        Some(long) => {
            let short = arg.get_short().map(|it| format!("\\fB\\-{it}\\fR, "));
            let value = match arg.get_action() {
                ArgAction::Set | ArgAction::Append => value.map(|it| format!(" {it}")),
                _ => None,
            };
            let long = code(long);
            format!(
                "{}\\fB\\-\\-{long}\\fR{}",
                short.unwrap_or_default(),
                value.unwrap_or_default()
            )
        }
    }
}

/// What of a command's help is told, a paragraph a line.
fn paragraphs(told: &str) -> Vec<String> {
    told.lines().map(|line| with_stop(&text(line))).collect()
}

fn with_stop(told: &str) -> String {
    match told.ends_with(['.', ':', ';']) {
        true => told.to_owned(),
        false => format!("{told}."),
    }
}

fn own_arguments(command: &Command) -> Vec<&Arg> {
    let own =
        |arg: &&Arg| !arg.is_hide_set() && !["help", "version"].contains(&arg.get_id().as_str());
    let is_verb = command.get_name() != "farewell";
    command
        .get_arguments()
        .filter(own)
        .filter(|arg| !(is_verb && arg.is_global_set()))
        .collect()
}

fn synopsis() -> String {
    let command = Cli::command();
    let line = |verb: &Command| {
        let shown = |arg: &&Arg| format!(" [{}]", typed(arg));
        let arguments: String = own_arguments(verb).iter().map(shown).collect();
        format!(
            "\\fBfarewell {}\\fR{arguments} [\\fIOPTIONS\\fR]",
            verb.get_name()
        )
    };
    let lines: Vec<String> = command.get_subcommands().map(line).collect();
    format!("{}\n", lines.join("\n.br\n"))
}

fn options(command: &Command) -> String {
    let option = |arg: &&Arg| {
        let mut told = with_stop(&text(
            &arg.get_help().map(ToString::to_string).unwrap_or_default(),
        ));
        let values = arg.get_possible_values();
        let is_flag = matches!(arg.get_action(), ArgAction::SetTrue);
        if !values.is_empty() && !is_flag {
            let names: Vec<String> = values
                .iter()
                .map(|value| format!("`{}`", value.get_name()))
                .collect();
            told += &text(&format!(" One of {}.", names.join(", ")));
        }
        if let [default] = arg.get_default_values()
            && !is_flag
        {
            told += &text(&format!(" Default: `{}`.", default.display()));
        }
        tagged(&typed(arg), &[told])
    };
    own_arguments(command).iter().map(option).collect()
}

fn verbs() -> String {
    let command = Cli::command();
    let verb = |verb: &Command| {
        let about = verb
            .get_about()
            .map(ToString::to_string)
            .unwrap_or_default();
        let more = verb
            .get_after_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        let lines = [paragraphs(&about), paragraphs(&more)]
            .concat()
            .join("\n.PP\n");
        let heading = format!("farewell {}", verb.get_name());
        format!(".SS {}\n{lines}\n{}", quoted(&heading), options(verb))
    };
    command.get_subcommands().map(verb).collect()
}

/// The codes of `app::cli::exit`, by their doc comments.
fn exit_codes() -> String {
    let sources = sources();
    let code_of = |line: &str| {
        let (name, value) = line.strip_prefix("    pub const ")?.split_once(": u8 = ")?;
        let told = doc(&sources["app/cli.rs"], &format!("    pub const {name}:"))?.join(" ");
        Some(tagged(
            &format!("\\fB{}\\fR", value.trim_end_matches(';')),
            &[text(&told)],
        ))
    };
    let codes: Vec<String> = sources["app/cli.rs"].lines().filter_map(code_of).collect();
    assert!(codes.len() > 5, "{codes:?}");
    codes.concat()
}

/// The variables of the environment that src/ asks for by their names.
pub fn variables() -> Vec<String> {
    let mut found = Vec::new();
    for text in sources().values() {
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for mark in ["env::var(\"", "env::var_os(\"", "variable(\""] {
            let names = code
                .split(mark)
                .skip(1)
                .filter_map(|rest| rest.split('"').next());
            found.extend(names.map(str::to_owned));
        }
    }
    found.sort();
    found.dedup();
    found
}
