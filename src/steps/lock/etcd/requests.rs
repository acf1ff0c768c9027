//! The requests that read and change the queue of keys.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::clients::etcd::{Client, Reply, integer};
use crate::clients::http::excerpt;
use crate::model::deadline::Deadline;
use crate::model::error::Failure;
use crate::step::lock::state::Place;
use crate::sys::http::{Flow, Request, StreamEnd};

/// A key as it is.
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) lease: i64,
}

impl Entry {
    /// Other clients' keys may have any form; they are only shown and compared.
    fn parse(value: &Value) -> Option<Entry> {
        let text = |value: &Value| {
            let bytes = STANDARD.decode(value.as_str().unwrap_or_default()).ok()?;
            Some(String::from_utf8_lossy(&bytes).into_owned())
        };
        Some(Entry {
            key: text(value.get("key")?)?,
            value: text(&value["value"])?,
            lease: integer(&value["lease"]),
        })
    }
}

fn encoded(text: &str) -> String {
    STANDARD.encode(text)
}

/// All keys of a lock's queue, as requests name them.
fn range(lock: &str) -> Value {
    // The neighbour of the slash.
    json!({"key": encoded(&format!("{lock}/")), "range_end": encoded(&format!("{lock}0"))})
}

fn keys(client: &Client<'_>, answer: &Value) -> Result<Vec<Entry>, Failure> {
    let keys = answer["kvs"].as_array().map_or(&[][..], Vec::as_slice);
    let keys: Option<Vec<_>> = keys.iter().map(Entry::parse).collect();
    keys.ok_or_else(|| client.unexpected_answer("the answer lists something other than a key"))
}

/// All keys of the queue, the oldest first and with its value.
pub(super) fn queue(client: &Client<'_>, lock: &str) -> Result<(Vec<Entry>, i64), Failure> {
    let mut all = range(lock);
    all["sort_order"] = "ASCEND".into();
    all["sort_target"] = "CREATE".into();
    let mut first = all.clone();
    all["keys_only"] = true.into();
    first["limit"] = "1".into();
    let asked = json!({"success": [{"request_range": all}, {"request_range": first}]});
    let answer = client.must_with_header("/v3/kv/txn", &asked)?;
    let part = |at: usize| keys(client, &answer["responses"][at]["response_range"]);
    let (mut queue, first) = (part(0)?, part(1)?);
    if let (Some(oldest), Some(first)) = (queue.first_mut(), first.into_iter().next()) {
        oldest.value = first.value;
    }
    Ok((queue, integer(&answer["header"]["revision"])))
}

/// "held by web-1 (run …)".
pub(super) fn held(queue: &[Entry]) -> String {
    match queue.first() {
        None => "not held".to_owned(),
        // As etcdctl leaves it.
        Some(Entry { key, value, .. }) if value.is_empty() => {
            format!("held by the key {}", excerpt(key.as_bytes()))
        }
        Some(Entry { value, .. }) => format!("held by {}", excerpt(value.as_bytes())),
    }
}

/// The number of a lease whose ID is written in hexadecimal, as in its key.
pub(super) fn lease(id: &str) -> i64 {
    i64::from_str_radix(id, 16).unwrap_or_default()
}

/// A new lease.
pub(super) fn grant(client: &Client<'_>, ttl: Duration) -> Result<i64, Failure> {
    let asked = json!({"TTL": ttl.as_secs().to_string()});
    match integer(&client.must_with_header("/v3/lease/grant", &asked)?["ID"]) {
        id if id > 0 => Ok(id),
        _ => Err(client.unexpected_answer("the answer names no lease")),
    }
}

/// Whether the lease still existed.
pub(super) fn keep_alive(client: &Client<'_>, lease: i64) -> Result<bool, Failure> {
    let asked = json!({"ID": lease.to_string()});
    let answer = match client.ask("/v3/lease/keepalive", &asked)? {
        Reply::NotFound => return Ok(false),
        Reply::Done(answer) => answer,
    };
    // It is a stream, of which this is the only line.
    if !answer["result"]["header"].is_object() {
        return Err(client.unexpected_answer("the answer says nothing of the lease"));
    }
    Ok(integer(&answer["result"]["TTL"]) > 0)
}

