//! `http`: one request, or polling until an answer is as it should be.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::config::section::{Field, Json, Secrecy, Section, plain};
use crate::deadline::{Deadline, Reason};
use crate::failure::{Failure, Word};
use crate::peer::{Peer, Session, unexpected};
use crate::step::{Action, Blueprint, Effect, Kind, Pace, Scope};
use crate::sys::cancel::Waited;
use crate::sys::http::{Answer, BODY_LIMIT, Request, method};

/// The kind's entry in the table. Its keys:
///
/// - those of every [`Peer`]
/// - `url` (URLs; required): what is asked for, `http://…` or `https://…`, or a list of addresses, tried in turn
/// - `method` (method of HTTP; default "GET"): what is asked; in upper case
/// - `body` (string; default none; not with `json`): what is sent, as it is
/// - `json` (value; default none; not with `body`): what is sent, as JSON
/// - `expect` (integers from 100 to 599; default any 2xx; not with `until`): the status that is a success, or a list of
///   them
/// - `until` (table; default none; not with `expect`): asks again until the answer is as it should be
/// - `until.status` (integers from 100 to 599; default any 2xx): the status, or a list of them, that is waited for
/// - `until.pointer` (JSON pointer; default none): the JSON pointer (RFC 6901) of the value in the answer that is waited for
/// - `until.equals` (value; default anything but null; only with `until.pointer`): the value that is waited for there
/// - `every` (duration; default "200ms"; only with `until`): how often `until` asks; at least 10ms
pub const KIND: Kind = Kind {
    name: "http",
    read,
    undo: None,
};

const EVERY: Duration = Duration::from_millis(200);
const LEAST_EVERY: Duration = Duration::from_millis(10);

enum Body {
    Text(Field<String>),
    Json(Json),
}

struct Exchange {
    peer: Peer,
    method: Option<Field<String>>,
    body: Option<Body>,
}

struct Once {
    exchange: Exchange,
    expect: Option<Vec<i64>>,
}

struct Until {
    exchange: Exchange,
    status: Option<Vec<i64>>,
    pointer: Option<String>,
    equals: Option<Json>,
    every: Duration,
}

fn read(section: &Section<'_>) -> Option<Blueprint> {
    let peer = Peer::read_whole(section);
    let method = section.text("method", method, Secrecy::Public);
    let body = section.text("body", plain, Secrecy::MayHold);
    let json = section.json("json");
    if section.has("body") && section.has("json") {
        section.problem("json", "only one of `body` and `json` can be sent");
    }
    let is_head = method.as_ref().and_then(Field::literal) == Some("HEAD");
    if is_head && (section.has("body") || section.has("json")) {
        section.problem("method", "a HEAD request has no body");
    }
    let expect = section.integers("expect", 100..=599);
    let until = section.table("until");
    let every = section.duration("every");
    if every.is_some_and(|every| every < LEAST_EVERY) {
        section.problem("every", "must be at least 10ms");
    }
    if section.has("every") && !section.has("until") {
        section.problem("every", "means something only beside `until`");
    }
    if section.has("until") && section.has("expect") {
        let message = "has its own `status`, and cannot be used with `expect`";
        section.problem("until", message);
    }
    let until = until.map(|until| {
        let status = until.integers("status", 100..=599);
        let pointer = if until.has("equals") {
            until.required("pointer", |until, key| until.word(key))
        } else {
            until.word("pointer")
        };
        let equals = until.json("equals");
        if pointer
            .as_ref()
            .is_some_and(|it| !it.is_empty() && !it.starts_with('/'))
        {
            until.problem("pointer", "a JSON pointer is empty or begins with `/`");
        }
        if is_head && until.has("pointer") {
            until.problem("pointer", "the answer to a HEAD request has no body");
        }
        until.finish();
        (status, pointer, equals)
    });
    section.finish();
    let body = body.map(Body::Text).or(json.map(Body::Json));
    let peer = peer?;
    let ties = peer.ties();
    let exchange = Exchange { peer, method, body };
    let blueprint = match until {
        None => Blueprint::new(Once { exchange, expect }, Pace::Retried),
        Some((status, pointer, equals)) => {
            let until = Until {
                exchange,
                status,
                pointer,
                equals,
                every: every.unwrap_or(EVERY),
            };
            Blueprint::new(until, Pace::Polled)
        }
    };
    Some(Blueprint { ties, ..blueprint })
}

