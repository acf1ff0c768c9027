//! Steps and heads that try each documented key: with and without it, with values of its type and of others.

use std::collections::BTreeMap;
use std::fs;

use super::keys::{Documented, Key, Need};
use crate::support::Dir;
use crate::support::binary::{Ended, farewell};

/// A table of the configuration, and whether it is right.
pub struct Case {
    /// What is tried, for messages.
    pub told: String,
    /// `[farewell]` or a step without its name: keys and values in TOML, in order.
    pub keys: Vec<(String, String)>,
    pub is_step: bool,
    pub is_right: bool,
    /// The keys of which one is told to be wrong, where it is.
    pub about: Vec<String>,
}

impl Case {
    /// It as a whole file, as step number `number`.
    pub fn text(&self, number: usize) -> String {
        let mut text = match self.is_step {
            true => "[[step]]\n".to_owned(),
            false => "[farewell]\n".to_owned(),
        };
        let mut tables: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (key, value) in &self.keys {
            match key.split_once('.') {
                Some((table, key)) => {
                    tables
                        .entry(table)
                        .or_default()
                        .push(format!("{key} = {value}"));
                }
                None if key == "name" && value == NAME => {
                    text += &format!("name = \"s{number}\"\n")
                }
                None => text += &format!("{key} = {value}\n"),
            }
        }
        for (table, entries) in tables {
            text += &format!("{table} = {{ {} }}\n", entries.join(", "));
        }
        text
    }
}

/// Stands for a name that no other step has.
const NAME: &str = "\"NAME\"";

/// A kind with its member, as a step of it is configured: what it is called, and all its keys.
pub struct Shape<'a> {
    pub told: String,
    /// `kind = "deregister"`, `registry = "etcd"`.
    pub words: Vec<(String, String)>,
    pub keys: Vec<&'a Key>,
    pub is_step: bool,
}

/// Everything that can be configured: `[farewell]`, each kind, each member.
pub fn shapes(documented: &Documented) -> Vec<Shape<'_>> {
    let head = Shape {
        told: "[farewell]".to_owned(),
        words: Vec::new(),
        keys: documented.settings.iter().collect(),
        is_step: false,
    };
    let mut shapes = vec![head];
    for kind in &documented.kinds {
        let word = |key: &str, name: &str| (key.to_owned(), format!("\"{name}\""));
        let words = vec![word("kind", &kind.name)];
        let keys: Vec<&Key> = documented.step.iter().chain(&kind.keys).collect();
        match documented.members_of(kind) {
            None => {
                shapes.push(Shape {
                    told: kind.name.clone(),
                    words,
                    keys,
                    is_step: true,
                });
            }
            Some((key, members)) => shapes.extend(members.iter().map(|member| Shape {
                told: format!("{} {}", kind.name, member.name),
                words: [words.clone(), vec![word(key, &member.name)]].concat(),
                keys: keys.iter().copied().chain(&member.keys).collect(),
                is_step: true,
            })),
        }
    }
    shapes
}

