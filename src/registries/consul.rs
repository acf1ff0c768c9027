//! `consul`: takes a service out of the agent on this machine, and so out of Consul's catalog.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::clients::agent::{Agent, CONSUL};
use crate::config::section::{Field, Secrecy, Section};
use crate::deadline::Deadline;
use crate::failure::{Failure, Word};
use crate::peer::{Session, document, excerpt, unexpected};
use crate::registry::{self, Registration, Registry};
use crate::step::{Effect, Pace, Scope};
use crate::sys::http::{Answer, Request, encoded};

/// The registry's entry in the table. Its keys:
///
/// - those of every [`Agent`]
/// - `service` (string; required): the service's ID; where it was registered without one, its name
/// - `url` (URLs; default "http://127.0.0.1:8500"): the agent that the service was registered with; another one does
///   not know it
/// - `token` (string; default none): the ACL token, sent as `X-Consul-Token`; a secret, best as `${credential:NAME}`
///
/// Source: Consul's documentation, "Service - Agent HTTP API" and "Catalog HTTP API"; the replies were seen on 1.8.7.
///
/// | request | replies |
/// |---|---|
/// | `GET /v1/agent/service/ID` | 200: there. 404 `unknown service ID: ID`: gone; any other 404 is no agent's. 403: refused |
/// | `GET /v1/agent/self` | 200: this node's name. 403: the token may not know it, and the catalog is not looked at |
/// | `GET /v1/catalog/service/NAME?filter=…&index=N&wait=T` | 200: its entry, as far as the token may see them |
/// | `PUT /v1/agent/service/deregister/ID` | 200: taken out, also where it is unknown (404 or 500 on others). 403: refused |
///
/// It has left when the agent does not know it any more and the catalog has no entry of it on this node: the agent takes it
/// out there with the token that it was registered with, and where that may not, it stays listed. It leaves nothing sticky.
pub const REGISTRY: Registry = Registry {
    name: "consul",
    read,
    undo: None,
};

/// How long the catalog is asked to hold an answer back until something changes.
const HOLD: Duration = Duration::from_secs(10);

/// The least time from one look at the catalog to the next one.
const EVERY: Duration = Duration::from_millis(200);

struct Consul {
    agent: Agent,
    service: Field<String>,
    /// What an earlier attempt asked the agent to take out.
    asked: Mutex<Option<Listing>>,
}

/// Where the catalog lists it.
#[derive(Clone)]
struct Listing {
    /// The service's name.
    name: String,
    /// The node that it is on; `None` where the catalog shows this token nothing of it.
    node: Option<String>,
}

fn read(section: &Section<'_>) -> Option<registry::Entry> {
    let agent = Agent::read(section, CONSUL);
    let service = section.required("service", |section, key| {
        section.text(key, service_id, Secrecy::Public)
    });
    let (agent, service) = (agent?, service?);
    let ties = agent.ties();
    Some(registry::Entry {
        registration: Box::new(Consul {
            agent,
            service,
            asked: Mutex::default(),
        }),
        ties,
        pace: Pace::Retried,
        is_permanent: false,
    })
}

fn service_id(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("must not be empty: it is the ID of a service".to_owned());
    }
    Ok(text.to_owned())
}

/// One attempt's talk with the agent.
struct Talk<'a> {
    session: Session<'a>,
    scope: &'a Scope<'a>,
    id: &'a str,
}