impl Exchange {
    fn request(&self, scope: &Scope<'_>) -> Result<Request, Failure> {
        let mut request = Request::get("");
        if let Some(method) = &self.method {
            request.method = method.get(scope.facts)?;
        }
        match &self.body {
            None => {}
            Some(Body::Text(text)) => request.body = Some(text.get(scope.facts)?.into_bytes()),
            Some(Body::Json(json)) => {
                request.body = Some(json.get(scope.facts)?.to_string().into_bytes());
                if !self.peer.has_header("content-type") {
                    let header = ("Content-Type".to_owned(), "application/json".to_owned());
                    request.headers.push(header);
                }
            }
        }
        Ok(request)
    }
}

fn is_wanted(answer: &Answer, wanted: Option<&Vec<i64>>) -> bool {
    match wanted {
        Some(wanted) => wanted.contains(&i64::from(answer.status)),
        None => answer.is_success(),
    }
}

/// Whether a server is only asked, and nothing is changed there (RFC 9110, 9.2.1).
fn is_safe(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS")
}

/// Asks for the options of the same resource, in place of a request that would change something.
fn ask_instead(
    session: &Session<'_>,
    request: &Request,
    scope: &Scope<'_>,
) -> Result<String, Failure> {
    let method = &request.method;
    let asked = Request {
        method: "OPTIONS".to_owned(),
        ..Request::default()
    };
    // Many servers know no OPTIONS, and say so with 501.
    let is_answer = |answer: &Answer| answer.status < 500 || answer.status == 501;
    let answer = session.send_until(&asked, scope.request(), is_answer)?;
    if matches!(answer.status, 401 | 403) || !is_answer(&answer) {
        return Err(unexpected(&answer));
    }
    Ok(format!(
        "OPTIONS {} in place of {method}: answered {}, so it can be reached; whether it takes the {method} is not shown",
        answer.url, answer.status
    ))
}

impl Once {
    fn is_expected(&self, answer: &Answer) -> bool {
        is_wanted(answer, self.expect.as_ref())
    }

    fn send(
        &self,
        session: &Session<'_>,
        request: &Request,
        scope: &Scope<'_>,
    ) -> Result<Answer, Failure> {
        let answer = session.send_until(request, scope.request(), |answer| {
            self.is_expected(answer) || answer.status < 500
        })?;
        if self.is_expected(&answer) {
            Ok(answer)
        } else {
            Err(unexpected(&answer))
        }
    }
}

impl Action for Once {
    fn attempt(&self, scope: &Scope<'_>) -> Result<Effect, Failure> {
        let session = self.exchange.peer.open(scope)?;
        let request = self.exchange.request(scope)?;
        self.send(&session, &request, scope).map(|_| Effect::Done)
    }

    fn rehearse(&self, scope: &Scope<'_>) -> Result<String, Failure> {
        let session = self.exchange.peer.open(scope)?;
        let request = self.exchange.request(scope)?;
        if !is_safe(&request.method) {
            return ask_instead(&session, &request, scope);
        }
        let answer = self.send(&session, &request, scope)?;
        let (method, url) = (request.method, answer.url);
        Ok(format!("{method} {url}: answered {}", answer.status))
    }
}

impl Action for Until {
    fn attempt(&self, scope: &Scope<'_>) -> Result<Effect, Failure> {
        let session = self.exchange.peer.open(scope)?;
        let request = self.exchange.request(scope)?;
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
        let request = self.exchange.request(scope)?;
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
        let answer = session.send_until(request, scope.request(), |answer| {
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
