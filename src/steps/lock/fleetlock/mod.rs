//! `fleetlock`: a slot of a FleetLock server, which can be taken and released, and nothing else.

mod identity;
mod reply;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::clients::http::{Peer, Session};
use crate::config::facts::Facts;
use crate::config::section::{Field, Secrecy, Section, non_empty, read_kept};
use crate::model::deadline::{Deadline, Reason};
use crate::model::error::{ErrorKind, Failure};
use crate::model::intent::{Chain, Datum, Intent, IntentId};
use crate::step::lock::state::{
    LockState, Turn, last_call, left_before, not_acquired, remark_kept,
};
use crate::step::lock::{self, Lock};
use crate::step::{Action, AttemptContext, Member, Outcome, StepSpec};
use crate::sys::http::Request;
use reply::Reply;

/// The entry in the table. Its keys:
///
/// - those of every [`Peer`]
/// - `url` (URLs; required): the server's base URL, to which `/v1/…` is appended, or a list of them, tried in turn
/// - `group` (string; default "default"): letters, digits, dots and dashes
/// - `id` (string; default Zincati's): the client's id; Zincati's is an application-specific machine id, as
///   `systemd-id128 machine-id --app-specific=de35106b6ec24688b63afddaa156679b` prints it, which poseidon's server
///   expects
///
/// Source: Zincati's "FleetLock protocol", and the servers coreos/airlock (`internal/server`) and poseidon/fleetlock
/// (`internal/server.go`). POST `v1/pre-reboot`: any 2xx is held, now or before; 423 (poseidon's `lock_held`) and 500
/// with the kind `failed_lock` (airlock's) are "not now". POST `v1/steady-state`: any 2xx is released, or nothing was
/// held; 423 is held by another id. Both: 400, 405 and other 4xx are refused, other 5xx may pass. The protocol has no
/// way to ask who holds what, so that the answer itself is what is seen. Nothing expires.
pub const MEMBER: Member = Member {
    name: "fleetlock",
    read,
    undo: Some(undo),
};

/// The minimum time between two requests.
const PAUSE: Duration = Duration::from_secs(1);

struct FleetLock {
    server: Server,
    state: LockState<SlotState>,
}

/// The state of the slot.
#[derive(Clone, Copy, Default)]
struct SlotState {
    intent_id: Option<IntentId>,
    /// A request has no answer, and may have taken the slot.
    is_perhaps_held: bool,
    is_held: bool,
    /// When it was last requested, and how often.
    asked: Option<Instant>,
    times: u32,
}

impl SlotState {
    /// When it may be requested again. The first pause spreads members that began at the same moment.
    fn next(&self) -> Option<Instant> {
        let spread = if self.times > 1 { 0.1 } else { 1.0 };
        Some(self.asked? + PAUSE.mul_f64(1.0 + spread * fastrand::f64()))
    }
}

/// Where the slots are, and for whom.
struct Server {
    peer: Peer,
    group: Field<String>,
    id: Option<Field<String>>,
}

fn read(section: &Section<'_>) -> Option<StepSpec> {
    let server = Server::read(section)?;
    server.peer.warn_of_secrets(section);
    let dependencies = server.peer.dependencies();
    let state = LockState::default();
    Some(lock::spec(FleetLock { server, state }, None, dependencies))
}

fn group_name(text: &str) -> Result<String, String> {
    let is_good = |it: u8| it.is_ascii_alphanumeric() || it == b'.' || it == b'-';
    if text.is_empty() || !text.bytes().all(is_good) {
        return Err(format!(
            "`{text}` is not a group: letters, digits, dots and dashes"
        ));
    }
    Ok(text.to_owned())
}

impl Server {
    fn read(section: &Section<'_>) -> Option<Server> {
        let peer = Peer::read(section);
        let group = section.texts_or("group", "default", group_name, Secrecy::Public);
        let id = section.text("id", non_empty, Secrecy::Public);
        Some(Server {
            peer: peer?,
            group: group?.pop()?,
            id,
        })
    }

    fn id(&self, facts: &Facts) -> Result<String, Failure> {
        match &self.id {
            Some(id) => id.get(facts),
            None => identity::of_this_machine(facts),
        }
    }

