//! The voting members, which of the others are healthy, and whether they are enough.

use serde_json::{Value, json};

use super::{OwnMember, PATIENCE};
use crate::clients::etcd::{self, Client, Member, integer};
use crate::model::error::{ErrorKind, Failure};
use crate::step::AttemptContext;
use crate::sys::http::Endpoint;

/// How many log entries a healthy member may lag behind during many writes.
const BEHIND: i64 = 1000;

/// This member's view of itself and the cluster.
pub(super) struct Membership {
    /// Its ID.
    pub own: u64,
    /// Its name, or its ID where it has none.
    pub name: String,
    /// The leader; 0 for none.
    pub leader: u64,
    /// Whether it is in its own list of members.
    pub is_listed: bool,
    /// Whether it votes.
    pub is_voter: bool,
    /// How far its log is.
    index: i64,
    /// The others that vote.
    others: Vec<Member>,
}

/// A member's status.
struct Status {
    id: u64,
    leader: u64,
    index: i64,
}

fn id(value: &Value) -> Option<u64> {
    value.as_str()?.parse().ok()
}

fn status(client: &Client<'_>) -> Result<Status, Failure> {
    let answer = client.must_with_header("/v3/maintenance/status", &json!({}))?;
    match id(&answer["header"]["member_id"]) {
        Some(own) => Ok(Status {
            id: own,
            leader: id(&answer["leader"]).unwrap_or_default(),
            index: integer(&answer["raftIndex"]),
        }),
        None => Err(client.unexpected_answer("the status does not say which member it is of")),
    }
}

impl Membership {
    pub fn of(client: &Client<'_>) -> Result<Membership, Failure> {
        let status = status(client)?;
        let members = etcd::members(client)?;
        let own = members.iter().find(|member| member.id == status.id);
        let name = match own {
            Some(member) if !member.name.is_empty() => member.name.clone(),
            _ => format!("{:x}", status.id),
        };
        let (is_listed, is_voter) = (own.is_some(), own.is_some_and(|member| !member.is_learner));
        let others = members.into_iter();
        Ok(Membership {
            own: status.id,
            name,
            leader: status.leader,
            is_listed,
            is_voter,
            index: status.index,
            others: others
                .filter(|member| member.id != status.id && !member.is_learner)
                .collect(),
        })
    }

    /// How many vote, this one counted.
    pub fn voters(&self) -> usize {
        self.others.len() + 1
    }

    /// Where clients reach the others.
    pub fn addresses(&self) -> Vec<Endpoint> {
        self.others.iter().flat_map(|it| it.urls.clone()).collect()
    }
}

/// How many of the others must be well.
pub(super) fn needed(
    membership: &Membership,
    context: &AttemptContext<'_>,
) -> Result<usize, String> {
    enough(
        membership.voters(),
        context.facts.comes_back().is_possible(),
    )
    .map_err(|cause| format!("{}: {cause}", membership.name))
}

fn enough(voters: usize, comes_back: bool) -> Result<usize, &'static str> {
    match voters {
        0 | 1 => Err("it is the cluster's only voting member: the cluster cannot run without it"),
        2 if comes_back => Err(
            "a cluster of two voting members needs both for its quorum, and has none while this one is away: add a third member",
        ),
        2 => Ok(1),
        voters => Ok(voters / 2 + 1),
    }
}

/// The status of the others at one poll.
pub(super) struct OtherMembers {
    well: Vec<(String, Status)>,
    ill: Vec<String>,
    /// How many of them have a permanent failure, and its kind.
    hopeless: usize,
    kind: Option<ErrorKind>,
}

impl OtherMembers {
    /// Asks every other member that votes at its own addresses.
    pub fn ask(own_member: &OwnMember<'_>, membership: &Membership) -> OtherMembers {
        let patience = own_member
            .context
            .attempt_timeout
            .min(PATIENCE / count(membership));
        let context = AttemptContext {
            attempt_timeout: patience,
            ..*own_member.context
        };
        let mut others = OtherMembers {
            well: Vec::new(),
            ill: Vec::new(),
            hopeless: 0,
            kind: None,
        };
        for member in &membership.others {
            let client = Client {
                session: own_member.own.session.elsewhere(member.urls.clone()),
                context: &context,
            };
            match ask_member(&client, member) {
                Ok((name, status)) => others.well.push((name, status)),
                Err((cause, kind)) => {
                    others.ill.push(cause);
                    others.hopeless += usize::from(kind.is_some());
                    others.kind = others.kind.or(kind);
                }
            }
        }
        others.drop_behind(membership.index);
        others
    }