impl Talk<'_> {
    fn send(&self, request: &Request, deadline: Deadline) -> Result<Answer, Failure> {
        self.session
            .send_until(request, deadline, |answer| answer.status < 500)
    }

    fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.send(&Request::get(path), self.scope.request())
    }

    /// The service as the agent knows it.
    fn service(&self) -> Result<Option<Value>, Failure> {
        let answer = self.get(&format!("/v1/agent/service/{}", encoded(self.id)))?;
        match answer.status {
            200 => document(&answer).map(Some),
            404 if is_unknown_service(&answer) => Ok(None),
            404 => {
                let cause = "status 404, and not as an agent says that it knows no such service: is this Consul's address?";
                Err(Failure::new(Word::Status, answer.url, cause))
            }
            _ => Err(unexpected(&answer)),
        }
    }

    /// Where the catalog lists what the agent knows so.
    fn listing(&self, service: &Value) -> Result<Listing, Failure> {
        let Some(name) = service["Service"].as_str() else {
            let cause = "the agent's answer names no service";
            let noun = format!("service {}", self.id);
            return Err(Failure::new(Word::Protocol, noun, cause).passing(true));
        };
        let name = name.to_owned();
        let answer = self.get("/v1/agent/self")?;
        let node = match answer.status {
            403 => None,
            200 => document(&answer)?["Config"]["NodeName"]
                .as_str()
                .map(str::to_owned),
            _ => return Err(unexpected(&answer)),
        };
        let mut listing = Listing { name, node };
        if listing.node.is_some() {
            // A catalog that does not answer now must not keep the agent from taking it out.
            let left = self.scope.deadline.left().unwrap_or_default();
            let glance = Deadline::after(left / 4, self.scope.deadline.reason());
            match self.lists(&listing, None, glance) {
                Ok((false, _)) => listing.node = None,
                Err(failure) if !failure.passing => return Err(failure),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(listing)
    }

    /// Whether the catalog lists it, and the index of that answer. With an index, the answer is held back until there is
    /// something newer.
    fn lists(
        &self,
        listing: &Listing,
        index: Option<&str>,
        deadline: Deadline,
    ) -> Result<(bool, Option<String>), Failure> {
        let node = listing.node.as_deref().unwrap_or_default();
        let name = encoded(&listing.name);
        let mut path = format!("/v1/catalog/service/{name}?");
        // Of a service with thousands of instances the whole answer would be too long. A filter's strings know no escapes.
        if ![self.id, node].iter().any(|it| it.contains(['"', '\\'])) {
            let filter = format!("ServiceID == \"{}\" and Node == \"{node}\"", self.id);
            path = format!("{path}filter={}", encoded(&filter));
        }
        if let Some(index) = index {
            // The agent adds up to a sixteenth.
            let left = deadline.left().unwrap_or_default();
            let wait = (left * 3 / 4).min(HOLD).as_millis().max(1);
            path = format!("{path}&index={}&wait={wait}ms", encoded(index));
        }
        let answer = self.send(&Request::get(path), deadline)?;
        if answer.status != 200 {
            return Err(unexpected(&answer));
        }
        let entries = document(&answer)?;
        let Some(entries) = entries.as_array() else {
            let cause = "the catalog's answer is no list";
            return Err(Failure::new(Word::Protocol, answer.url, cause).passing(true));
        };
        let is_it = |entry: &Value| {
            entry["ServiceID"] == self.id && entry["Node"].as_str() == listing.node.as_deref()
        };
        let index = answer.header("x-consul-index").map(str::to_owned);
        Ok((entries.iter().any(is_it), index))
    }

    /// Waits until the catalog does not list it any more.
    fn wait_for_catalog(&self, listing: &Listing) -> Result<(), Failure> {
        let Some(node) = &listing.node else {
            let remark = "the catalog shows this token no entry of it, so that only the agent was asked whether it is gone";
            self.scope.voice.remark(remark);
            return Ok(());
        };
        let mut index = None;
        loop {
            let begun = Instant::now();
            let request = self.scope.request();
            let (listed, next) = self.lists(listing, index.as_deref(), request)?;
            if !listed {
                return Ok(());
            }
            index = next;
            let what = format!("the catalog to take {} on {node} out", self.id);
            self.scope.voice.waiting(&what);
            let _ = self
                .scope
                .cancel
                .sleep(EVERY.saturating_sub(begun.elapsed()));
            if self.scope.cancel.is_cancelled() || self.scope.deadline.left().is_none() {
                let cause = format!(
                    "the agent has taken it out, and the catalog still lists it on {node}: may the token that it was \
                     registered with, or the agent's own, write it?"
                );
                let noun = format!("service {}", self.id);
                return Err(Failure::new(Word::TimedOut, noun, cause));
            }
        }
    }
}

/// Whether the agent says that it knows no such service, in the words of several versions.
fn is_unknown_service(answer: &Answer) -> bool {
    let said = excerpt(&answer.body).to_ascii_lowercase();
    said.starts_with("unknown service")
}

impl Consul {
    fn open<'a>(&'a self, scope: &'a Scope<'a>, id: &'a str) -> Result<Talk<'a>, Failure> {
        let session = self.agent.open(scope)?;
        Ok(Talk { session, scope, id })
    }

    fn asked(&self) -> MutexGuard<'_, Option<Listing>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registration for Consul {
    fn leave(&self, scope: &Scope<'_>) -> Result<Effect, Failure> {
        let id = self.service.get(scope.facts)?;
        let talk = self.open(scope, &id)?;
        let earlier = self.asked().clone();
        let listing = match (talk.service()?, earlier) {
            (None, None) => return Ok(Effect::AlreadyDone),
            (None, Some(listing)) => listing,
            (Some(service), _) => {
                let listing = talk.listing(&service)?;
                *self.asked() = Some(listing.clone());
                let path = format!("/v1/agent/service/deregister/{}", encoded(&id));
                let request = Request {
                    method: "PUT".to_owned(),
                    ..Request::get(path)
                };
                let answer = talk.send(&request, scope.request())?;
                if !answer.is_success() && !is_unknown_service(&answer) {
                    return Err(unexpected(&answer));
                }
                if talk.service()?.is_some() {
                    let cause = "is there again after it was taken out: something registers it again; stop that first";
                    let noun = format!("service {id}");
                    return Err(Failure::new(Word::Protocol, noun, cause).passing(true));
                }
                listing
            }
        };
        talk.wait_for_catalog(&listing)?;
        Ok(Effect::Done)
    }

    fn rehearse(&self, scope: &Scope<'_>) -> Result<String, Failure> {
        let id = self.service.get(scope.facts)?;
        let talk = self.open(scope, &id)?;
        let service = talk.service()?;
        let address = talk.session.endpoint();
        let address = address.map_or_else(String::new, ToString::to_string);
        let Some(service) = service else {
            scope.warn_of_absence(&format!("service {id}"), "`service` (the ID) and `url`");
            return Ok(format!(
                "service {id} at {address}: not there, nothing to leave yet"
            ));
        };
        let listing = talk.listing(&service)?;
        let name = &listing.name;
        let catalog = match &listing.node {
            Some(node) => format!("the catalog lists it on {node}"),
            None => "the catalog shows this token no entry of it".to_owned(),
        };
        Ok(format!(
            "service {id} at {address}: there, as {name}, and {catalog}; whether this token may take it out is not shown"
        ))
    }
}
