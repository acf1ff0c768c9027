//! `caddy`: takes an upstream out of its list, and waits until it has no request in flight.

mod admin;
mod undo;

use std::collections::BTreeMap;

use crate::clients::http::{Peer, peer_ids};
use crate::config::section::{Field, Secrecy, Section};
use crate::model::error::Failure;
use crate::model::intent::{Datum, Keys};
use crate::step::{Action, AttemptContext, AttemptPolicy, Member, Outcome, StepSpec};
use crate::sys::sync::Mutex;
use admin::{Admin, Upstream};

/// The balancer's entry in the table. Its keys:
///
/// - those of every [`Peer`]
/// - `url` (URLs; required): the admin API of Caddy, or a list of them, one for each Caddy that has the upstream; it is taken
///   out of all of them
/// - `id` (string; required): the `@id` of the upstream
///
/// Source: Caddy's documentation, "API"; the replies were seen on 2.6.2 and 2.11.7.
///
/// | request | replies |
/// |---|---|
/// | `GET /id/ID` | 200 with the object; 404 `unknown object ID` |
/// | `GET /config/` | 200: where it stands, with an ETag (a trailer before 2.8, which is not read) |
/// | `DELETE /id/ID` with `If-Match` | 200 when the new configuration runs; 412: it was changed meanwhile |
/// | `GET /reverse_proxy/upstreams` | `[{"address":…,"num_requests":…}]`; one that is out is listed while it has requests |
/// | `PUT LIST/INDEX` (the undo) | as DELETE; the index may be the length of the list |
///
/// It sticks until Caddy is restarted with a configuration that has the upstream; then it is taken out again.
pub const MEMBER: Member = Member {
    name: "caddy",
    read,
    undo: Some(undo::undo),
};

struct Caddy {
    peer: Peer,
    id: Field<String>,
    /// The addresses of what this run has taken out, by the subject of each Caddy: no answer names them any more.
    taken_out: Mutex<BTreeMap<String, String>>,
}

fn read_id(section: &Section<'_>) -> Option<Field<String>> {
    section.required("id", |section, key| {
        section.text(key, object_id, Secrecy::Public)
    })
}

fn object_id(text: &str) -> Result<String, String> {
    match text.contains('/') {
        true => Err(format!("`{text}`: Caddy finds no `@id` with a slash in it")),
        false => peer_ids::segment(text),
    }
}

fn read(section: &Section<'_>) -> Option<StepSpec> {
    let id = read_id(section);
    let action = Caddy {
        peer: Peer::read(section)?,
        id: id?,
        taken_out: Mutex::default(),
    };
    action.peer.warn_of_secrets(section);
    Some(StepSpec {
        dependencies: action.peer.dependencies(),
        ..StepSpec::new(action, AttemptPolicy::Polled)
    })
}

/// The upstream in one Caddy, and what this attempt has seen of it.
struct Target<'a> {
    admin: Admin<'a>,
    caddy: &'a Caddy,
    context: &'a AttemptContext<'a>,
    /// The keys of the peer for the intent.
    peer: Keys,
    /// Whether this attempt has seen that it is out.
    is_out: bool,
    /// Whether this attempt has taken it out.
    is_changed: bool,
}

