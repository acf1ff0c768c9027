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
use quorum::{Others, View, needed};

/// The cluster's entry in the table. Its keys:
///
/// - those of every [`Peer`]
/// - `url` (URL; required): this member's own address, and one address alone: the member that answers there is the one
///   that leaves
/// - `user` (string; default none; only with `password`): who asks; exchanged for a token at each attempt
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

/// How often the others are asked, and how long after that this member itself at the latest.
const EVERY: Duration = Duration::from_millis(200);
const TURNS: u32 = 5;

/// What a member that hangs may cost one look at all of them.
const PATIENCE: Duration = Duration::from_secs(2);

struct Etcd {
    peer: Peer,
    /// What this member said last: who it is, and who the others are. It may be gone at the next attempt.
    known: Mutex<Option<Arc<View>>>,
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

/// This member alone, whose credentials are good at the others, too.
struct OwnMember<'a> {
    own: Client<'a>,
    context: &'a AttemptContext<'a>,
    /// Why there is no token, as there is none without a quorum. What may be asked without one then tells who is missing.
    unproven: Option<Failure>,
}

/// What was seen in this attempt.
#[derive(Default)]
struct Seen {
    /// What this member said last, while it need not be asked again.
    view: Option<Arc<View>>,
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
        let others = known.map_or_else(Vec::new, |view| view.addresses());
        // The token is as good at the others, which may be all that is left.
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

    /// What this member says now.
    fn view(&self, line: &OwnMember<'_>) -> Result<Arc<View>, Failure> {
        let view = Arc::new(View::of(&line.own)?);
        let before = self.known.lock().replace(view.clone());
        match before {
            Some(before) if before.own != view.own => {
                let cause = format!(
                    "it was answered by the member {:x}, and now by {:x}: `url` must be this member's own address",
                    before.own, view.own
                );
                Err(line.own.failure(ErrorKind::Config, cause))
            }
            _ => Ok(view),
        }
    }

    /// This member does not answer any more. Where the others do without it already, that is what was wanted.
    fn without(&self, line: &OwnMember<'_>, failure: Failure) -> Result<Outcome, Failure> {
        let known = self.known.lock().clone();
        let Some(view) = known.filter(|_| failure.kind == ErrorKind::Unreachable) else {
            return Err(failure);
        };
        let needed = needed(&view, line.context)
            .map_err(|cause| line.own.failure(ErrorKind::Refused, cause))?;
        let others = Others::ask(line, &view);
        if others.have_quorum(needed) && others.agree_without(view.own, needed) {
            let remark =
                format!("it does not answer any more ({failure}), and the others do without it");
            line.context.events.remark(&remark);
            return Ok(Outcome::Done);
        }
        Err(failure)
    }

    /// Asks the others, and this member itself where enough of them were well the last time, and each fifth time.
    fn check(&self, line: &OwnMember<'_>, seen: &mut Seen) -> Result<Poll<Outcome>, Failure> {
        let context = line.context;
        let view = match seen.view.take() {
            Some(view) => view,
            None => {
                seen.turns = 0;
                match self.view(line) {
                    Ok(view) => view,
                    Err(failure) => return self.without(line, failure).map(Poll::Ready),
                }
            }
        };
        if !view.is_listed {
            let remark = format!("the member {:x} is not in the cluster any more", view.own);
            context.events.remark(&remark);
            return Ok(Poll::Ready(Outcome::AlreadyDone));
        }
        if !view.is_voter {
            let remark = format!("{} is a learner: the quorum does not need it", view.name);
            context.events.remark(&remark);
            return Ok(Poll::Ready(Outcome::Done));
        }
        let needed =
            needed(&view, context).map_err(|cause| line.own.failure(ErrorKind::Refused, cause))?;
        let others = Others::ask(line, &view);
        seen.turns += 1;
        if let Some(word) = others.in_vain(&view, needed) {
            let cause = others.lack(&view, needed);
            return Err(line.own.failure(word, cause).retryable(false));
        }
        if !others.have_quorum(needed) {
            // Who had no time left for an answer is not known to be missing.
            if context.deadline.left().is_some() || seen.waiting.is_empty() {
                seen.waiting = others.lack(&view, needed);
            }
            seen.view = Some(view).filter(|_| seen.turns < TURNS);
        } else if view.leader == view.own {
            seen.waiting = transfer(line, &others)?;
            if !std::mem::replace(&mut seen.moved, true) {
                return self.check(line, seen);
            }
        } else if others.agree_without(view.own, needed) {
            if view.voters() == 2 {
                let remark = format!(
                    "{} must be removed from the cluster before it is stopped: of two members, both make the quorum",
                    view.name
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

/// Moves leadership to the other member that is furthest, and says what is waited for then: whatever the answer is, it is
/// seen by asking again.
fn transfer(line: &OwnMember<'_>, others: &Others) -> Result<String, Failure> {
    let Some((target, name)) = others.furthest() else {
        return Ok("a member that can lead".to_owned());
    };
    let seen = format!("{name} to take the lead");
    line.context.events.waiting(&seen);
    let body = json!({"targetID": target.to_string()});
    match (line.own).try_ask("/v3/maintenance/transfer-leadership", &body) {
        Ok(Reply::Done(_) | Reply::NotFound) => Ok(seen),
        // It goes on leading, since the other one did not catch up in time; or nobody knows whether the request arrived.
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
        let line = self.open(context)?;
        let mut seen = Seen::default();
        let polled = context.poll(&|| line.own.session.address(), &mut || {
            match (self.check(&line, &mut seen)?, &line.unproven) {
                // Another attempt asks for the token again.
                (Poll::Pending(..), Some(failure)) if seen.view.is_none() => Err(failure.clone()),
                (polled, _) => Ok(polled),
            }
        });
        match &line.unproven {
            // What was refused without the token was not refused to the account.
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
        let line = self.open(context)?;
        let view = self.view(&line)?;
        let address = line.own.session.address();
        if !view.is_listed {
            let what = format!("member {:x} in its own cluster", view.own);
            context.warn_of_absence(&what, "`url`");
        }
        if !view.is_listed || !view.is_voter {
            return Ok(format!(
                "member {:x} at {address}: has no vote, so the quorum does not need it",
                view.own
            ));
        }
        let needed =
            needed(&view, context).map_err(|cause| line.own.failure(ErrorKind::Refused, cause))?;
        let others = Others::ask(&line, &view);
        let leads = if view.leader == view.own {
            ", and leads"
        } else {
            ""
        };
        if let Some(word) = others.in_vain(&view, needed) {
            let cause = others.lack(&view, needed);
            return Err(line.own.failure(word, cause).retryable(false));
        }
        let state = if others.have_quorum(needed) {
            format!(
                "enough of the others are well ({} of {needed} needed)",
                others.well()
            )
        } else {
            format!(
                "not safe at the moment: it would wait for {}",
                others.lack(&view, needed)
            )
        };
        Ok(format!(
            "member {} at {address}: one of {} that vote{leads}; {state}; whether leadership may be moved is not shown",
            view.name,
            view.voters()
        ))
    }
}
