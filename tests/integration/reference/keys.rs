//! The keys of the configuration, from the doc comments of src/. What they must look like:
//!
//! ```text
//! /// … Its keys:
//! ///
//! /// - those of every [`STRUCT`], without `KEY`
//! /// - `KEY` (TYPE; required): TEXT
//! /// - `KEY.KEY` (TYPE; default VALUE; only with `KEY`; not with `KEY`): TEXT
//! /// - `KEY` (TYPE; exactly one of `KEY`, `KEY`): TEXT
//! ```
//!
//! Such a list stands on the table entry of every kind and member (`pub const KIND: Kind`), and on the structs that read what
//! several of them have. TYPE is one of `Type::parse`; VALUE is a value of TOML, or words where there is none.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::values::Type;

/// Whether a key must be there.
#[derive(Clone, Debug, PartialEq)]
pub enum Need {
    Required,
    /// What holds without it.
    Default(String),
    /// One of these must be there, and no other of them.
    OneOf(Vec<String>),
}

/// One key.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// Its name, with that of the table around it: `until.status`.
    pub name: String,
    /// Where it is documented: `Peer`, or `registry = "etcd"`.
    pub origin: String,
    pub value: Type,
    pub need: Need,
    pub only_with: Vec<String>,
    pub not_with: Vec<String>,
    /// What it means, one sentence without its full stop; `code` in backticks.
    pub text: String,
}

impl Key {
    /// The default, where it is a value and no words.
    pub fn default(&self) -> Option<&str> {
        match &self.need {
            Need::Default(value) if value.parse::<toml::Value>().is_ok() => Some(value),
            _ => None,
        }
    }

    /// What stands in the parentheses, for people.
    pub fn summary(&self) -> String {
        let mut parts = vec![self.value.subject()];
        match &self.need {
            Need::Required => parts.push("required".to_owned()),
            Need::Default(value) => parts.push(format!("default {value}")),
            Need::OneOf(names) => parts.push(format!("exactly one of {}", list(names))),
        }
        let with = |word: &str, names: &[String]| {
            (!names.is_empty()).then(|| format!("{word} with {}", list(names)))
        };
        parts.extend(with("only", &self.only_with));
        parts.extend(with("not", &self.not_with));
        parts.join("; ")
    }
}

fn list(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

enum Item {
    Key(Key),
    Every {
        origin: String,
        without: Vec<String>,
    },
}

/// An entry of one of the tables: a kind, a registry, a cluster, a lock type.
pub struct Member {
    pub name: String,
    /// What it does, one sentence with its full stop.
    pub sentence: String,
    /// Its own keys, those of the structs that it reads among them.
    pub keys: Vec<Key>,
}

/// Everything that is documented.
pub struct Documented {
    /// Of `[farewell]`.
    pub settings: Vec<Key>,
    /// Of every step.
    pub step: Vec<Key>,
    /// Of everything that speaks HTTP.
    pub peer: Vec<Key>,
    pub kinds: Vec<Member>,
    /// By the key that names them: `registry`, `cluster`, `via`, `balancer`.
    pub members: Vec<(&'static str, Vec<Member>)>,
    /// What `${…}` can be, and what it stands for.
    pub facts: Vec<(String, String)>,
}

/// The tables: the key that an entry is named after, the constants, and the folders that they are in.
const TABLES: [(&str, &str, &str); 5] = [
    ("kind", "KIND", "steps"),
    ("registry", "MEMBER", "steps/deregister"),
    ("cluster", "MEMBER", "steps/wait_safe"),
    ("via", "MEMBER", "steps/lock"),
    ("balancer", "MEMBER", "steps/drain"),
];

/// The sources: path below src/ and text.
pub fn sources() -> BTreeMap<String, String> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => walk(&path, found),
                false => found.push(path),
            }
        }
    }
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&src, &mut found);
    let name = |path: &Path| {
        path.strip_prefix(&src)
            .expect("below")
            .display()
            .to_string()
    };
    let rust = found
        .iter()
        .filter(|path| path.extension().is_some_and(|it| it == "rs"));
    rust.map(|path| (name(path), fs::read_to_string(path).expect("a source file")))
        .collect()
}

