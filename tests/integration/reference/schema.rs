//! The JSON Schema of a configuration. Draft 7: taplo, which editors have for TOML, knows no later one, and follows
//! `properties`, `allOf` and `$ref` when it completes, but not `if`; hence the list of all keys beside the choices.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::keys::{Documented, Key, Member, Need};

/// Where the definition of a key is.
fn pointer(key: &Key) -> String {
    let origin = key.origin.replace(" = \"", ".").replace('"', "");
    format!("{}.{}", origin.to_lowercase(), key.name)
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/definitions/{name}")})
}

/// A text with the facts about a value behind it.
fn description(key: &Key) -> String {
    let mut text = key.text.clone();
    text[..1].make_ascii_uppercase();
    format!("{text}.\n\n({})", key.summary())
}

/// The keys in the table that `key` is, and in those within it.
fn within<'a>(key: &Key, all: &[&'a Key]) -> Vec<&'a Key> {
    let prefix = format!("{}.", key.name);
    let within = all.iter().filter(|it| it.name.starts_with(&prefix));
    within.copied().collect()
}

/// The schema of one key; `below`: the keys of the table that it is, and of those within it.
fn value(key: &Key, below: &[&Key]) -> Value {
    let mut schema = key.value.schema();
    if !below.is_empty() {
        let is_own = |it: &&&Key| !it.name[key.name.len() + 1..].contains('.');
        let own: Vec<&Key> = below.iter().filter(is_own).copied().collect();
        let properties = own
            .iter()
            .map(|it| (leaf(it), value(it, &within(it, below))));
        schema = table(properties, &own);
    }
    schema["description"] = description(key).into();
    if let Some(default) = key.default() {
        let default: toml::Value = default.parse().expect("a value");
        schema["default"] = serde_json::to_value(default).expect("JSON");
    }
    schema
}

/// The last part of a key's name.
fn leaf(key: &Key) -> String {
    key.name.rsplit('.').next().expect("one part").to_owned()
}

/// A table with these keys and no others, and what they demand of each other.
fn table(properties: impl Iterator<Item = (String, Value)>, keys: &[&Key]) -> Value {
    let last = |name: &String| name.rsplit('.').next().expect("one part").to_owned();
    let required: Vec<String> = keys
        .iter()
        .filter(|key| key.need == Need::Required)
        .map(|key| leaf(key))
        .collect();
    let mut schema = json!({
        "type": "object",
        "properties": Value::Object(properties.collect()),
        "additionalProperties": false,
    });
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    let mut others: Map<String, Value> = Map::new();
    let mut rules: Vec<Value> = Vec::new();
    for key in keys {
        // Of two that cannot be there together, each says it of the other one; a schema that nothing fits is told at it.
        let not: Map<String, Value> = (key.not_with.iter())
            .filter(|other| **other > key.name)
            .map(|other| (last(other), Value::Bool(false)))
            .collect();
        let with: Vec<String> = key.only_with.iter().map(last).collect();
        match (with.is_empty(), not.is_empty()) {
            (true, true) => {}
            (_, true) => {
                others.insert(leaf(key), with.into());
            }
            (_, false) => {
                others.insert(leaf(key), json!({"required": with, "properties": not}));
            }
        }
        if let Need::OneOf(names) = &key.need
            && names[0] == key.name
        {
            let one: Vec<Value> = names.iter().map(|it| json!({"required": [it]})).collect();
            rules.push(json!({"oneOf": one}));
        }
    }
    if !others.is_empty() {
        schema["dependencies"] = others.into();
    }
    if !rules.is_empty() {
        schema["allOf"] = rules.into();
    }
    schema
}

/// The table of a step that has these keys. What is one key whatever the kind is, and what every step must have, is looked
/// at there: what is wrong is told once.
fn step(keys: &[&Key], common: &[&Key], all: &BTreeMap<&str, Vec<&Key>>) -> Value {
    let top = |key: &&&Key| !key.name.contains('.');
    let property = |key: &&Key| {
        let schema = match all[key.name.as_str()].len() {
            1 => Value::Bool(true),
            _ => reference(&pointer(key)),
        };
        (key.name.clone(), schema)
    };
    let own: Vec<&Key> = keys.iter().filter(top).copied().collect();
    let known = common.iter().filter(top).chain(&own).map(property);
    table(known, &own)
}

