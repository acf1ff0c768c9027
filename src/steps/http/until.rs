//! Polling until an answer is as it should be.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Exchange, ask_instead, is_safe, is_wanted};
use crate::config::section::Json;
use crate::deadline::{Deadline, Reason};
use crate::failure::{Failure, Word};
use crate::peer::{Session, unexpected};
use crate::step::{Action, Effect, Scope};
use crate::sys::cancel::Waited;
use crate::sys::http::{Answer, BODY_LIMIT, Request};

/// Polling.
pub(super) struct Until {
    pub(super) exchange: Exchange,
    pub(super) status: Option<Vec<i64>>,
    pub(super) pointer: Option<String>,
    pub(super) equals: Option<Json>,
    pub(super) every: Duration,
}

impl Action for Until {
    fn attempt(&self, scope: &Scope<'_>) -> Result<Effect, Failure> {
        let session = self.exchange.peer.open(scope)?;
        let request = self.exchange.request(&session, scope)?;
        let equals = self.equals(scope)?;
        let address = session
            .endpoints()
            .first()
            .map_or(String::new(), ToString::to_string);
        let mut last = "no answer yet".to_owned();
        loop {
            let begun = Instant::now();
            let seen = match self.look(&session, &request, scope, equals.as_ref()) {
                Ok((_, None)) => return Ok(Effect::Done),
                Ok((answer, Some(missing))) => format!("last answer {}{missing}", answer.status),
                Err(failure) if failure.passing => failure.cause,
                Err(failure) => return Err(failure),
            };
            if seen != last {
                scope.voice.waiting(&format!("{address}: {seen}"));
                last = seen;
            }
            let next = Deadline::at(begun + self.every, Reason::Attempt).earlier(scope.deadline);
            let waited = scope.cancel.sleep_until(next);
            if waited == Waited::Cancelled || scope.deadline.left().is_none() {
                let cause = format!("the condition did not become true; {last}");
                return Err(Failure::new(Word::TimedOut, address, cause));
            }
        }
    }

    fn rehearse(&self, scope: &Scope<'_>) -> Result<String, Failure> {
        let session = self.exchange.peer.open(scope)?;
        let request = self.exchange.request(&session, scope)?;
        let equals = self.equals(scope)?;
        if !is_safe(&request.method) {
            return ask_instead(&session, &request, scope);
        }
        let (answer, missing) = self.look(&session, &request, scope, equals.as_ref())?;
        let seen = match missing {
            None => ", as it is waited for".to_owned(),
            Some(missing) => format!("{missing}: not yet as it is waited for"),
        };
        let (method, url) = (request.method, answer.url);
        Ok(format!("{method} {url}: answered {}{seen}", answer.status))
    }
}

impl Until {
    fn equals(&self, scope: &Scope<'_>) -> Result<Option<Value>, Failure> {
        let equals = self.equals.as_ref();
        equals.map(|equals| equals.get(scope.facts)).transpose()
    }

    /// One look: the answer, and what it lacks. One that refuses is a failure, since no other look will change that.
    fn look(
        &self,
        session: &Session<'_>,
        request: &Request,
        scope: &Scope<'_>,
        equals: Option<&Value>,
    ) -> Result<(Answer, Option<String>), Failure> {
        let answer = self.exchange.ask(session, request, scope, |answer| {
            self.has_status(answer) || answer.status < 500
        })?;
        if matches!(answer.status, 401 | 403) && !self.has_status(&answer) {
            return Err(unexpected(&answer));
        }
        let missing = self.missing(&answer, equals);
        Ok((answer, missing))
    }

    fn has_status(&self, answer: &Answer) -> bool {
        is_wanted(answer, self.status.as_ref())
    }

    /// What the answer lacks beside what its status says; `None` where it is as it should be.
    fn missing(&self, answer: &Answer, equals: Option<&Value>) -> Option<String> {
        if !self.has_status(answer) {
            return Some(String::new());
        }
        let pointer = self.pointer.as_deref()?;
        if answer.truncated {
            return Some(format!(", which is longer than {} MiB", BODY_LIMIT >> 20));
        }
        let Ok(document) = serde_json::from_slice::<Value>(&answer.body) else {
            return Some(", which is no JSON".to_owned());
        };
        // What is there is not shown: a document may hold what nobody should read in a journal.
        match (document.pointer(pointer), equals) {
            (None, _) => Some(format!(" with nothing at {pointer:?}")),
            (Some(Value::Null), None) => Some(format!(" with null at {pointer:?}")),
            (Some(_), None) => None,
            (Some(value), Some(equals)) if is_same(value, equals) => None,
            (Some(_), Some(_)) => Some(format!(" with another value at {pointer:?}")),
        }
    }
}

/// Whether two values are the same to a reader, for whom 1 and 1.0 are one number.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            one == other || (one.is_f64() || other.is_f64()) && one.as_f64() == other.as_f64()
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .zip(other)
                    .all(|(one, other)| is_same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let same = |(key, one): (&String, &Value)| {
                other.get(key).is_some_and(|other| is_same(one, other))
            };
            one.len() == other.len() && one.iter().all(same)
        }
        _ => one == other,
    }
}
