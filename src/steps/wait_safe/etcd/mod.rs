//! `etcd`: waits until the other members have a quorum without this one, and moves leadership to one of them.

mod quorum;

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::clients::etcd::{Client, Reason, Reply};
use crate::clients::http::Peer;
use crate::config::section::Section;
use crate::model::error::{ErrorKind, Failure};
use crate::step::{Action, AttemptContext, AttemptPolicy, Member, Outcome, Poll, StepSpec};
use crate::sys::sync::Mutex;
use quorum::{Membership, OtherMembers, needed};

/// The cluster's entry in the table. Its keys:
///
/// - those of every [`Peer`]
/// - `url` (URL; required): this member's own address, and no list: the member that answers there is the one that
///   leaves
/// - `user` (string; default none; only with `password`): the user; exchanged for a token at each attempt
///
/// Source: etcd's `api/etcdserverpb/rpc.proto` (Maintenance, Cluster) and `server/etcdserver/api/v3rpc/maintenance.go`; the
/// gateway of etcd 3.4 and later. It asks
///
/// - `/v3/maintenance/status` at `url`: `header.member_id` says which member this is, `leader` who leads; and at the client
///   addresses of every other voting member, which is well when it answers under its own ID, follows a leader, and is not
///   far behind. Who is not well is waited for, and named.
/// - `/v3/cluster/member/list` at `url`: who votes. A member that is not in the list has left, a learner has no vote.
/// - `/v3/maintenance/transfer-leadership` at `url`, where this member leads and the others have their quorum. Done is it
///   when this member and the others say that another one leads. "Not leader" and "bad leader transferee" mean that something
///   changed in the meantime, and everything is asked again.
///
/// How many others must be well: a majority of all voting members, this one counted, so that it can be stopped and removed
/// alike. Of two members the other one, which has a quorum only once this one is removed: done with a remark on a machine
/// that is gone, refused on one that comes back. The only voting member is refused: nothing survives without it.
///
/// Nothing sticks.
pub const MEMBER: Member = Member {
    name: "etcd",
    read,
    undo: None,
};

/// The poll interval of the others, and of this member at the latest.
const EVERY: Duration = Duration::from_millis(200);
const TURNS: u32 = 5;

/// The time limit for one member in a poll.
const PATIENCE: Duration = Duration::from_secs(2);

struct Etcd {
    peer: Peer,
    /// The last state of this member and the others, for later attempts after it is gone.
    known: Mutex<Option<Arc<Membership>>>,
}

fn read(section: &Section<'_>) -> Option<StepSpec> {
    let peer = Peer::read(section)?;
    let dependencies = peer.dependencies();
    if dependencies.peers.len() > 1 {
        let message = "is this member's own address, and no list: the member that answers there is the one that leaves";
        section.problem("url", message);
    }
    let membership = Etcd {
        peer,
        known: Mutex::default(),
    };
    Some(StepSpec {
        dependencies,
        ..StepSpec::new(membership, AttemptPolicy::Polled)
    })
}

/// A session with this member only; its credentials work at the others, too.
struct OwnMember<'a> {
    own: Client<'a>,
    context: &'a AttemptContext<'a>,
    /// Why there is no token: logins need a quorum. Requests that need no token then show which members are missing.
    unproven: Option<Failure>,
}

/// What was seen in this attempt.
#[derive(Default)]
struct Progress {
    /// This member's last state, until it must be read again.
    membership: Option<Arc<Membership>>,
    /// How often the others were asked since then.
    turns: u32,
    /// Whether leadership was moved.
    moved: bool,
    /// What it waits for.
    waiting: String,
}