/// The doc comment of the item that begins with `begin`, in lines without their marks.
pub fn doc<'a>(text: &'a str, begin: &str) -> Option<Vec<&'a str>> {
    let lines: Vec<&str> = text.lines().collect();
    let at = lines.iter().position(|line| line.starts_with(begin))?;
    let above = lines[..at].iter().rev();
    let mut doc: Vec<&str> = above
        .skip_while(|line| line.starts_with("#["))
        .map_while(|line| line.trim_start().strip_prefix("///"))
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect();
    doc.reverse();
    Some(doc)
}

/// The items of the list behind the paragraph that ends with `lead`, each on one line; `None` without such a paragraph.
pub fn items(doc: &[&str], lead: &str) -> Option<Vec<String>> {
    let at = doc.iter().position(|line| line.ends_with(lead))?;
    let mut items: Vec<String> = Vec::new();
    for line in doc[at + 1..].iter().skip_while(|line| line.is_empty()) {
        if let Some(item) = line.strip_prefix("- ") {
            items.push(item.to_owned());
        } else if let (Some(more), Some(item)) = (line.strip_prefix("  "), items.last_mut()) {
            *item += " ";
            *item += more;
        } else {
            assert!(line.is_empty(), "{line:?} stands in a list of keys");
            break;
        }
    }
    assert!(!items.is_empty(), "nothing is behind {lead:?}: {doc:?}");
    Some(items)
}

/// The names in "`a`, `b`".
fn names(text: &str) -> Option<Vec<String>> {
    text.split(", ")
        .map(|name| Some(name.strip_prefix('`')?.strip_suffix('`')?.to_owned()))
        .collect()
}

fn item(text: &str, origin: &str) -> Option<Item> {
    if let Some(rest) = text.strip_prefix("those of every [`") {
        let (origin, without) = rest.split_once("`]")?;
        let without = match without {
            "" => Vec::new(),
            without => names(without.strip_prefix(", without ")?)?,
        };
        return Some(Item::Every {
            origin: origin.to_owned(),
            without,
        });
    }
    let (name, rest) = text.strip_prefix('`')?.split_once("` (")?;
    let (parts, meaning) = rest.split_once("): ")?;
    let mut parts = parts.split("; ");
    let value = Type::parse(parts.next()?)?;
    let need = match parts.next()? {
        "required" => Need::Required,
        part => match part.strip_prefix("default ") {
            Some(value) => Need::Default(value.to_owned()),
            None => Need::OneOf(names(part.strip_prefix("exactly one of ")?)?),
        },
    };
    let (mut only_with, mut not_with) = (Vec::new(), Vec::new());
    for part in parts {
        match (
            part.strip_prefix("only with "),
            part.strip_prefix("not with "),
        ) {
            (Some(others), _) => only_with.extend(names(others)?),
            (_, Some(others)) => not_with.extend(names(others)?),
            _ => return None,
        }
    }
    if meaning.is_empty() || meaning.ends_with('.') || name.is_empty() {
        return None;
    }
    let (name, origin, text) = (name.to_owned(), origin.to_owned(), meaning.to_owned());
    Some(Item::Key(Key {
        name,
        origin,
        value,
        need,
        only_with,
        not_with,
        text,
    }))
}

/// Whether an item of a list of keys is as it must be.
pub fn is_readable(text: &str) -> bool {
    item(text, "").is_some()
}

/// The list of keys in a doc comment, where there is one.
fn keys(doc: &[&str], origin: &str) -> Option<Vec<Item>> {
    let read = |text: String| {
        item(&text, origin).unwrap_or_else(|| panic!("{origin}: no key can be read from {text:?}"))
    };
    Some(items(doc, "Its keys:")?.into_iter().map(read).collect())
}

/// The keys of a list with those that it takes from structs; what it says of a key itself wins.
fn whole(items: Vec<Item>, structs: &BTreeMap<String, String>) -> Vec<Key> {
    let mut all: Vec<Key> = Vec::new();
    let mut add = |key: Key, own: bool| match all.iter_mut().find(|it| it.name == key.name) {
        Some(known) => *known = key,
        // What is its own comes first.
        None if own => {
            let at = all
                .iter()
                .position(|it| it.origin != key.origin)
                .unwrap_or(all.len());
            all.insert(at, key);
        }
        None => all.push(key),
    };
    let (own, every): (Vec<Item>, Vec<Item>) = items
        .into_iter()
        .partition(|item| matches!(item, Item::Key(_)));
    for item in every.into_iter().chain(own) {
        match item {
            Item::Key(key) => add(key, true),
            Item::Every { origin, without } => of_struct(&origin, structs)
                .into_iter()
                .filter(|key| !without.contains(&key.name))
                .for_each(|key| add(key, false)),
        }
    }
    all
}

