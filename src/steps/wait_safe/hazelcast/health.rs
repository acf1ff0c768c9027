//! A member's health answer: JSON since 4.1, lines of text before.

use serde_json::Value;

use crate::clients::http::cut;
use crate::model::error::{ErrorKind, Failure};
use crate::sys::http::Answer;

/// An answer of `/hazelcast/health`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Health {
    /// `ACTIVE`; `PASSIVE` from the moment that the member is shut down, or while the cluster is `PASSIVE`.
    pub(super) node_state: String,
    /// `ACTIVE`; in any other state no data is moved.
    cluster_state: String,
    is_safe: bool,
    /// Migrations that wait for their turn, as far as this member knows.
    queue: u64,
    members: u64,
}

impl Health {
    /// Reads either format.
    pub(super) fn read(answer: &Answer) -> Result<Health, Failure> {
        if let Some(failure) = cut(answer) {
            return Err(failure);
        }
        let of = |key: &str| match serde_json::from_slice::<Value>(&answer.body) {
            Ok(document) => document.get(lower_first(key).as_str()).map(shown),
            Err(_) => line(&answer.body, key),
        };
        let word = |key: &str| of(key).map(|it| it.to_ascii_uppercase());
        let number = |key: &str| of(key)?.parse().ok();
        let read = || {
            Some(Health {
                node_state: word("NodeState")?,
                cluster_state: word("ClusterState")?,
                is_safe: match word("ClusterSafe")?.as_str() {
                    "TRUE" => true,
                    "FALSE" => false,
                    _ => return None,
                },
                queue: number("MigrationQueueSize")?,
                members: number("ClusterSize")?,
            })
        };
        read().ok_or_else(|| {
            let cause = "the answer is not Hazelcast's cluster health";
            Failure::new(ErrorKind::Protocol, answer.url.clone(), cause).retryable(true)
        })
    }

    /// Nothing is being moved, and the backups of what this member holds are in sync. The queue is empty for a moment
    /// while the cluster is not safe, and the cluster safe for a moment while the queue is not empty.
    pub(super) fn is_safe(&self) -> bool {
        self.is_safe && self.queue == 0
    }

    /// Whether a graceful shutdown leaves everything to the others: a member that is shut down in any other state of the
    /// cluster takes its data with it.
    pub(super) fn may_leave(&self) -> bool {
        self.is_safe() && self.cluster_state == "ACTIVE"
    }

    /// Whether the member is on its way out while the cluster goes on.
    pub(super) fn is_leaving(&self) -> bool {
        ["PASSIVE", "SHUT_DOWN"].contains(&self.node_state.as_str())
            && self.cluster_state == "ACTIVE"
    }

    /// "not safe, 12 partitions to migrate, 3 members".
    pub(super) fn describe(&self) -> String {
        let mut describe = if self.is_safe { "safe" } else { "not safe" }.to_owned();
        match self.queue {
            0 => {}
            1 => describe += ", 1 partition to migrate",
            queue => describe += &format!(", {queue} partitions to migrate"),
        }
        describe += &match self.members {
            1 => ", 1 member".to_owned(),
            members => format!(", {members} members"),
        };
        if self.cluster_state != "ACTIVE" {
            describe += &format!(", its state is {}", super::word(&self.cluster_state));
        }
        describe
    }
}

fn lower_first(key: &str) -> String {
    let (first, client) = key.split_at(1);
    first.to_ascii_lowercase() + client
}

/// A value as it would stand in a line: without quotes.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The value of `Hazelcast::KEY=VALUE`.
fn line(body: &[u8], key: &str) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let pairs = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Hazelcast::")?.split_once('='));
    let mut found = pairs.filter(|(name, _)| *name == key);
    let (_, value) = found.next()?;
    Some(value.trim().trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Health, Failure> {
        Health::read(&Answer {
            url: "http://h/hazelcast/health".to_owned(),
            status: 200,
            headers: Vec::new(),
            body: body.as_bytes().to_vec(),
            truncated: false,
            elsewhere: Vec::new(),
        })
    }

    #[test]
    fn both_formats_say_the_same() {
        // As 5.5.0 and 3.12.13 print it.
        let json = r#"{"nodeState":"ACTIVE","clusterState":"ACTIVE","clusterSafe":false,"migrationQueueSize":12,"clusterSize":3}"#;
        let text = "Hazelcast::NodeState=ACTIVE\nHazelcast::ClusterState=ACTIVE\nHazelcast::ClusterSafe=FALSE\n\
                    Hazelcast::MigrationQueueSize=12\nHazelcast::ClusterSize=3\n";
        let quoted = text.replace("=ACTIVE", "=\"ACTIVE\"").replace('\n', "\r\n");
        let health = read(json).expect("a health");
        assert_eq!(read(text).expect("a health"), health);
        assert_eq!(read(&quoted).expect("a health"), health);
        let strings = json.replace("false", "\"FALSE\"").replace("12", "\"12\"");
        assert_eq!(read(&strings).expect("a health"), health);
        assert_eq!(
            health.describe(),
            "not safe, 12 partitions to migrate, 3 members"
        );
        assert!(!health.is_safe() && !health.is_leaving());
    }

    #[test]
    fn safe_is_what_is_safe_with_an_empty_queue() {
        let health = |safe: bool, queue: i64| {
            read(&format!(
                r#"{{"nodeState":"ACTIVE","clusterState":"ACTIVE","clusterSafe":{safe},"migrationQueueSize":{queue},"clusterSize":1}}"#
            ))
        };
        assert!(health(true, 0).expect("a health").is_safe());
        assert!(!health(true, 1).expect("a health").is_safe());
        assert!(!health(false, 0).expect("a health").is_safe());
        assert_eq!(
            health(true, 1).expect("one").describe(),
            "safe, 1 partition to migrate, 1 member"
        );
        assert!(health(true, -1).is_err());
    }

    #[test]
    fn what_was_cut_is_no_other_protocol() {
        let answer = Answer {
            url: "http://h/hazelcast/health".to_owned(),
            status: 200,
            headers: Vec::new(),
            body: b"{\"nodeState\":".to_vec(),
            truncated: true,
            elsewhere: Vec::new(),
        };
        let failure = Health::read(&answer).expect_err("cut");
        assert!(failure.cause.contains("longer than"), "{failure}");
    }

    #[test]
    fn what_says_nothing_of_the_cluster_is_no_health() {
        for body in [
            "",
            "{}",
            "[]",
            "null",
            "ok",
            "Hazelcast::ClusterSafe=TRUE",
            "{\"clusterSafe\":1}",
            "\u{fffd}",
        ] {
            let failure = read(body).expect_err(body);
            assert_eq!(
                (failure.kind, failure.retryable),
                (ErrorKind::Protocol, true)
            );
        }
    }
}