impl Etcd {
    fn open<'a>(&'a self, context: &'a AttemptContext<'a>) -> Result<OwnMember<'a>, Failure> {
        let known = self.known.lock().clone();
        let others = known.map_or_else(Vec::new, |membership| membership.addresses());
        // The token also works at the others, which may be all that is left.
        let (session, unproven) = match Client::open(&self.peer, context, &others) {
            Ok(any) => (any.session, None),
            Err(failure) if failure.retryable && failure.kind != ErrorKind::Unreachable => {
                (self.peer.open_with_account(context)?.0, Some(failure))
            }
            Err(failure) => return Err(failure),
        };
        let own = Client {
            session: session.elsewhere(self.peer.endpoints(context.facts)?),
            context,
        };
        Ok(OwnMember {
            own,
            context,
            unproven,
        })
    }

    /// Reads this member's state.
    fn membership(&self, own_member: &OwnMember<'_>) -> Result<Arc<Membership>, Failure> {
        let membership = Arc::new(Membership::of(&own_member.own)?);
        let before = self.known.lock().replace(membership.clone());
        match before {
            Some(before) if before.own != membership.own => {
                let cause = format!(
                    "it was answered by the member {:x}, and now by {:x}: `url` must be this member's own address",
                    before.own, membership.own
                );
                Err(own_member.own.failure(ErrorKind::Config, cause))
            }
            _ => Ok(membership),
        }
    }

    /// This member no longer answers. If the others have a quorum without it, the goal is reached.
    fn without_answer(
        &self,
        own_member: &OwnMember<'_>,
        failure: Failure,
    ) -> Result<Outcome, Failure> {
        let known = self.known.lock().clone();
        let Some(membership) = known.filter(|_| failure.kind == ErrorKind::Unreachable) else {
            return Err(failure);
        };
        let needed = needed(&membership, own_member.context)
            .map_err(|cause| own_member.own.failure(ErrorKind::Refused, cause))?;
        let others = OtherMembers::ask(own_member, &membership);
        if others.have_quorum(needed) && others.agree_without(membership.own, needed) {
            let remark =
                format!("it does not answer any more ({failure}), and the others do without it");
            own_member.context.events.remark(&remark);
            return Ok(Outcome::Done);
        }
        Err(failure)
    }

    /// Polls the others, and this member itself if enough of them were healthy at the last poll, and every fifth time.
    fn check(
        &self,
        own_member: &OwnMember<'_>,
        seen: &mut Progress,
    ) -> Result<Poll<Outcome>, Failure> {
        let context = own_member.context;
        let membership = match seen.membership.take() {
            Some(membership) => membership,
            None => {
                seen.turns = 0;
                match self.membership(own_member) {
                    Ok(membership) => membership,
                    Err(failure) => {
                        return self.without_answer(own_member, failure).map(Poll::Ready);
                    }
                }
            }
        };
        if let Some(outcome) = has_no_vote(context, &membership) {
            return Ok(Poll::Ready(outcome));
        }
        let needed = needed(&membership, context)
            .map_err(|cause| own_member.own.failure(ErrorKind::Refused, cause))?;
        let others = OtherMembers::ask(own_member, &membership);
        seen.turns += 1;
        if let Some(kind) = others.hopeless_kind(&membership, needed) {
            let cause = others.missing(&membership, needed);
            return Err(own_member.own.failure(kind, cause).retryable(false));
        }
        if !others.have_quorum(needed) {
            // A member without time for an answer does not count as missing.
            if context.deadline.left().is_some() || seen.waiting.is_empty() {
                seen.waiting = others.missing(&membership, needed);
            }
            seen.membership = Some(membership).filter(|_| seen.turns < TURNS);
        } else if membership.leader == membership.own {
            seen.waiting = transfer(own_member, &others)?;
            if !std::mem::replace(&mut seen.moved, true) {
                return self.check(own_member, seen);
            }
        } else if others.agree_without(membership.own, needed) {
            if membership.voters() == 2 {
                let remark = format!(
                    "{} must be removed from the cluster before it is stopped: of two members, both make the quorum",
                    membership.name
                );
                context.events.remark(&remark);
            }
            return Ok(Poll::Ready(Outcome::Done));
        } else {
            "the others to follow the new leader".clone_into(&mut seen.waiting);
        }
        Ok(Poll::Pending(seen.waiting.clone(), EVERY))
    }
}