impl Target<'_> {
    fn subject(&self) -> String {
        format!("the removal of {}", self.admin.subject())
    }

    /// Takes the next step of the drain. Returns what it waits for, or `None` when nothing is in flight.
    fn advance(&mut self) -> Result<Option<String>, Failure> {
        if self.admin.is_known()?
            && let Some(upstream) = self.admin.look()?
        {
            if self.is_out {
                self.context.events.remark(&format!(
                    "{} was in its list again: Caddy was restarted, or somebody put it there; it was taken out again",
                    self.admin.subject()
                ));
            }
            self.take_out(&upstream)?;
            // Caddy answers when its old server begins to shut down, which may accept a request a moment longer.
            return Ok(Some(format!(
                "the last requests for {}",
                self.admin.subject()
            )));
        }
        self.is_out = true;
        let dial = self.dial_of_what_is_out()?;
        let subject = |count| {
            let plural = if count == 1 { "" } else { "s" };
            format!(
                "{count} request{plural} in flight to {}",
                self.admin.subject()
            )
        };
        let count = self.admin.requests(&dial)?;
        Ok((count > 0).then(|| subject(count)))
    }

    fn take_out(&mut self, upstream: &Upstream) -> Result<(), Failure> {
        let subject = self.subject();
        let known = (subject.clone(), upstream.dial.clone());
        // Before the request, whose answer may be missing.
        self.caddy.taken_out.lock().extend([known]);
        self.is_changed = true;
        if upstream.beside.is_empty() {
            self.context.events.warn(&last_one(&self.admin));
        }
        let mut what = self.peer.clone();
        what.extend(kept(&self.admin, upstream));
        let remove = &mut || self.admin.remove(upstream);
        super::declared(self.context, MEMBER.name, subject, what, remove).map(drop)
    }

    /// The address of an upstream that the configuration does not have: this run has taken it out, or one before it whose
    /// undo is still due.
    fn dial_of_what_is_out(&self) -> Result<String, Failure> {
        let subject = self.subject();
        if let Some(dial) = self.caddy.taken_out.lock().get(&subject) {
            return Ok(dial.clone());
        }
        let left = self.context.left_before().into_iter().rev();
        let own = left
            .filter(|it| it.member == MEMBER.name && it.thing == subject)
            .find_map(|it| Some(it.what.get("dial")?.text()?.into_owned()));
        own.ok_or_else(|| {
            let cause = "Caddy knows no object with this `@id`, and no earlier farewell of this machine has taken it out: \
                         check `id`, or somebody else has removed it";
            self.admin.refused(cause)
        })
    }

    /// The current state, for the rehearsal.
    fn state(&self) -> Result<String, Failure> {
        let subject = self.admin.subject();
        // What an earlier run has left is not known to a rehearsal.
        let unknown = || {
            let cause = "Caddy knows no object with this `@id`: check `id`; what an earlier farewell has taken out is put back by \
                         `farewell start`";
            self.admin.refused(cause)
        };
        let upstream = self.admin.look()?.ok_or_else(unknown)?;
        if upstream.beside.is_empty() {
            self.context.events.warn(&last_one(&self.admin));
        }
        Ok(format!(
            "{subject} ({}): {} requests in flight, {} others in its list",
            upstream.dial,
            self.admin.requests(&upstream.dial)?,
            upstream.beside.len()
        ))
    }
}

fn last_one(admin: &Admin<'_>) -> String {
    format!(
        "{} is the only one in its list: without it Caddy answers 503 until another one is put in",
        admin.subject()
    )
}

fn kept(admin: &Admin<'_>, upstream: &Upstream) -> Keys {
    let beside: Vec<Datum> = (upstream.beside.iter())
        .map(|it| Datum::from(it.as_str()))
        .collect();
    let mut kept = vec![
        ("id", admin.id().into()),
        ("dial", upstream.dial.as_str().into()),
        ("list", upstream.list.as_str().into()),
        (
            "index",
            i64::try_from(upstream.index).unwrap_or(i64::MAX).into(),
        ),
        ("upstream", upstream.object.to_string().into()),
    ];
    if !beside.is_empty() {
        kept.push(("beside", beside.into()));
    }
    super::keys(kept)
}

impl Caddy {
    fn targets<'a>(&'a self, context: &'a AttemptContext<'a>) -> Result<Vec<Target<'a>>, Failure> {
        let session = self.peer.open(context)?;
        let id = self.id.get(context.facts)?;
        let target = |(at, endpoint): (usize, &_)| {
            let session = session.elsewhere(vec![Clone::clone(endpoint)]);
            Ok(Target {
                admin: Admin::new(session, context, &id),
                caddy: self,
                context,
                peer: super::keep_one(&self.peer, context.facts, at)?,
                is_out: false,
                is_changed: false,
            })
        };
        session.endpoints().iter().enumerate().map(target).collect()
    }
}

impl Action for Caddy {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let mut targets = self.targets(context)?;
        super::until_all_quiet(context, &mut targets, &|target| target.advance())?;
        Ok(Outcome::of_change(targets.iter().any(|it| it.is_changed)))
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let targets = self.targets(context)?;
        super::rehearse_all(targets.iter().map(|target| target.state()))
    }
}