fn of_struct(name: &str, structs: &BTreeMap<String, String>) -> Vec<Key> {
    let text = structs
        .get(name)
        .unwrap_or_else(|| panic!("no struct {name} documents its keys"));
    let doc: Vec<&str> = text.lines().collect();
    whole(keys(&doc, name).expect("it was found by them"), structs)
}

/// The doc comments of all structs that have a list of keys, by their names.
fn structs(sources: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for text in sources.values() {
        for line in text.lines() {
            let line_of = line.strip_prefix("pub ").unwrap_or(line);
            let Some(name) = line_of.strip_prefix("struct ") else {
                continue;
            };
            let name = name.split([' ', '<', ';', '(']).next().expect("a name");
            let doc = doc(text, line).expect("it is there");
            if doc.iter().any(|it| it.ends_with("Its keys:")) {
                let twice = found.insert(name.to_owned(), doc.join("\n"));
                assert!(twice.is_none(), "two structs {name} document their keys");
            }
        }
    }
    found
}

/// The entries of a table: every file of its folder that has one.
fn members(
    (key, constant, folder): (&str, &str, &str),
    sources: &BTreeMap<String, String>,
    structs: &BTreeMap<String, String>,
) -> Vec<Member> {
    let mut members = Vec::new();
    for (path, text) in sources.range(format!("{folder}/")..format!("{folder}0")) {
        let begin = format!("pub const {constant}: ");
        let Some(doc) = doc(text, &begin) else {
            continue;
        };
        let (_, entry) = text.split_once(&begin).expect("it is there");
        let quoted = |text: &str| Some(text.split_once('"')?.1.split_once('"')?.0.to_owned());
        let (_, name) = entry.split_once("name: ").expect("a name");
        let name = match name.strip_prefix("NAME,") {
            Some(_) => text
                .split_once("const NAME: &str = ")
                .and_then(|(_, rest)| quoted(rest)),
            None => quoted(name),
        };
        let name = name.unwrap_or_else(|| panic!("src/{path}: the entry's name"));
        let head = text.lines().map_while(|line| line.strip_prefix("//!"));
        let head: Vec<&str> = head
            .map(str::trim)
            .take_while(|line| !line.is_empty())
            .collect();
        let head = head.join(" ");
        let sentence = head
            .strip_prefix(&format!("`{name}`: "))
            .unwrap_or_else(|| panic!("src/{path} must begin with //! `{name}`: …"));
        let origin = format!("{key} = \"{name}\"");
        let keys = keys(&doc, &origin)
            .unwrap_or_else(|| panic!("src/{path}: {constant} does not document its keys"));
        members.push(Member {
            keys: whole(keys, structs),
            sentence: sentence.to_owned(),
            name,
        });
    }
    members
}

impl Documented {
    /// Reads the sources; panics at what cannot be read.
    pub fn read() -> Documented {
        let sources = sources();
        let structs = structs(&sources);
        let mut tables = TABLES.into_iter();
        let kinds = tables.next().expect("the kinds");
        let facts = doc(&sources["config/template.rs"], "pub enum Fact").expect("facts");
        let fact = |item: String| {
            let (form, text) = item.split_once("`: ").expect("a fact");
            (form.trim_start_matches('`').to_owned(), text.to_owned())
        };
        Documented {
            settings: of_struct("Settings", &structs),
            step: of_struct("Common", &structs),
            peer: of_struct("Peer", &structs),
            kinds: members(kinds, &sources, &structs),
            members: tables
                .map(|table| (table.0, members(table, &sources, &structs)))
                .collect(),
            facts: items(&facts, "Its forms:")
                .expect("a list")
                .into_iter()
                .map(fact)
                .collect(),
        }
    }

    /// The members that a kind has: the key that names one, and all of them.
    pub fn members_of(&self, kind: &Member) -> Option<&(&'static str, Vec<Member>)> {
        let names = |key: &str| kind.keys.iter().any(|it| it.name == key);
        self.members.iter().find(|(key, _)| names(key))
    }
}