    /// Removes those that are far behind the others.
    fn drop_behind(&mut self, own: i64) {
        let furthest = self.well.iter().map(|(_, it)| it.index).fold(own, i64::max);
        let is_behind = |(_, it): &mut (String, Status)| it.index.saturating_add(BEHIND) < furthest;
        for (name, status) in self.well.extract_if(.., is_behind) {
            let index = status.index;
            self.ill
                .push(format!("{name} is behind ({index} of {furthest} entries)"));
        }
    }

    pub fn well(&self) -> usize {
        self.well.len()
    }

    pub fn have_quorum(&self, needed: usize) -> bool {
        self.well.len() >= needed
    }

    /// The error kind if too many of them have a permanent failure: no gateway, or a certificate for another name.
    pub fn hopeless_kind(&self, membership: &Membership, needed: usize) -> Option<ErrorKind> {
        let may_be_well = membership.others.len().saturating_sub(self.hopeless);
        self.kind.filter(|_| may_be_well < needed)
    }

    /// Whether enough of them follow a leader other than `own`.
    pub fn agree_without(&self, own: u64, needed: usize) -> bool {
        let follow = self.well.iter().filter(|(_, it)| it.leader != own);
        follow.count() >= needed
    }

    /// The ID and name of the most advanced one.
    pub fn furthest(&self) -> Option<(u64, &str)> {
        let furthest = self.well.iter().max_by_key(|(_, it)| it.index);
        furthest.map(|(name, it)| (it.id, name.as_str()))
    }

    /// What to wait for while they are too few.
    pub fn missing(&self, membership: &Membership, needed: usize) -> String {
        let (well, others) = (self.well.len(), membership.others.len());
        format!(
            "a quorum without {}: {needed} of the {others} others must be well, and {well} {}: {}",
            membership.name,
            if well == 1 { "is" } else { "are" },
            self.ill.join("; ")
        )
    }
}

fn count(membership: &Membership) -> u32 {
    u32::try_from(membership.others.len())
        .unwrap_or(u32::MAX)
        .max(1)
}

/// A member's name and status, or why it is not healthy, with the kind of a permanent failure.
fn ask_member(
    client: &Client<'_>,
    member: &Member,
) -> Result<(String, Status), (String, Option<ErrorKind>)> {
    let retryable = |cause: String| Err((cause, None));
    let name = match member.name.as_str() {
        "" => return retryable(format!("{:x} was added and has never started", member.id)),
        name => name.to_owned(),
    };
    if member.urls.is_empty() {
        return retryable(format!("{name} has announced no address for clients"));
    }
    if client.session.endpoints().is_empty() {
        return retryable(format!(
            "{name} has announced only addresses without TLS, which `url` has, so that it is not asked"
        ));
    }
    let status = status(client).map_err(|failure| {
        let stays =
            !failure.retryable && matches!(failure.kind, ErrorKind::Status | ErrorKind::Tls);
        let kind = stays.then_some(failure.kind);
        (format!("{name} does not answer ({failure})"), kind)
    })?;
    if status.id != member.id {
        // The default of --advertise-client-urls, http://localhost:2379, is this machine's own.
        let urls: Vec<_> = member.urls.iter().map(ToString::to_string).collect();
        return retryable(format!(
            "{name} has announced the address {}, at which another member answers (--advertise-client-urls)",
            urls.join(", ")
        ));
    }
    if status.leader == 0 {
        return retryable(format!("{name} follows no leader"));
    }
    Ok((name, status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_of_all_is_enough_and_of_two_the_other_one() {
        for (voters, enough_of_others) in [(3, 2), (4, 3), (5, 3), (6, 4), (7, 4)] {
            for comes_back in [true, false] {
                assert_eq!(enough(voters, comes_back), Ok(enough_of_others), "{voters}");
            }
        }
        assert_eq!(enough(2, false), Ok(1));
        assert!(enough(2, true).is_err());
        assert!(enough(1, false).is_err() && enough(1, true).is_err());
    }

    fn status(id: u64, leader: u64, index: i64) -> (String, Status) {
        (format!("n{id}"), Status { id, leader, index })
    }

    #[test]
    fn who_is_far_behind_is_not_well_and_the_furthest_leads() {
        let mut others = OtherMembers {
            well: vec![status(1, 9, 5000), status(2, 9, 4500), status(3, 9, 12)],
            ill: Vec::new(),
            hopeless: 0,
            kind: None,
        };
        others.drop_behind(4900);
        assert_eq!(others.well(), 2);
        assert_eq!(others.ill, ["n3 is behind (12 of 5000 entries)"]);
        assert_eq!(others.furthest(), Some((1, "n1")));
        assert!(!others.agree_without(9, 1) && others.agree_without(8, 2));
    }
}