/// The outcome for a member that has left the cluster or has no vote.
fn has_no_vote(context: &AttemptContext<'_>, membership: &Membership) -> Option<Outcome> {
    let (outcome, remark) = match (membership.is_listed, membership.is_voter) {
        (false, _) => {
            let own = membership.own;
            let remark = format!("the member {own:x} is not in the cluster any more");
            (Outcome::AlreadyDone, remark)
        }
        (true, false) => {
            let name = &membership.name;
            let remark = format!("{name} is a learner: the quorum does not need it");
            (Outcome::Done, remark)
        }
        (true, true) => return None,
    };
    context.events.remark(&remark);
    Some(outcome)
}

/// Moves leadership to the most advanced other member, and returns what to wait for: the result is checked by polling.
fn transfer(own_member: &OwnMember<'_>, others: &OtherMembers) -> Result<String, Failure> {
    let Some((target, name)) = others.furthest() else {
        return Ok("a member that can lead".to_owned());
    };
    let seen = format!("{name} to take the lead");
    own_member.context.events.waiting(&seen);
    let body = json!({"targetID": target.to_string()});
    match (own_member.own).try_ask("/v3/maintenance/transfer-leadership", &body) {
        Ok(Reply::Done(_) | Reply::NotFound) => Ok(seen),
        // It remains the leader, since the other one did not catch up in time; or the request may not have arrived.
        Err(refusal)
            if refusal.failure.retryable
                || matches!(refusal.reason, Reason::NotLeader | Reason::BadTransferee) =>
        {
            Ok(format!("{seen}; last answer: {}", refusal.failure.cause))
        }
        Err(refusal) => Err(refusal.failure),
    }
}

impl Action for Etcd {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let own_member = self.open(context)?;
        let mut seen = Progress::default();
        let polled = context.poll(&|| own_member.own.session.address(), &mut || {
            match (self.check(&own_member, &mut seen)?, &own_member.unproven) {
                // Another attempt asks for the token again.
                (Poll::Pending(..), Some(failure)) if seen.membership.is_none() => {
                    Err(failure.clone())
                }
                (polled, _) => Ok(polled),
            }
        });
        match &own_member.unproven {
            // A request without a token was refused, which says nothing about the account.
            Some(failure) if polled.is_err() => {
                let waiting = match seen.waiting.as_str() {
                    "" => String::new(),
                    waiting => format!(" (it waits for {waiting})"),
                };
                let cause = format!("{}{waiting}", failure.cause);
                Err(Failure {
                    cause,
                    ..failure.clone()
                })
            }
            _ => polled,
        }
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let own_member = self.open(context)?;
        let membership = self.membership(&own_member)?;
        let address = own_member.own.session.address();
        if !membership.is_listed {
            let what = format!("member {:x} in its own cluster", membership.own);
            context.warn_of_absence(&what, "`url`");
        }
        if !membership.is_listed || !membership.is_voter {
            return Ok(format!(
                "member {:x} at {address}: has no vote, so the quorum does not need it",
                membership.own
            ));
        }
        let needed = needed(&membership, context)
            .map_err(|cause| own_member.own.failure(ErrorKind::Refused, cause))?;
        let others = OtherMembers::ask(&own_member, &membership);
        let leads = if membership.leader == membership.own {
            ", and leads"
        } else {
            ""
        };
        if let Some(kind) = others.hopeless_kind(&membership, needed) {
            let cause = others.missing(&membership, needed);
            return Err(own_member.own.failure(kind, cause).retryable(false));
        }
        let state = if others.have_quorum(needed) {
            format!(
                "enough of the others are well ({} of {needed} needed)",
                others.well()
            )
        } else {
            format!(
                "not safe at the moment: it would wait for {}",
                others.missing(&membership, needed)
            )
        };
        Ok(format!(
            "member {} at {address}: one of {} that vote{leads}; {state}; whether leadership may be moved is not known",
            membership.name,
            membership.voters()
        ))
    }
}