/// The keys of steps by their names, one for each place where it is documented.
fn by_name<'a>(all: &[&'a Key]) -> BTreeMap<&'a str, Vec<&'a Key>> {
    let mut by_name: BTreeMap<&str, Vec<&Key>> = BTreeMap::new();
    for key in all.iter().filter(|key| !key.name.contains('.')) {
        let known = by_name.entry(&key.name).or_default();
        if !known.iter().any(|it| it.origin == key.origin) {
            known.push(key);
        }
    }
    by_name
}

/// What holds for a table in which `key` has this value.
fn choice(key: &str, name: &str, then: &str) -> Value {
    json!({
        "if": {"properties": {key: {"const": name}}, "required": [key]},
        "then": reference(then),
    })
}

/// All keys that a step can have, whatever its kind: what they mean, where that depends on the kind, is told of each.
fn any_step(all: &BTreeMap<&str, Vec<&Key>>) -> Value {
    let property = |(name, keys): (&&str, &Vec<&Key>)| {
        let schema = match keys.as_slice() {
            [key] => reference(&pointer(key)),
            keys => {
                let told = keys
                    .iter()
                    .map(|key| format!("{}: {}", key.origin, description(key)));
                json!({"description": told.collect::<Vec<_>>().join("\n\n")})
            }
        };
        ((*name).to_owned(), schema)
    };
    json!({"properties": Value::Object(all.iter().map(property).collect())})
}

/// The schema as it is committed.
pub fn schema(documented: &Documented) -> String {
    let mut definitions: Map<String, Value> = Map::new();
    let members = documented.members.iter().flat_map(|(_, members)| members);
    let own = documented
        .kinds
        .iter()
        .chain(members)
        .flat_map(|it| &it.keys);
    let all: Vec<&Key> = documented.step.iter().chain(own).collect();
    let names = by_name(&all);
    let common: Vec<&Key> = documented.step.iter().collect();
    let mut kinds = Vec::new();
    for kind in &documented.kinds {
        let name = format!("step-{}", kind.name);
        kinds.push(choice("kind", &kind.name, &name));
        let own: Vec<&Key> = kind.keys.iter().collect();
        let Some((key, members)) = documented.members_of(kind) else {
            definitions.insert(name, told(step(&own, &common, &names), kind));
            continue;
        };
        let known = [common.clone(), own].concat();
        let mut choices = Vec::new();
        for member in members {
            let name = format!("step-{}-{}", kind.name, member.name);
            choices.push(choice(key, &member.name, &name));
            let own: Vec<&Key> = member.keys.iter().collect();
            definitions.insert(name, told(step(&own, &known, &names), member));
        }
        let mut schema = json!({"required": [key], "allOf": choices});
        // A name that another step has for something else is not looked at for all of them.
        let own = kind.keys.iter().find(|it| it.name == *key);
        if let Some(own) = own.filter(|_| names[key].len() > 1) {
            schema["properties"] = json!({ own.name.as_str(): reference(&pointer(own)) });
        }
        definitions.insert(name, told(schema, kind));
    }
    for key in all.iter().filter(|key| !key.name.contains('.')) {
        let prefix = format!("{}.", key.name);
        let is_below =
            |other: &&&Key| other.origin == key.origin && other.name.starts_with(&prefix);
        let below: Vec<&Key> = all.iter().filter(is_below).copied().collect();
        definitions.insert(pointer(key), value(key, &below));
    }
    let mut alternatives = vec![any_step(&names)];
    alternatives.extend(kinds);
    definitions.insert(
        "step".to_owned(),
        json!({
            "type": "object",
            "description": "A step of the sequence.",
            "required": ["name", "kind"],
            "allOf": alternatives,
        }),
    );
    let head: Vec<&Key> = documented.settings.iter().collect();
    let mut farewell = table(
        head.iter().map(|key| (key.name.clone(), value(key, &[]))),
        &head,
    );
    farewell["description"] = "What holds for the whole sequence.".into();
    let schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "farewell.toml",
        "description": "The configuration of farewell, which runs a machine's last duties: see farewell.toml(5).",
        "type": "object",
        "properties": {
            "farewell": farewell,
            "step": {
                "type": "array",
                "description": "The steps, in their order.",
                "items": reference("step"),
            },
        },
        "additionalProperties": false,
        "definitions": definitions,
    });
    let text = serde_json::to_string_pretty(&schema).expect("JSON");
    format!("{text}\n")
}

/// The schema with what a member does in it.
fn told(mut schema: Value, member: &Member) -> Value {
    let mut sentence = member.sentence.clone();
    sentence[..1].make_ascii_uppercase();
    schema["description"] = sentence.into();
    schema
}
