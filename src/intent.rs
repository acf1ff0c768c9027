//! What a step is about to leave behind that outlives a reboot.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::secrets::{MASK, mask};

/// Something sticky that a step is about to leave, as the record keeps it: everything that its undo needs, since the
/// configuration may be another one by then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The word of the member that leaves it, among those of its kind: "nomad". Empty where the kind has no members.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub member: String,
    /// What it is, for people: "the drain of node web-1".
    pub noun: String,
    /// Addresses, ids, names of files and of credentials, in the member's own terms. Never a credential's value: it
    /// would be masked, and what is masked cannot be undone.
    pub what: Value,
}

/// Which intent of a run. It may be kept, and withdrawn by another step of the same run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The step that declared it, by its index in the plan.
    pub step: usize,
    /// Which of that step's, from 0.
    pub number: u32,
}

impl Intent {
    /// The intent as it may be written down.
    pub fn masked(self) -> Intent {
        Intent {
            member: mask(&self.member).into_owned(),
            noun: mask(&self.noun).into_owned(),
            what: masked(self.what),
        }
    }

    /// Whether something of it was masked, so that it does not say any more what is to be undone.
    pub fn is_masked(&self) -> bool {
        self.member.contains(MASK) || holds_mask(&self.what)
    }
}

fn masked(value: Value) -> Value {
    match value {
        Value::String(text) => mask(&text).into_owned().into(),
        Value::Number(number) => {
            let text = number.to_string();
            match mask(&text) {
                masked if masked == text => number.into(),
                masked => masked.into_owned().into(),
            }
        }
        Value::Array(items) => items.into_iter().map(masked).collect(),
        Value::Object(members) => {
            let member = |(name, value): (String, Value)| (mask(&name).into_owned(), masked(value));
            members.into_iter().map(member).collect()
        }
        Value::Null | Value::Bool(_) => value,
    }
}

fn holds_mask(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains(MASK),
        Value::Array(items) => items.iter().any(holds_mask),
        Value::Object(members) => members
            .iter()
            .any(|(name, value)| name.contains(MASK) || holds_mask(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_secret_is_masked_wherever_it_stands() {
        crate::secrets::hide("intent-s3cret");
        crate::secrets::hide("74017401");
        let clean = Intent {
            member: "nomad".to_owned(),
            noun: "the drain of node a".to_owned(),
            what: json!({"url": ["http://a:4646"], "token": "${credential:nomad}", "port": 4646}),
        };
        assert_eq!(clean.clone().masked(), clean);
        assert!(!clean.is_masked());
        for what in [
            json!("x-intent-s3cret"),
            json!([{"pin": 74017401}]),
            json!({"intent-s3cret": null}),
        ] {
            let masked = Intent {
                what,
                ..clean.clone()
            }
            .masked();
            let text = masked.what.to_string();
            assert!(masked.is_masked() && !text.contains("s3cret") && !text.contains("7401"));
        }
    }
}
