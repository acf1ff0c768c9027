//! Rehearses leaving etcd with read requests only.

use serde_json::json;

use super::{only_voter, range};
use crate::clients::etcd::{self, Client, Reply, integer};
use crate::model::error::{ErrorKind, Failure};

/// A key, or all keys up to `end`.
pub(super) fn of_range(
    client: &Client<'_>,
    key: &str,
    end: Option<Vec<u8>>,
) -> Result<String, Failure> {
    let what = if end.is_some() { "prefix" } else { "key" };
    let mut asked = range(key, end);
    asked["count_only"] = true.into();
    let answer = client.must_with_header("/v3/kv/range", &asked)?;
    let found = match integer(&answer["count"]) {
        0 => {
            let context = client.context;
            context.warn_of_absence(&format!("{what} {key:?}"), &format!("`{what}`"));
            "no key, nothing to leave yet".to_owned()
        }
        1 => "1 key".to_owned(),
        count => format!("{count} keys"),
    };
    // A user may be allowed to read what it may not delete.
    let shown = "reading is allowed; deleting was not tried";
    Ok(format!(
        "{what} {key:?} at {}: {found}; {shown}",
        client.session.address()
    ))
}

pub(super) fn of_lease(client: &Client<'_>, id: i64) -> Result<String, Failure> {
    let ask = |keys: bool| {
        let asked = json!({"ID": id.to_string(), "keys": keys});
        client.ask("/v3/lease/timetolive", &asked)
    };
    // A user who may not read the keys may still see the lease, which is enough.
    let (reply, has_keys) = match ask(true) {
        Err(failure) if failure.kind == ErrorKind::Refused => (ask(false)?, false),
        reply => (reply?, true),
    };
    let found = match reply {
        Reply::Done(answer) if integer(&answer["TTL"]) != -1 => {
            let seconds = integer(&answer["TTL"]);
            let keys = answer["keys"].as_array().map_or(0, Vec::len);
            let keys = match (has_keys, keys) {
                (false, _) => "keys that may not be read".to_owned(),
                (true, 1) => "1 key".to_owned(),
                (true, count) => format!("{count} keys"),
            };
            format!("{keys} on it, and {seconds} s left")
        }
        Reply::Done(_) | Reply::NotFound => {
            let context = client.context;
            context.warn_of_absence(&format!("lease {id:016x}"), "`lease`");
            "is not there, nothing to leave".to_owned()
        }
    };
    // As etcdctl prints it.
    Ok(format!(
        "lease {id:016x} at {}: {found}",
        client.session.address()
    ))
}

pub(super) fn of_member(client: &Client<'_>, wanted: &str) -> Result<String, Failure> {
    let members = etcd::members(client)?;
    let names: Vec<&str> = members.iter().map(|it| it.name.as_str()).collect();
    let found =
        etcd::find(&members, wanted).map_err(|cause| client.failure(ErrorKind::Config, cause))?;
    let found = match found {
        None => {
            let context = client.context;
            context.warn_of_absence(&format!("member {wanted}"), "`member`");
            "not there, nothing to leave"
        }
        Some(id) if members.iter().all(|it| it.id == id || it.is_learner) => {
            return Err(only_voter(client, wanted));
        }
        Some(_) => "there, and not the only voting one",
    };
    Ok(format!(
        "member {wanted} at {}: {found}; the members are {}",
        client.session.address(),
        names.join(", ")
    ))
}
