//! The admin API of one Caddy: where an upstream stands in its configuration, and how many requests it has.

use serde_json::Value;

use super::super::{ask, must};
use crate::clients::http::{Session, document, unexpected};
use crate::model::error::{ErrorKind, Failure};
use crate::step::AttemptContext;
use crate::sys::http::{Answer, Request, encoded};

/// One attempt's connection to one Caddy, about one upstream.
pub(super) struct Admin<'a> {
    session: Session<'a>,
    context: &'a AttemptContext<'a>,
    id: String,
}

/// An upstream in a list of the configuration.
pub(super) struct Upstream {
    /// The object as it is written.
    pub(super) object: Value,
    /// Its address, under which Caddy counts its requests.
    pub(super) dial: String,
    /// The path of its list in the admin API.
    pub(super) list: String,
    /// Its place in the list.
    pub(super) index: usize,
    /// The addresses of the others.
    pub(super) beside: Vec<String>,
    etag: Option<String>,
}

/// A list of upstreams.
pub(super) struct List {
    pub(super) path: String,
    pub(super) dials: Vec<String>,
    etag: Option<String>,
}

impl<'a> Admin<'a> {
    pub(super) fn new(
        session: Session<'a>,
        context: &'a AttemptContext<'a>,
        id: &str,
    ) -> Admin<'a> {
        Admin {
            session,
            context,
            id: id.to_owned(),
        }
    }

    /// The `@id` that it is about.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn subject(&self) -> String {
        format!(
            "upstream {} of Caddy at {}",
            self.id,
            self.session.address()
        )
    }

    pub(super) fn refused(&self, cause: impl Into<String>) -> Failure {
        Failure::new(ErrorKind::Refused, self.subject(), cause)
    }

    fn own_path(&self) -> String {
        format!("/id/{}", encoded(&self.id))
    }

    /// Whether the configuration has an object with the `@id`.
    pub(super) fn is_known(&self) -> Result<bool, Failure> {
        let answer = ask(&self.session, self.context, "GET", self.own_path())?;
        match answer.status {
            200 => document(&answer).map(|_| true),
            404 if is_unknown(&answer) => Ok(false),
            _ => Err(unexpected(&answer)),
        }
    }

    /// The upstream as it stands in the configuration; `None` where there is no object with the `@id`.
    ///
    /// # Errors
    /// `refused` where that object is none that can be drained.
    pub(super) fn look(&self) -> Result<Option<Upstream>, Failure> {
        let answer = must(&self.session, self.context, "GET", "/config/".to_owned())?;
        let config = document(&answer)?;
        let mut trail = Vec::new();
        if !find(&config, &self.id, &mut trail) {
            return Ok(None);
        }
        let [.., (_, handler), (key, Value::Array(list)), (index, object)] = &trail[..] else {
            return Err(self.refused(no_upstream(&trail)));
        };
        let (true, Some(dial), Ok(index)) = (key == "upstreams", dial(object), index.parse())
        else {
            return Err(self.refused(no_upstream(&trail)));
        };
        if dial.contains('{') {
            let cause = format!(
                "its address is `{dial}`: what a placeholder stands for is not known here, and so not how many requests it has"
            );
            return Err(self.refused(cause));
        }
        let steps = trail.iter().take(trail.len() - 1);
        let steps: String = steps.map(|(key, _)| format!("/{}", encoded(key))).collect();
        // The handler's own `@id` finds it again when others have changed the order of the routes.
        let list_path = match object_id(handler) {
            Some(id) => format!("/id/{}/upstreams", encoded(&id)),
            None => format!("/config{steps}"),
        };
        let others = (list.iter().enumerate()).filter(|(at, _)| *at != index);
        Ok(Some(Upstream {
            object: (*object).clone(),
            dial: dial.to_owned(),
            list: list_path,
            index,
            beside: others.filter_map(|(_, it)| dial_of(it)).collect(),
            etag: etag(&answer),
        }))
    }

    /// How many requests are in flight to an address, in Caddy's present configuration and those before it.
    pub(super) fn requests(&self, dial: &str) -> Result<u64, Failure> {
        let path = "/reverse_proxy/upstreams".to_owned();
        let answer = must(&self.session, self.context, "GET", path)?;
        let counts = document(&answer)?;
        let unexpected = || {
            let cause = "not what Caddy says of the requests of its upstreams";
            Failure::new(ErrorKind::Protocol, answer.url.clone(), cause).retryable(true)
        };
        let counts = counts.as_array().ok_or_else(unexpected)?;
        // One that is out and has none is not listed any more.
        match counts.iter().find(|it| it["address"] == dial) {
            Some(count) => count["num_requests"].as_u64().ok_or_else(unexpected),
            None => Ok(0),
        }
    }

    /// Takes the upstream out of its list.
    pub(super) fn remove(&self, upstream: &Upstream) -> Result<(), Failure> {
        let request = Request {
            method: "DELETE".to_owned(),
            headers: if_match(upstream.etag.as_ref()),
            ..Request::get(self.own_path())
        };
        let answer = self.session.send(&request, self.context.request())?;
        match answer.status {
            404 if is_unknown(&answer) => Ok(()),
            _ => self.changed(&answer),
        }
    }

    /// The list at a path.
    ///
    /// # Errors
    /// `refused` where there is no list of upstreams any more.
    pub(super) fn list(&self, path: &str) -> Result<List, Failure> {
        let answer = ask(&self.session, self.context, "GET", path.to_owned())?;
        let gone = || {
            let cause = format!("the configuration has no list of upstreams at {path} any more");
            self.refused(cause)
        };
        match answer.status {
            200 => {}
            // An index that is out of bounds, or a key on the way that is not there.
            400 | 404 | 500 if answer.says("\"error\"") => return Err(gone()),
            _ => return Err(unexpected(&answer)),
        }
        let dials = match document(&answer)? {
            Value::Array(items) => items.iter().map(dial_of).collect::<Option<Vec<_>>>(),
            _ => None,
        };
        Ok(List {
            path: path.to_owned(),
            dials: dials.ok_or_else(gone)?,
            etag: etag(&answer),
        })
    }

    /// Puts an object into a list, at this place or, where the list is shorter, at its end.
    pub(super) fn insert(&self, list: &List, index: usize, object: &Value) -> Result<(), Failure> {
        let path = format!("{}/{}", list.path, index.min(list.dials.len()));
        let mut request = Request::json("PUT", path, object);
        request.headers.extend(if_match(list.etag.as_ref()));
        self.changed(&self.session.send(&request, self.context.request())?)
    }

    fn changed(&self, answer: &Answer) -> Result<(), Failure> {
        match answer.status {
            200..=299 => Ok(()),
            412 => {
                let cause = "its configuration was changed at the same moment by somebody else";
                let failure = Failure::new(ErrorKind::Status, answer.url.clone(), cause);
                Err(failure.retryable(true))
            }
            _ => Err(unexpected(answer)),
        }
    }
}