impl Shape<'_> {
    fn key(&self, name: &str) -> &Key {
        self.keys
            .iter()
            .find(|key| key.name == name)
            .unwrap_or_else(|| {
                panic!(
                    "{} has no key {name}, which another one of it names",
                    self.told
                )
            })
    }

    fn good(&self, key: &Key) -> String {
        if let Some((_, word)) = self.words.iter().find(|(name, _)| *name == key.name) {
            return word.clone();
        }
        match key.name.as_str() {
            "name" => NAME.to_owned(),
            // A step's own name, which is no other step's.
            "after" | "before" => "[]".to_owned(),
            name => match &self.needed_in(name)[..] {
                [] => key.value.good(),
                needed => {
                    let entry = |it: &&Key| format!("{} = {}", leaf(&it.name), self.good(it));
                    let entries: Vec<String> = needed.iter().map(entry).collect();
                    format!("{{ {} }}", entries.join(", "))
                }
            },
        }
    }

    /// What must be there in this table, where it is there itself.
    fn needed_in(&self, table: &str) -> Vec<&Key> {
        let is_in = |it: &&Key| {
            it.name
                .rsplit_once('.')
                .is_some_and(|(its, _)| its == table)
        };
        let keys = self.keys.iter().copied().filter(is_in);
        keys.filter(|it| it.need == Need::Required).collect()
    }

    /// The base, and what must be there beside `key` in the tables that it is in.
    fn base_of(&self, key: &Key) -> Vec<(String, String)> {
        let mut keys = self.base();
        for (at, _) in key.name.match_indices('.') {
            let needed = self.needed_in(&key.name[..at]).into_iter();
            keys.extend(needed.map(|it| (it.name.clone(), self.good(it))));
        }
        keys
    }

    /// What must be there.
    fn base(&self) -> Vec<(String, String)> {
        let is_needed = |key: &&&Key| match &key.need {
            Need::Required => !key.name.contains('.'),
            Need::Default(_) => false,
            Need::OneOf(names) => names[0] == key.name,
        };
        let needed = self.keys.iter().filter(is_needed);
        needed
            .map(|key| (key.name.clone(), self.good(key)))
            .collect()
    }

    /// The base with this key, this value, and what it can only be with.
    fn with(&self, key: &Key, value: &str) -> Vec<(String, String)> {
        let mut keys = self.base_of(key);
        keys.retain(|(name, _)| *name != key.name);
        if let Need::OneOf(names) = &key.need {
            keys.retain(|(name, _)| !names.contains(name));
        }
        let mut partners = key.only_with.clone();
        while let Some(partner) = partners.pop() {
            if !keys.iter().any(|(name, _)| *name == partner) && partner != key.name {
                let other = self.key(&partner);
                keys.push((partner, self.good(other)));
                partners.extend(other.only_with.clone());
            }
        }
        keys.push((key.name.clone(), value.to_owned()));
        keys
    }

    fn case(&self, told: &str, key: &Key, keys: Vec<(String, String)>, is_right: bool) -> Case {
        Case {
            told: format!("{}: {} {told}", self.told, key.name),
            keys,
            is_step: self.is_step,
            is_right,
            about: vec![key.name.clone()],
        }
    }

    /// All that is tried of it.
    pub fn cases(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for key in &self.keys {
            let good = self.with(key, &self.good(key));
            if key.need == Need::Required {
                let without = good.iter().filter(|(name, _)| *name != key.name).cloned();
                let mut without: Vec<(String, String)> = without.collect();
                // The table itself stays.
                if let Some((table, _)) = key.name.rsplit_once('.') {
                    without.push((table.to_owned(), "{}".to_owned()));
                }
                cases.push(self.case("left out", key, without, false));
            }
            if let Need::OneOf(names) = &key.need {
                let other = names
                    .iter()
                    .find(|name| **name != key.name)
                    .expect("another one");
                let both = [
                    good.clone(),
                    vec![(other.clone(), self.good(self.key(other)))],
                ];
                cases.push(self.case("and another one", key, both.concat(), false));
                let none = good.iter().filter(|(name, _)| *name != key.name).cloned();
                cases.push(self.case("and no other", key, none.collect(), false));
            }
            cases.push(self.case("with a value", key, good.clone(), true));
            if let Some(list) = key.value.list() {
                cases.push(self.case("with a list", key, self.with(key, &list), true));
            }
            if let Some(default) = key.default() {
                cases.push(self.case("with its default", key, self.with(key, default), true));
            }
            for bad in key.value.bad() {
                let told = format!("= {bad}");
                cases.push(self.case(&told, key, self.with(key, &bad), false));
            }
            if !key.only_with.is_empty() {
                let mut alone = self.base_of(key);
                alone.retain(|(name, _)| *name != key.name);
                alone.push((key.name.clone(), self.good(key)));
                // A table is there where a key of it is.
                let table = key.name.split('.').next().expect("a part");
                if !key.only_with.iter().all(|it| it == table) {
                    let mut case = self.case("alone", key, alone, false);
                    case.about.extend(key.only_with.clone());
                    cases.push(case);
                }
            }
            for other in &key.not_with {
                let both = self.with(key, &self.good(key));
                let both = [both, vec![(other.clone(), self.good(self.key(other)))]].concat();
                let mut case = self.case(&format!("beside {other}"), key, both, false);
                case.about.push(other.clone());
                cases.push(case);
            }
            let mut unknown = good;
            unknown.push(("no-such-key".to_owned(), "1".to_owned()));
            let case = self.case("beside a key that nobody knows", key, unknown, false);
            cases.push(Case {
                about: vec!["no-such-key".to_owned()],
                ..case
            });
        }
        cases
    }
}

/// The last part of a key's name.
fn leaf(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// What the program says of each case: its errors, one a line.
pub fn checked(cases: &[Case]) -> Vec<Vec<String>> {
    let dir = Dir::new("reference-cases");
    let mut texts: Vec<(String, std::ops::Range<usize>)> = Vec::new();
    let (mut at, mut steps) = (0, String::new());
    let mut lines_of: Vec<std::ops::Range<usize>> = Vec::new();
    // Steps are told apart by their lines in one file; there is one [farewell] in a file.
    for (number, case) in cases.iter().enumerate() {
        let text = case.text(number);
        if case.is_step {
            let lines = text.lines().count();
            lines_of.push(at + 1..at + 1 + lines);
            at += lines;
            steps += &text;
        } else {
            lines_of.push(0..0);
            texts.push((text, number..number + 1));
        }
    }
    let check = |text: &str| {
        let path = dir.file("farewell.toml");
        fs::write(&path, text).expect("written");
        let said = Ended::of(farewell().args(["check", "--image", "--config", &path]));
        let errors = said
            .stderr
            .lines()
            .filter(|line| !line.contains(": warning: "));
        errors.map(str::to_owned).collect::<Vec<String>>()
    };
    let line = |error: &str| {
        let (_, rest) = error.split_once("farewell.toml:")?;
        rest.split(':').next()?.parse::<usize>().ok()
    };
    let told = check(&steps);
    let mut of_steps: Vec<Vec<String>> = lines_of
        .iter()
        .map(|lines| {
            let own = told
                .iter()
                .filter(|it| line(it).is_some_and(|at| lines.contains(&at)));
            own.cloned().collect()
        })
        .collect();
    let told_of: usize = of_steps.iter().map(Vec::len).sum();
    assert_eq!(told_of, told.len(), "errors of no step: {told:?}");
    for (text, number) in texts {
        of_steps[number.start] = check(&text);
    }
    of_steps
}
