//! `http`: one request, or polling until an answer matches.

mod capture;
mod until;

use std::time::Duration;

use crate::clients::http::{Expectation, Peer, Session, unexpected};
use crate::config::section::{Field, IntegersOrWord, Json, Secrecy, Section, plain};
use crate::model::error::Failure;
use crate::step::{Action, AttemptContext, AttemptPolicy, Kind, Outcome, StepSpec};
use crate::sys::http::{Answer, Limits, Request, method};
use capture::Captures;
use until::Until;

/// The kind's entry in the table. Its keys:
///
/// - those of every [`Peer`]
/// - `url` (URLs; required): the URL, `http://…`, `https://…` or `unix:///run/app.sock:/path` (a path on a unix
///   socket), or a list of them, tried in turn; a request with a body, and every POST and PATCH, goes to the next one
///   only if the one before received nothing of it, closed the connection or answered 5xx
/// - `method` (method of HTTP; default "GET"): the method, in upper case
/// - `body` (string; default none; not with `json`): the body, sent as it is; with the header Content-Type
///   "application/x-www-form-urlencoded" a fact in a field's value is encoded
/// - `json` (value; default none; not with `body`): what is sent, as JSON
/// - `expect` (integers from 100 to 599 or "closed"; default any 2xx; not with `until`): the status that is a success, or
///   a list of them; "closed" for a request that ends its own server: the step is done when the server has ended the
///   connection, before its answer or after one that is 2xx
/// - `until` (table; default none; not with `expect`): repeats the request until the answer matches
/// - `until.status` (integers from 100 to 599; default any 2xx): the status to wait for, or a list of them
/// - `until.pointer` (JSON pointer; default none): the JSON pointer (RFC 6901) of the value to wait for in the answer
/// - `until.equals` (value; default anything but null; only with `until.pointer`): the value to wait for there
/// - `every` (duration; default "200ms"; only with `until`): the interval of `until`; at least 10ms
/// - `capture` (table of captures; default none): values of a good answer, which is JSON, for later steps, as
///   `${step:STEP.NAME}`; `{ NAME = { pointer = "/POINTER", secret = true } }`: `pointer` is the JSON pointer (RFC 6901) of a
///   string, number or boolean; a `secret` (default false) is shown nowhere; the step fails where there is no such value
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
    /// Whether repeating the request could have another effect while the first one is still in progress.
    is_unsafe: bool,
    /// Whether the answer has all of the step's time.
    is_patient: bool,
    captures: Captures,
}

struct Once {
    exchange: Exchange,
    expect: Expect,
}

enum Expect {
    /// Its status.
    Status(Expectation),
    /// That the server ends the connection.
    Closed,
}

fn read(section: &Section<'_>) -> Option<StepSpec> {
    let peer = Peer::read_whole(section);
    let method = section.text("method", method, Secrecy::Public);
    let body = section.text("body", plain, Secrecy::MayHold);
    let json = section.json("json");
    let is_head = method.as_ref().and_then(Field::literal) == Some("HEAD");
    let expect = match section.integers_or("expect", 100..=599, "closed") {
        Some(IntegersOrWord::Word) => Expect::Closed,
        Some(IntegersOrWord::Integers(statuses)) => {
            Expect::Status(Expectation::of_status(Some(statuses)))
        }
        None => Expect::Status(Expectation::of_status(None)),
    };
    let until = section.table("until");
    let every = section.duration("every");
    let captures = Captures::read(section);
    check_together(section, is_head, every);
    if matches!(expect, Expect::Closed) && section.has("capture") {
        section.problem("capture", "there is no answer with `expect = \"closed\"`");
    }
    let until = until.map(|until| Expectation::read(&until, !is_head));
    let method_word = method.as_ref().map_or(Some("GET"), Field::literal);
    // An explicit attempt-timeout implies that the request may be repeated.
    let is_repeated = section.has("attempt-timeout");
    section.finish();
    let body = body.map(Body::Text).or(json.map(Body::Json));
    let peer = peer?;
    let dependencies = peer.dependencies();
    let is_unsafe = body.is_some() || method_word.is_none_or(|it| matches!(it, "POST" | "PATCH"));
    let is_patient = !is_repeated && (is_unsafe || matches!(expect, Expect::Closed));
    let names = captures.names();
    let exchange = Exchange {
        captures,
        peer,
        method,
        body,
        is_unsafe,
        is_patient,
    };
    let pace = if is_patient {
        AttemptPolicy::Patient
    } else {
        AttemptPolicy::Retried
    };
    let spec = match until {
        None => StepSpec::new(Once { exchange, expect }, pace),
        Some(expectation) => {
            let until = Until {
                exchange,
                expectation,
                every: every.unwrap_or(EVERY),
            };
            StepSpec::new(until, AttemptPolicy::Polled)
        }
    };
    Some(StepSpec {
        dependencies,
        captures: names,
        ..spec
    })
}

