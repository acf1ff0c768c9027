//! `consul`: deregisters a service from the agent on this machine, and so from Consul's catalog.

mod catalog;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::clients::agent::{Agent, CONSUL};
use crate::clients::http::{Session, document, peer_ids, unexpected};
use crate::config::section::{Field, Secrecy, Section};
use crate::model::deadline::Deadline;
use crate::model::error::{ErrorKind, Failure};
use crate::step::{Action, AttemptContext, AttemptPolicy, Member, Outcome, StepSpec};
use crate::sys::http::{Answer, Request, encoded};
use catalog::{Catalog, Listing};

/// The registry's entry in the table. Its keys:
///
/// - those of every [`Agent`]
/// - `service` (string; required): the service's ID; its name, if it was registered without an ID
/// - `url` (URLs; default "http://127.0.0.1:8500"): the agent with which the service was registered; another one does
///   not know it
/// - `token` (string; default none): the ACL token, sent as `X-Consul-Token`; a secret, best as `${credential:NAME}`
///
/// Source: Consul's documentation, "Service - Agent HTTP API" and "Catalog HTTP API"; the replies were seen on 1.8.7.
///
/// | request | replies |
/// |---|---|
/// | `GET /v1/agent/service/ID` | 200: there. 404 `unknown service ID: ID`: gone; any other 404 is not an agent's. 403: refused |
/// | `GET /v1/agent/self` | 200: this node's name. 403: the token may not know it, and the catalog is not looked at |
/// | `PUT /v1/agent/service/deregister/ID` | 200: taken out, also where it is unknown (404 or 500 on others). 403: refused |
/// | `GET /v1/catalog/node/NODE?filter=…` | 200: the services of this node; `null` where the token may not see it |
/// | `GET /v1/catalog/services`, where the agent has forgotten its name | 200: the names that the token may see |
/// | `GET /v1/catalog/service/NAME?filter=…&index=N&wait=T` | 200: its entries, as far as the token may see them |
/// | `PUT /v1/catalog/deregister` | 200: taken out. 403: the token may not |
///
/// It has left when the agent does not know it any more and the catalog has no entry of it on this node: the agent takes it
/// out there with the token that it was registered with, and where that may not, or the agent has forgotten it, the catalog
/// is asked to. An ID that is nowhere, and the name of services of this node, is a mistake (`config`). It leaves nothing
/// sticky.
pub const MEMBER: Member = Member {
    name: "consul",
    read,
    undo: None,
};

struct Consul {
    agent: Agent,
    service: Field<String>,
    /// Whether an earlier attempt requested its removal.
    asked: AtomicBool,
    /// The service's name, as the agent said before it took the service out.
    name: OnceLock<String>,
}

fn read(section: &Section<'_>) -> Option<StepSpec> {
    let agent = Agent::read(section, CONSUL);
    let service = section.required("service", |section, key| {
        section.text(key, peer_ids::segment, Secrecy::Public)
    });
    let (agent, service) = (agent?, service?);
    let dependencies = agent.dependencies();
    Some(StepSpec {
        dependencies,
        ..StepSpec::new(
            Consul {
                agent,
                service,
                asked: AtomicBool::new(false),
                name: OnceLock::new(),
            },
            AttemptPolicy::Retried,
        )
    })
}

/// The agent at one attempt.
struct Client<'a> {
    session: Session<'a>,
    context: &'a AttemptContext<'a>,
    id: &'a str,
}

