//! The members of a cluster, as the gateway lists them.

use serde_json::{Value, json};

use super::client::Client;
use crate::model::error::Failure;
use crate::sys::http::Endpoint;

/// A member of the cluster.
pub struct Member {
    /// Its ID.
    pub id: u64,
    /// Its name; empty if it has never started.
    pub name: String,
    /// Whether it has no vote yet.
    pub is_learner: bool,
    /// Its client addresses.
    pub urls: Vec<Endpoint>,
}

impl Member {
    fn parse(value: &Value) -> Option<Member> {
        let urls = value["clientURLs"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        let urls = urls.iter().filter_map(Value::as_str);
        Some(Member {
            id: value["ID"].as_str()?.parse().ok()?,
            name: value["name"].as_str().unwrap_or_default().to_owned(),
            is_learner: value["isLearner"].as_bool().unwrap_or_default(),
            urls: urls
                .filter_map(|url| Endpoint::parse_base(url).ok())
                .collect(),
        })
    }
}

/// The members, according to the member that answers.
pub fn members(client: &Client<'_>) -> Result<Vec<Member>, Failure> {
    let list = client.must("/v3/cluster/member/list", &json!({}))?;
    parse(&list).ok_or_else(|| client.unexpected_answer("the answer lists no members"))
}

/// The members in a list; `None` if it is not a list, or empty.
fn parse(list: &Value) -> Option<Vec<Member>> {
    let members = list["members"].as_array()?.iter();
    let members: Vec<_> = members.map(Member::parse).collect::<Option<_>>()?;
    (!members.is_empty()).then_some(members)
}

/// The ID of the member `wanted`, a name or an ID in hexadecimal; `None` if there is none.
///
/// # Errors
/// One sentence, if it matches several members.
pub fn find(members: &[Member], wanted: &str) -> Result<Option<u64>, String> {
    let number = u64::from_str_radix(wanted.strip_prefix("0x").unwrap_or(wanted), 16).ok();
    let mut ids: Vec<u64> = members
        .iter()
        .filter(|member| member.name == wanted || Some(member.id) == number)
        .map(|member| member.id)
        .collect();
    ids.dedup();
    match ids.as_slice() {
        [] => Ok(None),
        [id] => Ok(Some(*id)),
        _ => Err(format!("`{wanted}` means {} members", ids.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_found_by_name_and_by_id_and_never_guessed() {
        let member = |id, name: &str| Member {
            id,
            name: name.to_owned(),
            is_learner: false,
            urls: Vec::new(),
        };
        let members = [member(0xbeef, "n1"), member(2, "n2"), member(3, "beef")];
        assert_eq!(find(&members, "n2"), Ok(Some(2)));
        assert_eq!(find(&members, "2"), Ok(Some(2)));
        assert_eq!(find(&members, "n4"), Ok(None));
        assert!(find(&members, "beef").is_err());
    }
}
