//! A member's list of the cluster: JSON since 4.1, text before.

use serde_json::Value;

use crate::clients::http::cut;
use crate::model::error::{ErrorKind, Failure};
use crate::sys::http::{Answer, Endpoint};

/// An answer of `/hazelcast/client/cluster`: the members in the order in which they joined, the oldest first, which is the
/// one that directs all migrations.
#[derive(Debug)]
pub(super) struct MemberList {
    members: Vec<Member>,
}

#[derive(Debug, PartialEq, Eq)]
struct Member {
    host: String,
    port: u16,
    uuid: String,
    is_own: bool,
    /// Whether it holds no data.
    is_lite: bool,
}

impl MemberList {
    /// Reads either format.
    pub(super) fn read(answer: &Answer) -> Result<MemberList, Failure> {
        if let Some(failure) = cut(answer) {
            return Err(failure);
        }
        let members = match serde_json::from_slice::<Value>(&answer.body) {
            Ok(document) => from_json(&document),
            Err(_) => from_text(&String::from_utf8_lossy(&answer.body)),
        };
        match members {
            Some(members) if members.iter().filter(|it| it.is_own).count() == 1 => {
                Ok(MemberList { members })
            }
            _ => {
                let cause = "does not list the members of the cluster and itself among them, as Hazelcast does";
                Err(Failure::new(ErrorKind::Protocol, answer.url.clone(), cause).retryable(true))
            }
        }
    }

    /// The id of the member that was asked.
    pub(super) fn own(&self) -> &str {
        let own = self.members.iter().find(|it| it.is_own);
        own.map_or("", |it| &it.uuid)
    }

    /// Whether a member of that id is listed.
    pub(super) fn has(&self, uuid: &str) -> bool {
        self.members.iter().any(|it| it.uuid == uuid)
    }

    /// The others' REST addresses, derived from `own`, this member's. REST uses the member port, or a port of its own,
    /// which usually is the same on all members.
    pub(super) fn others(&self, own: &Endpoint) -> Vec<Endpoint> {
        let scheme = if own.is_https() { "https" } else { "http" };
        let own_port = self.members.iter().find(|it| it.is_own).map(|it| it.port);
        let others = || self.members.iter().filter(|it| !it.is_own);
        let at = |host: &str, port: u16| {
            let host = if host.contains(':') {
                format!("[{host}]")
            } else {
                host.to_owned()
            };
            let path = own.target().trim_end_matches('/');
            Endpoint::parse_base(&format!("{scheme}://{host}:{port}{path}")).ok()
        };
        let mut found: Vec<Endpoint> = others().filter_map(|it| at(&it.host, it.port)).collect();
        if own_port != Some(own.port()) {
            found.extend(others().filter_map(|it| at(&it.host, own.port())));
        }
        found.retain(|it| it != own);
        found
    }

    /// How many members there are beside the one that was asked, and how many of them hold data.
    pub(super) fn count_of_others(&self) -> (usize, usize) {
        let others = self.members.iter().filter(|it| !it.is_own);
        let holding = others.clone().filter(|it| !it.is_lite);
        (others.count(), holding.count())
    }
}

fn from_json(document: &Value) -> Option<Vec<Member>> {
    let member = |value: &Value| {
        let (host, port) = address(value.get("address")?.as_str()?)?;
        Some(Member {
            host,
            port,
            uuid: value.get("uuid")?.as_str()?.to_owned(),
            is_own: value.get("localMember")?.as_bool()?,
            is_lite: value.get("liteMember").and_then(Value::as_bool) == Some(true),
        })
    };
    document
        .get("members")?
        .as_array()?
        .iter()
        .map(member)
        .collect()
}

/// Lines like `Member [10.0.0.1]:5701 - UUID this lite`.
fn from_text(text: &str) -> Option<Vec<Member>> {
    let lines = text.lines().map(str::trim);
    let member = |line: &str| {
        let mut words = line.split_whitespace();
        let (host, port) = address(words.next()?)?;
        let uuid = words.find(|it| *it != "-")?.to_owned();
        let marks: Vec<&str> = words.collect();
        Some(Member {
            host,
            port,
            uuid,
            is_own: marks.contains(&"this"),
            is_lite: marks.contains(&"lite"),
        })
    };
    lines
        .filter_map(|line| line.strip_prefix("Member "))
        .map(member)
        .collect()
}

/// `[10.0.0.1]:5701`: the brackets are there for every kind of address.
fn address(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.strip_prefix('[')?.rsplit_once("]:")?;
    // The scope of a link-local address is valid only on the machine that reports it.
    let host = host.split('%').next()?;
    Some((host.to_owned(), port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<MemberList, Failure> {
        MemberList::read(&Answer {
            url: "http://h/hazelcast/rest/cluster".to_owned(),
            status: 200,
            headers: Vec::new(),
            body: body.as_bytes().to_vec(),
            truncated: false,
            elsewhere: Vec::new(),
        })
    }

    // As 5.5.0 and 3.12.13 print it.
    const JSON: &str = r#"{"members":[{"address":"[10.0.0.1]:5701","liteMember":false,"localMember":true,"uuid":"9727a2fd","memberVersion":"5.5.0"},{"address":"[fe80::2%eth0]:5702","liteMember":true,"localMember":false,"uuid":"4311a4cb","memberVersion":"5.5.0"}],"connectionCount":1,"allConnectionCount":3}"#;
    const TEXT: &str = "\n\nMembers {size:2, ver:2} [\n\tMember [10.0.0.1]:5701 - 9727a2fd this\n\t\
                        Member [fe80::2]:5702 - 4311a4cb lite\n]\n\nConnectionCount: 1\nAllConnectionCount: 3\n";

    #[test]
    fn both_formats_list_the_same() {
        let own = Endpoint::parse_base("https://10.0.0.1:5701/").expect("a URL");
        let elsewhere = Endpoint::parse_base("http://127.0.0.1:8080/hz").expect("a URL");
        for body in [JSON, TEXT] {
            let member_list = read(body).expect("a roster");
            assert_eq!(
                (member_list.own(), member_list.count_of_others()),
                ("9727a2fd", (1, 0))
            );
            assert!(member_list.has("4311a4cb") && !member_list.has("nobody"));
            let shown = |own| {
                member_list
                    .others(own)
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
            };
            assert_eq!(shown(&own), ["https://[fe80::2]:5702/"]);
            assert_eq!(
                shown(&elsewhere),
                ["http://[fe80::2]:5702/hz", "http://[fe80::2]:8080/hz"]
            );
        }
    }

    #[test]
    fn what_is_no_list_with_the_asked_one_in_it_is_refused() {
        let nobody = JSON.replace("true", "false");
        let two = TEXT.replace("lite", "this");
        let no_port = TEXT.replace(":5702", "");
        for body in [
            "",
            "{}",
            "{\"members\":7}",
            "{\"members\":[7]}",
            "Member",
            &nobody,
            &two,
            &no_port,
        ] {
            let failure = read(body).expect_err(body);
            assert_eq!(
                (failure.kind, failure.retryable),
                (ErrorKind::Protocol, true)
            );
        }
    }
}