/// Reports keys that cannot be used together.
fn check_together(section: &Section<'_>, is_head: bool, every: Option<Duration>) {
    if section.has("body") && section.has("json") {
        section.problem("json", "only one of `body` and `json` can be sent");
    }
    if is_head && section.has("capture") {
        section.problem("capture", "the answer to a HEAD request has no body");
    }
    if is_head && (section.has("body") || section.has("json")) {
        section.problem("method", "a HEAD request has no body");
    }
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
}

impl Exchange {
    fn request(
        &self,
        session: &Session<'_>,
        context: &AttemptContext<'_>,
    ) -> Result<Request, Failure> {
        let mut request = Request::get("");
        if let Some(method) = &self.method {
            request.method = method.get(context.facts)?;
        }
        match &self.body {
            None => {}
            Some(Body::Text(text)) if is_form(session) => {
                request.body = Some(text.get_form(context.facts)?.into_bytes());
            }
            Some(Body::Text(text)) => request.body = Some(text.get(context.facts)?.into_bytes()),
            Some(Body::Json(json)) => {
                request.body = Some(json.get(context.facts)?.to_string().into_bytes());
                if !self.peer.has_header("content-type") {
                    let header = ("Content-Type".to_owned(), "application/json".to_owned());
                    request.headers.push(header);
                }
            }
        }
        Ok(request)
    }

    fn limits(&self, context: &AttemptContext<'_>) -> Limits {
        let connect = context.request();
        Limits {
            connect,
            answer: match self.is_patient {
                true => context.deadline,
                false => connect,
            },
        }
    }

    fn ask(
        &self,
        session: &Session<'_>,
        request: &Request,
        context: &AttemptContext<'_>,
        good: &dyn Fn(&Answer) -> bool,
    ) -> Result<Answer, Failure> {
        if self.is_unsafe && (self.is_patient || context.http.sends_once()) {
            return session.send_unrepeated(request, self.limits(context), good);
        }
        session.send_until(request, context.request(), good)
    }
}

/// Whether the body is that of a form, as its Content-Type says.
fn is_form(session: &Session<'_>) -> bool {
    let kind = session.header("content-type").unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// Whether the method is safe, so that nothing is changed (RFC 9110, 9.2.1).
fn is_safe(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS")
}

/// Sends OPTIONS for the same resource instead of a request that would change something.
fn ask_instead(
    session: &Session<'_>,
    request: &Request,
    context: &AttemptContext<'_>,
) -> Result<String, Failure> {
    let method = &request.method;
    let asked = Request {
        method: "OPTIONS".to_owned(),
        ..Request::default()
    };
    // Many servers do not support OPTIONS, and answer 501.
    let is_answer = |answer: &Answer| answer.status < 500 || answer.status == 501;
    let answer = session.send_until(&asked, context.request(), &is_answer)?;
    if matches!(answer.status, 401 | 403) || !is_answer(&answer) {
        return Err(unexpected(&answer));
    }
    Ok(format!(
        "OPTIONS {} instead of {method}: answered {}, so it can be reached; whether it accepts the {method} is not known",
        answer.url, answer.status
    ))
}

impl Once {
    fn is_expected(&self, answer: &Answer) -> bool {
        match &self.expect {
            Expect::Status(expectation) => expectation.has_status(answer),
            Expect::Closed => false,
        }
    }

    fn send(
        &self,
        session: &Session<'_>,
        request: &Request,
        context: &AttemptContext<'_>,
    ) -> Result<Answer, Failure> {
        let answer = self.exchange.ask(session, request, context, &|answer| {
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
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let session = self.exchange.peer.open(context)?;
        let request = self.exchange.request(&session, context)?;
        if let Expect::Closed = self.expect {
            let limits = self.exchange.limits(context);
            return match session.send_until_closed(&request, limits)? {
                None => Ok(Outcome::Done),
                Some(answer) => Err(unexpected(&answer)),
            };
        }
        let answer = self.send(&session, &request, context)?;
        self.exchange.captures.take(&answer, context.facts)?;
        Ok(Outcome::Done)
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let session = self.exchange.peer.open(context)?;
        let request = self.exchange.request(&session, context)?;
        // A request that ends a server is not safe, whatever its method is.
        if !is_safe(&request.method) || matches!(self.expect, Expect::Closed) {
            return ask_instead(&session, &request, context);
        }
        let answer = self.send(&session, &request, context)?;
        let captured = self.exchange.captures.rehearse(&answer)?;
        let (method, url) = (request.method, answer.url);
        Ok(format!(
            "{method} {url}: answered {}{captured}",
            answer.status
        ))
    }
}
