//! Requests to balancers with an HTTP API, and the intent that is declared before a change.

use crate::clients::http::{Peer, Session, unexpected};
use crate::config::facts::Facts;
use crate::model::error::Failure;
use crate::model::intent::{Datum, Intent, IntentId, Keys};
use crate::step::AttemptContext;
use crate::sys::http::{Answer, Request};

/// Sends a request without a body.
pub(super) fn ask(
    session: &Session<'_>,
    context: &AttemptContext<'_>,
    method: &str,
    path: String,
) -> Result<Answer, Failure> {
    let request = Request {
        method: method.to_owned(),
        ..Request::get(path)
    };
    session.send(&request, context.request())
}

/// As [`ask`], where any status but 2xx is a failure.
pub(super) fn must(
    session: &Session<'_>,
    context: &AttemptContext<'_>,
    method: &str,
    path: String,
) -> Result<Answer, Failure> {
    let answer = ask(session, context, method, path)?;
    match answer.is_success() {
        true => Ok(answer),
        false => Err(unexpected(&answer)),
    }
}

/// What [`Peer::keep`] keeps of a peer, with one of its addresses alone: the one at this index.
pub(super) fn keep_one(peer: &Peer, facts: &Facts, at: usize) -> Result<Keys, Failure> {
    let mut kept = peer.keep(facts)?;
    if let Some(Datum::List(urls)) = kept.get_mut("url") {
        urls.drain(at + 1..);
        urls.drain(..at);
    }
    Ok(kept)
}

/// Declares an intent and acts on it. If the balancer refuses, nothing is left, and the intent is withdrawn.
pub(super) fn declared(
    context: &AttemptContext<'_>,
    member: &str,
    subject: String,
    what: Keys,
    act: &mut dyn FnMut() -> Result<(), Failure>,
) -> Result<IntentId, Failure> {
    let intent_id = context.intend(&Intent {
        member: member.to_owned(),
        thing: subject.clone(),
        subject,
        what,
    })?;
    match act() {
        Ok(()) => Ok(intent_id),
        Err(failure) => {
            if !failure.retryable {
                context.withdraw(intent_id);
            }
            Err(failure)
        }
    }
}