    /// What is sent with every request.
    fn params(&self, facts: &Facts) -> Result<Value, Failure> {
        let (id, group) = (self.id(facts)?, self.group.get(facts)?);
        Ok(json!({"client_params": {"id": id, "group": group}}))
    }

    fn intent(&self, facts: &Facts) -> Result<Intent, Failure> {
        let mut what = self.peer.keep(facts)?;
        let (id, group) = (self.id(facts)?, self.group.get(facts)?);
        what.insert("id".to_owned(), id.as_str().into());
        what.insert("group".to_owned(), group.as_str().into());
        Ok(Intent {
            member: MEMBER.name.to_owned(),
            subject: format!("the slot of {id} in the group {group}"),
            thing: format!("{id} in {group} at {}", what["url"]),
            what,
        })
    }

    fn ask(
        &self,
        session: &Session<'_>,
        context: &AttemptContext<'_>,
        path: &str,
    ) -> Result<Reply, Failure> {
        let mut request = Request::json("POST", path, &self.params(context.facts)?);
        let header = ("fleet-lock-protocol".to_owned(), "true".to_owned());
        request.headers.push(header);
        // After one server's "not now" no other is asked: both have the same slots.
        let answer = session.send(&request, context.request())?;
        reply::judge(&answer)
    }

    /// Releases the slot. Returns whether this machine held it.
    fn release_slot(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let session = self.peer.open(context)?;
        Ok(match self.ask(&session, context, "/v1/steady-state")? {
            Reply::Granted => Outcome::Done,
            Reply::Locked(said) => {
                context
                    .events
                    .remark(&format!("the slot is not this machine's: {said}"));
                Outcome::AlreadyDone
            }
            Reply::Conflict(answer) => return Err(*answer),
        })
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let session = self.peer.open(context)?;
        let (id, group) = (self.id(context.facts)?, self.group.get(context.facts)?);
        // Without the protocol's header the request has no effect.
        let request = Request::json("POST", "/v1/pre-reboot", &json!({}));
        let answer = session.send(&request, context.request())?;
        reply::of_rehearsal(&answer)?;
        Ok(format!(
            "group {group} at {}: a FleetLock server answers; {id} would ask; \
             whether the group is known and a slot is free cannot be asked without taking it",
            answer.url.trim_end_matches("/v1/pre-reboot")
        ))
    }
}

impl FleetLock {
    fn wait(&self, context: &AttemptContext<'_>, end: Deadline) -> Result<Outcome, Failure> {
        let session = self.server.peer.open(context)?;
        let group = self.server.group.get(context.facts)?;
        let subject = || format!("a slot of the group {group} at {}", session.address());
        let mut said = "its holder is not known".to_owned();
        loop {
            // Even after a failed attempt a member asks once a second.
            let next = self.state.value().next();
            let pause = next.map(|at| Deadline::at(at, Reason::Attempt));
            if let Some(pause) = pause {
                let _ = context.cancel.sleep_until(end.earlier(pause));
            }
            if end.left().is_none() || context.cancel.is_cancelled() {
                self.leave(context)?;
                return Err(not_acquired(context, &subject(), &said));
            }
            let was = self.state.value();
            let turn = self.declare(context, was.intent_id)?;
            let asked = self.server.ask(&session, context, "/v1/pre-reboot");
            // Without the server's own answer the request may have taken the slot.
            let is_known = match &asked {
                Ok(_) => true,
                Err(failure) => !failure.retryable && failure.kind != ErrorKind::Protocol,
            };
            let is_held = matches!(asked, Ok(Reply::Granted));
            self.state.change(|it| {
                it.is_held = is_held;
                it.is_perhaps_held = is_held || !is_known || was.is_perhaps_held;
            });
            drop(turn);
            match asked {
                Ok(Reply::Granted) if was.is_held => return Ok(Outcome::AlreadyDone),
                Ok(Reply::Granted) => return Ok(Outcome::Done),
                Ok(Reply::Locked(words)) => said = format!("it says: {words}"),
                Ok(Reply::Conflict(failure)) => said = format!("it says: {}", failure.cause),
                Err(failure) => {
                    self.withdraw(context);
                    return Err(failure);
                }
            }
            context.events.waiting(&format!("{}; {said}", subject()));
        }
    }

