//! `consul`: puts a service into maintenance, and waits until the catalog lists it as critical.

use serde_json::Value;

use crate::clients::agent::{Agent, CONSUL};
use crate::clients::http::{Session, document, peer_ids, unexpected};
use crate::config::section::{Field, Secrecy, Section, read_kept};
use crate::model::error::{ErrorKind, Failure};
use crate::model::intent::Chain;
use crate::step::{Action, AttemptContext, AttemptPolicy, Member, Outcome, StepSpec};
use crate::sys::http::{Answer, encoded};

/// The balancer's entry in the table. Its keys:
///
/// - those of every [`Agent`]
/// - `service` (string; required): the service's ID; where it was registered without one, its name
/// - `url` (URLs; default "http://127.0.0.1:8500"): the agent that the service was registered with; another one does
///   not know it
/// - `token` (string; default none): the ACL token, sent as `X-Consul-Token`; a secret, best as `${credential:NAME}`
///
/// Source: Consul's documentation, "Service - Agent HTTP API" and "Health HTTP API"; the replies were seen on 1.8.7.
///
/// | request | replies |
/// |---|---|
/// | `GET /v1/agent/health/service/id/ID` | 200, 429 or 503 with the service and its checks; 404: unknown; 403: refused |
/// | `PUT /v1/agent/service/maintenance/ID?enable=true&reason=…` (the undo: `false`) | 200; 403: refused |
/// | `GET /v1/health/service/NAME` | 200: what clients see of it |
///
/// Maintenance is sticky: it outlives a restart of the agent.
pub const MEMBER: Member = Member {
    name: "consul",
    read,
    undo: Some(undo),
};

struct Consul {
    agent: Agent,
    service: Field<String>,
    /// What an undo knows the maintenance by; empty for a drain.
    reasons: Vec<String>,
}

fn read_service(section: &Section<'_>) -> Option<Consul> {
    let agent = Agent::read(section, CONSUL);
    let service = section.required("service", |section, key| {
        section.text(key, service_id, Secrecy::Public)
    });
    Some(Consul {
        agent: agent?,
        service: service?,
        reasons: Vec::new(),
    })
}

fn service_id(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("must not be empty: it is the ID of a service".to_owned());
    }
    peer_ids::segment(text)
}

fn read(section: &Section<'_>) -> Option<StepSpec> {
    let action = read_service(section)?;
    action.agent.warn_of_secrets(section);
    Some(StepSpec {
        dependencies: action.agent.dependencies(),
        ..StepSpec::new(action, AttemptPolicy::Polled)
    })
}

fn undo(chain: &Chain) -> Result<Box<dyn Action>, String> {
    let read = |section: &Section<'_>| {
        section.know("reason");
        read_service(section)
    };
    let undo = Consul {
        reasons: chain.texts("reason"),
        ..read_kept(&chain.last().what, read)?
    };
    match undo.reasons.is_empty() {
        true => Err("it names no reason".to_owned()),
        false => Ok(Box::new(undo)),
    }
}

/// One attempt's talk with the agent.
struct Client<'a> {
    session: Session<'a>,
    context: &'a AttemptContext<'a>,
    id: String,
}

/// The service as the agent has it.
struct Seen {
    name: String,
    node: String,
    /// The reason of its maintenance, where it is in one.
    maintenance: Option<String>,
    status: String,
}