fn is_unknown(answer: &Answer) -> bool {
    answer.says("unknown object ID")
}

/// The tag of what was read, as Caddy 2.8 and later send it.
fn etag(answer: &Answer) -> Option<String> {
    answer.header("etag").map(str::to_owned)
}

fn if_match(etag: Option<&String>) -> Vec<(String, String)> {
    let header = |etag: &String| ("If-Match".to_owned(), etag.clone());
    etag.map(header).into_iter().collect()
}

fn dial(object: &Value) -> Option<&str> {
    object.get("dial")?.as_str()
}

fn dial_of(object: &Value) -> Option<String> {
    dial(object).map(str::to_owned)
}

/// The `@id` of an object, which may be written as a number.
fn object_id(object: &Value) -> Option<String> {
    match object.get("@id")? {
        Value::String(id) => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    }
}

/// Finds the object with an `@id`: the keys and indices on the way to it, and what stands there.
fn find<'v>(value: &'v Value, id: &str, trail: &mut Vec<(String, &'v Value)>) -> bool {
    let mut within = |key: String, it: &'v Value| {
        trail.push((key, it));
        let is_found = object_id(it).is_some_and(|it| it == id) || find(it, id, trail);
        if !is_found {
            trail.pop();
        }
        is_found
    };
    match value {
        Value::Object(entries) => entries.iter().any(|(key, it)| within(key.clone(), it)),
        Value::Array(items) => {
            let mut items = items.iter().enumerate();
            items.any(|(at, it)| within(at.to_string(), it))
        }
        _ => false,
    }
}

fn no_upstream(trail: &[(String, &Value)]) -> String {
    let path: String = trail.iter().map(|(key, _)| format!("/{key}")).collect();
    format!(
        "the object with this `@id` stands at {path}, and is no upstream with an address in a list `upstreams`: `id` is to be \
         the `@id` of the upstream itself"
    )
}
