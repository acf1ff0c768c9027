//! The nodes that are excluded from shard allocation by name: one setting, a comma-separated list.

use serde_json::{Map, Value, json};

use super::Client;
use crate::model::error::{ErrorKind, Failure};
use crate::sys::http::Request;

/// The setting's name.
const SETTING: &str = "cluster.routing.allocation.exclude._name";

/// The two scopes of a setting.
const PLACES: [&str; 2] = ["transient", "persistent"];

/// The lists of both scopes, `None` if unset. A transient one hides a persistent one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AllocationExclusions([Option<Vec<String>>; 2]);

impl AllocationExclusions {
    /// What is excluded now.
    pub fn read(client: &Client<'_>) -> Result<AllocationExclusions, Failure> {
        let settings = client.get("/_cluster/settings?flat_settings=true")?;
        AllocationExclusions::parse(&settings)
            .ok_or_else(|| client.unexpected_answer("the answer holds no settings"))
    }

    fn parse(settings: &Value) -> Option<AllocationExclusions> {
        let list = |place: &str| {
            let place = settings[place].as_object()?;
            Some(place.get(SETTING).map(|value| {
                match value {
                    Value::Array(items) => items
                        .iter()
                        .filter_map(Value::as_str)
                        .map(str::to_owned)
                        .collect(),
                    value => split(value.as_str().unwrap_or_default()),
                }
            }))
        };
        let [transient, persistent] = PLACES.map(list);
        Some(AllocationExclusions([transient?, persistent?]))
    }

    /// Whether the effective list has this name.
    pub fn has(&self, name: &str) -> bool {
        let [transient, persistent] = &self.0;
        let list = transient.as_ref().or(persistent.as_ref());
        list.is_some_and(|list| list.iter().any(|it| it == name))
    }

    /// Whether any list has this name.
    pub fn has_anywhere(&self, name: &str) -> bool {
        self.0.iter().flatten().flatten().any(|it| it == name)
    }

    /// The change that also excludes this name: in the effective scope, else in the persistent one.
    fn with(&self, name: &str) -> Value {
        let place = usize::from(self.0[0].is_none());
        let mut list = self.0[place].clone().unwrap_or_default();
        list.push(name.to_owned());
        json!({PLACES[place]: {SETTING: list.join(",")}})
    }

    /// The change that removes this name from both scopes, and keeps all others.
    fn without(&self, name: &str) -> Value {
        let mut body = Map::new();
        for (place, list) in PLACES.into_iter().zip(&self.0) {
            let Some(list) = list
                .as_ref()
                .filter(|list| list.iter().any(|it| it == name))
            else {
                continue;
            };
            let rest: Vec<&str> = list
                .iter()
                .map(String::as_str)
                .filter(|it| *it != name)
                .collect();
            let rest = match rest.as_slice() {
                [] => Value::Null,
                rest => rest.join(",").into(),
            };
            body.insert(place.to_owned(), json!({SETTING: rest}));
        }
        body.into()
    }

    /// Excludes this name, too.
    pub fn add(&self, client: &Client<'_>, name: &str) -> Result<(), Failure> {
        write(client, &self.with(name))
    }

    /// Excludes this name no more.
    pub fn remove(&self, client: &Client<'_>, name: &str) -> Result<(), Failure> {
        write(client, &self.without(name))
    }
}

fn split(list: &str) -> Vec<String> {
    let names = list.split(',').map(str::trim);
    names
        .filter(|it| !it.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The result is checked by reading again.
fn write(client: &Client<'_>, body: &Value) -> Result<(), Failure> {
    let answer = client.must(&Request::json(
        "PUT",
        "/_cluster/settings?flat_settings=true",
        body,
    ))?;
    match answer["acknowledged"].as_bool() {
        Some(true) => Ok(()),
        _ => Err(client
            .failure(
                ErrorKind::Status,
                "the cluster did not acknowledge the setting in time",
            )
            .retryable(true)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excluded(transient: Option<&str>, persistent: Option<&str>) -> AllocationExclusions {
        let place = |list: Option<&str>| list.map_or(json!({}), |list| json!({SETTING: list}));
        let settings = json!({"transient": place(transient), "persistent": place(persistent)});
        AllocationExclusions::parse(&settings).expect("settings")
    }

    #[test]
    fn a_name_is_added_where_the_list_counts() {
        for (transient, persistent, body) in [
            (None, None, json!({"persistent": {SETTING: "n3"}})),
            (
                None,
                Some("n1, n2"),
                json!({"persistent": {SETTING: "n1,n2,n3"}}),
            ),
            (
                Some("n1"),
                Some("n2"),
                json!({"transient": {SETTING: "n1,n3"}}),
            ),
            (Some(""), Some("n2"), json!({"transient": {SETTING: "n3"}})),
        ] {
            assert_eq!(excluded(transient, persistent).with("n3"), body);
        }
    }

    #[test]
    fn a_name_is_removed_everywhere_and_the_others_stay() {
        for (transient, persistent, body) in [
            (None, None, json!({})),
            (Some("n33,n1"), Some("n2"), json!({})),
            (
                Some("n3"),
                Some("n1,n3,n2"),
                json!({"transient": {SETTING: null}, "persistent": {SETTING: "n1,n2"}}),
            ),
        ] {
            let excluded = excluded(transient, persistent);
            assert_eq!(excluded.without("n3"), body);
            assert_eq!(excluded.has_anywhere("n3"), body != json!({}));
        }
    }

    #[test]
    fn a_transient_list_hides_a_persistent_one() {
        assert!(excluded(None, Some("n3")).has("n3"));
        assert!(!excluded(Some("n1"), Some("n3")).has("n3"));
        assert!(!excluded(Some(""), Some("n3")).has("n3"));
        assert_eq!(AllocationExclusions::parse(&json!({})), None);
        let list = json!({"transient": {SETTING: ["n1", "n3"]}, "persistent": {}});
        assert!(
            AllocationExclusions::parse(&list)
                .expect("settings")
                .has("n3")
        );
    }
}