impl Client<'_> {
    /// The ID of the check that maintenance is.
    fn check(&self) -> String {
        format!("_service_maintenance:{}", self.id)
    }

    fn look(&self) -> Result<Option<Seen>, Failure> {
        let path = format!("/v1/agent/health/service/id/{}", encoded(&self.id));
        let answer = super::ask(&self.session, self.context, "GET", path)?;
        let document = match answer.status {
            200 | 429 | 503 => document(&answer)?,
            404 if answer.says("AggregatedStatus") || answer.says("ServiceId") => return Ok(None),
            _ => return Err(unexpected(&answer)),
        };
        let (name, status) = (
            document["Service"]["Service"].as_str(),
            document["AggregatedStatus"].as_str(),
        );
        let (Some(name), Some(status)) = (name, status) else {
            return Err(meaningless(&answer, "a service and its checks"));
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let checks = document["Checks"].as_array().map_or(&[][..], Vec::as_slice);
        let own = checks.iter().find(|it| it["CheckID"] == self.check());
        Ok(Some(Seen {
            name: name.to_owned(),
            node: text(&checks.first().unwrap_or(&Value::Null)["Node"]),
            maintenance: own.map(|it| text(&it["Notes"])),
            status: status.to_owned(),
        }))
    }

    fn must(&self) -> Result<Seen, Failure> {
        let unknown = || {
            let cause = "the agent knows no service with this ID";
            Failure::new(ErrorKind::Refused, format!("service {}", self.id), cause)
        };
        self.look()?.ok_or_else(unknown)
    }

    fn set(&self, enable: bool, reason: &str) -> Result<(), Failure> {
        let path = format!(
            "/v1/agent/service/maintenance/{}?enable={enable}&reason={}",
            encoded(&self.id),
            encoded(reason)
        );
        super::must(&self.session, self.context, "PUT", path).map(drop)
    }

    /// That clients may still find it, where they do.
    fn listed(&self, seen: &Seen) -> Result<Option<String>, Failure> {
        let path = format!("/v1/health/service/{}", encoded(&seen.name));
        let answer = super::must(&self.session, self.context, "GET", path)?;
        let listed = document(&answer)?;
        let is_entry = |entry: &Value| entry["Service"]["ID"].is_string();
        let entries = listed.as_array().filter(|it| it.iter().all(is_entry));
        let entries = entries.ok_or_else(|| meaningless(&answer, "a list of services"))?;
        let is_found = |entry: &Value| {
            let mut checks = entry["Checks"].as_array().into_iter().flatten();
            entry["Service"]["ID"] == self.id
                && entry["Node"]["Node"] == seen.node
                && !checks.any(|it| it["CheckID"] == self.check())
        };
        let is_found = entries.iter().any(is_found);
        let subject = || {
            format!(
                "the catalog to list service {} on {} as critical",
                self.id, seen.node
            )
        };
        Ok(is_found.then(subject))
    }
}

/// The failure that an answer is not what Consul gives.
fn meaningless(answer: &Answer, expected: &str) -> Failure {
    let cause = format!("the answer is not {expected}");
    Failure::new(ErrorKind::Protocol, answer.url.clone(), cause).retryable(true)
}

impl Consul {
    fn open<'a>(&'a self, context: &'a AttemptContext<'a>) -> Result<Client<'a>, Failure> {
        Ok(Client {
            session: self.agent.open(context)?,
            context,
            id: self.service.get(context.facts)?,
        })
    }

    fn drain(&self, client: &Client<'_>) -> Result<Outcome, Failure> {
        let context = client.context;
        let reason = format!("farewell {}", context.facts.run());
        let mut outcome = Outcome::AlreadyDone;
        super::until_quiet(context, &mut || {
            let mut seen = client.must()?;
            if seen.maintenance.is_none() {
                let mut what = self.agent.keep(context.facts)?;
                what.insert("service".to_owned(), client.id.as_str().into());
                what.insert("reason".to_owned(), reason.as_str().into());
                let subject = format!("the maintenance of service {}", client.id);
                super::declared(context, MEMBER.name, subject, what, &mut || {
                    client.set(true, &reason)
                })?;
                outcome = Outcome::Done;
                seen = client.must()?;
            }
            client.listed(&seen)
        })?;
        Ok(outcome)
    }

    fn restore(&self, client: &Client<'_>) -> Result<Outcome, Failure> {
        let seen = client.look()?.and_then(|it| it.maintenance);
        let Some(reason) = seen else {
            return Ok(Outcome::AlreadyDone);
        };
        if !self.reasons.contains(&reason) {
            let remark = "somebody else has put it into maintenance since: it is left as it is";
            client.context.events.remark(remark);
            return Ok(Outcome::AlreadyDone);
        }
        client.set(false, "").map(|()| Outcome::Done)
    }
}

impl Action for Consul {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let client = self.open(context)?;
        match self.reasons.is_empty() {
            true => self.drain(&client),
            false => self.restore(&client),
        }
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let client = self.open(context)?;
        let seen = client.must()?;
        let maintenance = match seen.maintenance {
            Some(reason) => format!("in maintenance ({reason})"),
            None => "not in maintenance".to_owned(),
        };
        Ok(format!(
            "service {} ({}): {}, {maintenance}; whether this token may change it is not shown",
            client.id, seen.name, seen.status
        ))
    }
}