impl Client<'_> {
    fn send(&self, request: &Request, deadline: Deadline) -> Result<Answer, Failure> {
        self.session.ask(request, deadline)
    }

    fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.send(&Request::get(path), self.context.request())
    }

    /// The service as the agent knows it.
    fn service(&self) -> Result<Option<Value>, Failure> {
        let answer = self.get(&format!("/v1/agent/service/{}", encoded(self.id)))?;
        match answer.status {
            200 => document(&answer).map(Some),
            404 if is_unknown_service(&answer) => Ok(None),
            404 => {
                let cause = "status 404, and not as an agent says that it knows no such service: is this Consul's address?";
                Err(Failure::new(ErrorKind::Status, answer.url, cause))
            }
            _ => Err(unexpected(&answer)),
        }
    }

    /// The service, for a failure.
    fn subject(&self) -> String {
        format!("service {}", self.id)
    }

    /// Deregisters it from the agent, and checks again.
    fn take_out(&self) -> Result<(), Failure> {
        let path = format!("/v1/agent/service/deregister/{}", encoded(self.id));
        let request = Request {
            method: "PUT".to_owned(),
            ..Request::get(path)
        };
        let answer = self.send(&request, self.context.request())?;
        if !answer.is_success() && !is_unknown_service(&answer) {
            return Err(unexpected(&answer));
        }
        if self.service()?.is_some() {
            let cause =
                "the agent has it again right after it took it out: was it registered anew?";
            return Err(Failure::new(ErrorKind::Protocol, self.subject(), cause).retryable(true));
        }
        Ok(())
    }
}

/// Whether the agent reports an unknown service, in the words of several versions.
fn is_unknown_service(answer: &Answer) -> bool {
    let said = answer.body.trim_ascii_start().to_ascii_lowercase();
    said.starts_with(b"unknown service")
}

impl Consul {
    fn open<'a>(
        &'a self,
        context: &'a AttemptContext<'a>,
        id: &'a str,
    ) -> Result<Client<'a>, Failure> {
        let session = self.agent.open(context)?;
        Ok(Client {
            session,
            context,
            id,
        })
    }
}

impl Action for Consul {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let id = self.service.get(context.facts)?;
        let client = self.open(context, &id)?;
        let mut asked = self.asked.load(Ordering::Relaxed);
        if let Some(service) = client.service()? {
            let Some(name) = service["Service"].as_str() else {
                let cause = "the agent's answer names no service";
                return Err(
                    Failure::new(ErrorKind::Protocol, client.subject(), cause).retryable(true)
                );
            };
            let _ = self.name.set(name.to_owned());
            asked = true;
            self.asked.store(true, Ordering::Relaxed);
            client.take_out()?;
        }
        match Catalog::open(&client, self.name.get().cloned())? {
            Some(catalog) => {
                let seen = catalog.wait_until_unlisted(&mut asked);
                self.asked.store(asked, Ordering::Relaxed);
                seen?;
            }
            None => context.events.remark(UNKNOWN_NODE),
        }
        Ok(if asked {
            Outcome::Done
        } else {
            Outcome::AlreadyDone
        })
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let id = self.service.get(context.facts)?;
        let client = self.open(context, &id)?;
        let service = client.service()?;
        let address = client.session.address();
        let name = service.as_ref().and_then(|it| it["Service"].as_str());
        let catalog = Catalog::open(&client, name.map(str::to_owned))?;
        let listing = catalog.as_ref().map(Catalog::look).transpose()?;
        let agent = match &service {
            Some(_) => format!("there, as {}", name.unwrap_or_default()),
            None => "not there".to_owned(),
        };
        let is_listed = matches!(listing, Some(Listing::Listed(_)));
        let catalog = match (&catalog, listing) {
            (None, _) => UNKNOWN_NODE.to_owned(),
            (Some(catalog), Some(Listing::Listed(_))) => {
                format!("the catalog lists it on {}", catalog.node)
            }
            (Some(catalog), Some(Listing::Absent(namesakes))) => {
                if service.is_none() && !namesakes.is_empty() {
                    return Err(catalog.id_is_a_name(&namesakes));
                }
                format!("the catalog does not list it on {}", catalog.node)
            }
            (Some(catalog), _) => catalog.hidden(),
        };
        if service.is_none() && !is_listed {
            context.warn_of_absence(&client.subject(), "`service` (the ID) and `url`");
        }
        Ok(format!(
            "service {id} at {address}: {agent}, and {catalog}; whether this token may deregister it is not known"
        ))
    }
}

/// The remark that the catalog could not be read.
const UNKNOWN_NODE: &str =
    "this token may not know the agent's node, so that only the agent was asked whether it is gone";