    /// Declares the request for the slot, and tracks that it is in progress.
    fn declare(
        &self,
        context: &AttemptContext<'_>,
        declared: Option<IntentId>,
    ) -> Result<Turn<'_, SlotState>, Failure> {
        let intent_id = match declared {
            Some(intent_id) => intent_id,
            None => context.intend(&self.server.intent(context.facts)?)?,
        };
        let turn = self.state.turn(|it| {
            it.intent_id = Some(intent_id);
            it.is_perhaps_held = true;
            it.asked = Some(Instant::now());
            it.times += 1;
        });
        if turn.is_err() && declared.is_none() {
            context.withdraw(intent_id);
        }
        turn
    }

    /// Releases the slot; without a request if it cannot be held.
    fn leave(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        if !self.state.value().is_perhaps_held {
            self.withdraw(context);
            return Ok(Outcome::AlreadyDone);
        }
        let outcome = self.server.release_slot(context)?;
        self.state.change(|it| {
            it.is_held = false;
            it.is_perhaps_held = false;
        });
        self.withdraw(context);
        Ok(outcome)
    }

    /// Releases the slot at the end of a run whose intent is not in the record: nothing would do it later.
    fn release_unrecorded(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        self.leave(context)?;
        let cause = "released already, before the machine is back: it could not be recorded for `farewell start`, and \
                     would be held for ever";
        let subject = self.server.intent(context.facts)?.subject;
        Err(Failure::new(ErrorKind::Io, subject, cause))
    }

    /// What earlier runs of this machine have left of the same slot.
    fn left_before(&self, context: &AttemptContext<'_>) -> Result<Vec<Intent>, Failure> {
        let (id, group) = (
            self.server.id(context.facts)?,
            self.server.group.get(context.facts)?,
        );
        let mut left = left_before(context, MEMBER.name, "id", &id);
        left.retain(|it| it.what.get("group").and_then(Datum::text).as_deref() == Some(&group));
        Ok(left)
    }

    /// Withdraws the intent if nothing is held.
    fn withdraw(&self, context: &AttemptContext<'_>) {
        let slot = self.state.value();
        if let Some(intent_id) = slot.intent_id.filter(|_| !slot.is_perhaps_held) {
            context.withdraw(intent_id);
            self.state.change(|it| it.intent_id = None);
        }
    }

    /// Closes, so that no request for the slot overtakes the one that releases it.
    fn close(&self, context: &AttemptContext<'_>) -> bool {
        let left = context.deadline.left().unwrap_or_default();
        self.state.close(left / 2)
    }
}

impl Lock for FleetLock {
    fn take(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let end = last_call(context);
        self.wait(context, end)
    }

    fn renew(&self, _: &AttemptContext<'_>) -> Result<(), Failure> {
        Ok(())
    }

    fn release(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        if self.close(context) {
            // Without an id nothing was ever asked for.
            let left = self.left_before(context).unwrap_or_default();
            if !self.state.value().is_perhaps_held && !left.is_empty() {
                return self.server.release_slot(context);
            }
            return self.leave(context);
        }
        // Sent all the same: the other request may have been answered on a dead connection.
        self.server.release_slot(context)?;
        let cause =
            "released, but an earlier request for it is still in progress and may take it again";
        let subject = self.server.intent(context.facts)?.subject;
        Err(Failure::new(ErrorKind::TimedOut, subject, cause))
    }

    fn hold(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        if self.close(context) && !self.state.value().is_held {
            return self.leave(context);
        }
        let intent_id = self.state.value().intent_id;
        if intent_id.is_some_and(|it| !context.is_recorded(it)) {
            return self.release_unrecorded(context);
        }
        remark_kept(context, None);
        Ok(Outcome::Done)
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        self.server.rehearse(context)
    }
}

fn undo(chain: &Chain) -> Result<Box<dyn Action>, String> {
    Ok(Box::new(LockUndo(read_kept(
        &chain.last().what,
        Server::read,
    )?)))
}

/// Releases what an earlier run has left.
struct LockUndo(Server);

impl Action for LockUndo {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        self.0.release_slot(context)
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        self.0.rehearse(context)
    }
}
