//! etcd's JSON gateway (etcd 3.4 and later).
//!
//! Source: etcd's `api/etcdserverpb/rpc.proto` and "gRPC gateway" in its documentation. Bytes are in base64, 64-bit integers
//! are strings, and what is 0 or empty is left out.

mod client;
mod member;

pub use client::{Client, Reason, Reply};
pub use member::{Member, find, members};

use serde_json::Value;

/// An int64, which the gateway writes as a string and omits if it is 0.
pub fn integer(value: &Value) -> i64 {
    match value {
        Value::String(text) => text.parse().unwrap_or_default(),
        value => value.as_i64().unwrap_or_default(),
    }
}