/// Ends a lease, and every key under it; one that is gone already is fine.
pub(super) fn revoke(client: &Client<'_>, lease: i64) -> Result<(), Failure> {
    let asked = json!({"ID": lease.to_string()});
    client.ask("/v3/lease/revoke", &asked).map(drop)
}

fn put(place: &Place) -> Value {
    json!({"request_put": {
        "key": encoded(&place.key),
        "value": encoded(&place.holder),
        "lease": lease(place.grant()).to_string(),
    }})
}

/// Creates the own key, unless it exists.
pub(super) fn join(client: &Client<'_>, place: &Place) -> Result<(), Failure> {
    let is_absent = json!({
        "key": encoded(&place.key), "target": "CREATE", "result": "EQUAL", "create_revision": "0",
    });
    let asked = json!({"compare": [is_absent], "success": [put(place)]});
    client.must_with_header("/v3/kv/txn", &asked).map(drop)
}

/// The comparison that the key exists with this value.
fn is_own(key: &str, holder: &str) -> Value {
    json!({"key": encoded(key), "target": "VALUE", "result": "EQUAL", "value": encoded(holder)})
}

/// Puts the own key again, under the last lease, if it still has this value; `false` if it is gone. It keeps its place
/// in the queue.
pub(super) fn put_again(client: &Client<'_>, place: &Place, value: &str) -> Result<bool, Failure> {
    let asked = json!({"compare": [is_own(&place.key, value)], "success": [put(place)]});
    let answer = client.must_with_header("/v3/kv/txn", &asked)?;
    Ok(answer["succeeded"] == true)
}

/// Deletes a key if it still has this value. Returns whether it did.
pub(super) fn delete_own(client: &Client<'_>, key: &str, holder: &str) -> Result<bool, Failure> {
    let delete = json!({"request_delete_range": {"key": encoded(key)}});
    let asked = json!({"compare": [is_own(key, holder)], "success": [delete]});
    let answer = client.must_with_header("/v3/kv/txn", &asked)?;
    Ok(answer["succeeded"] == true)
}

/// A key as it is now.
pub(super) fn find(client: &Client<'_>, key: &str) -> Result<Option<Entry>, Failure> {
    let asked = json!({"key": encoded(key)});
    let answer = client.must_with_header("/v3/kv/range", &asked)?;
    Ok(keys(client, &answer)?.into_iter().next())
}

/// Watches until the key is deleted, or until `deadline`. `false` if the watch failed: the next poll finds out why.
pub(super) fn watch(client: &Client<'_>, key: &str, revision: i64, deadline: Deadline) -> bool {
    let create = json!({
        "key": encoded(key), "start_revision": (revision + 1).to_string(), "filters": ["NOPUT"],
    });
    let request = Request::json("POST", "/v3/watch", &json!({"create_request": create}));
    let mut is_deleted = false;
    let heard = client.session.lines(&request, deadline, &mut |line| {
        let news = serde_json::from_slice::<Value>(line).unwrap_or_default();
        let result = &news["result"];
        is_deleted = result["events"].is_array();
        // "created" and progress notifications are ignored; anything else ends the watch.
        let is_quiet = result.is_object() && result["canceled"].is_null();
        if is_quiet && !is_deleted {
            Flow::Continue
        } else {
            Flow::Stop
        }
    });
    is_deleted || matches!(heard, Ok(StreamEnd::Elapsed))
}

/// Who holds the lock. The transaction's condition never holds, so nothing is written, but etcd checks the permission.
pub(super) fn rehearse(client: &Client<'_>, lock: &str) -> Result<String, Failure> {
    let key = encoded(&format!("{lock}/rehearsal"));
    let never = json!({"key": key, "target": "VERSION", "result": "LESS", "version": "0"});
    let put = json!({"request_put": {"key": key}});
    let asked = json!({"compare": [never], "success": [put]});
    client.must_with_header("/v3/kv/txn", &asked)?;
    let (queue, _) = queue(client, lock)?;
    Ok(match queue.len().saturating_sub(1) {
        0 => held(&queue),
        waiting => format!("{}, and {waiting} more in the queue", held(&queue)),
    })
}
