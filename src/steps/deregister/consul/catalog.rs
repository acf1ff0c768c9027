//! What Consul's catalog lists of a service on an agent's node, and its removal there.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Client;
use crate::clients::http::{document, excerpt, unexpected};
use crate::model::deadline::Deadline;
use crate::model::error::{ErrorKind, Failure};
use crate::sys::http::{Request, encoded};

/// How long a blocking query of the catalog lasts.
const HOLD: Duration = Duration::from_secs(10);

/// How long an agent has to remove a service from the catalog before farewell does so.
const GRACE: Duration = Duration::from_secs(2);

/// The minimum time between two queries of the catalog.
const EVERY: Duration = Duration::from_millis(200);

/// How many namesakes are named.
const SHOWN: usize = 3;

/// What the catalog lists on the node.
pub(super) enum Listing {
    /// Nothing of the whole node: it is not in the catalog, or this token may not see it.
    Hidden,
    /// This service, under this name.
    Listed(String),
    /// Not this service; the IDs of those that have the wanted ID for their name.
    Absent(Vec<String>),
}

/// How many visible services are searched for an ID.
const SEARCHED: usize = 64;

/// The catalog, about one node.
pub(super) struct Catalog<'a> {
    client: &'a Client<'a>,
    pub(super) node: String,
    /// The service's name, once it is known.
    name: Option<String>,
}

impl<'a> Catalog<'a> {
    /// Reads the agent's node; `None` if this token may not.
    pub fn open(client: &'a Client<'a>, name: Option<String>) -> Result<Option<Self>, Failure> {
        let answer = client.get("/v1/agent/self")?;
        match answer.status {
            403 => Ok(None),
            200 => match document(&answer)?["Config"]["NodeName"].as_str() {
                Some(node) => Ok(Some(Catalog {
                    client,
                    node: node.to_owned(),
                    name,
                })),
                None => {
                    let cause = "the agent's answer names no node";
                    Err(Failure::new(ErrorKind::Protocol, answer.url, cause).retryable(true))
                }
            },
            _ => Err(unexpected(&answer)),
        }
    }

    /// What it lists now.
    pub fn look(&self) -> Result<Listing, Failure> {
        let (id, node) = (self.client.id, &self.node);
        let filter = filter(&[id], || format!("ID == \"{id}\" or Service == \"{id}\""));
        let answer = self.get(&format!("/v1/catalog/node/{}?{filter}", encoded(node)))?;
        let of_node = listing(&answer, id)
            .ok_or_else(|| self.unexpected_answer("lists no services of a node"))?;
        let mut namesakes = match of_node {
            Listing::Absent(namesakes) => namesakes,
            seen => return Ok(seen),
        };
        // Before 1.10 a service whose ID differs from its name is hidden from a token with permission for its name.
        let names = match &self.name {
            Some(name) => vec![name.clone()],
            None => self.names()?,
        };
        for name in names {
            let (listed, others, _) = self.entries(&name, None, self.client.context.request())?;
            if listed {
                return Ok(Listing::Listed(name));
            }
            if name == id {
                namesakes.extend(others);
            }
        }
        namesakes.sort();
        namesakes.dedup();
        Ok(Listing::Absent(namesakes))
    }

    /// The names that the wanted ID may have: those of all visible services, if they are few. A token that may see many
    /// sees them on the node, too.
    fn names(&self) -> Result<Vec<String>, Failure> {
        let services = self.get("/v1/catalog/services")?;
        let services = services.as_object();
        let services = services.ok_or_else(|| self.unexpected_answer("lists no services"))?;
        let names = services
            .keys()
            .filter(|it| services.len() <= SEARCHED || **it == self.client.id);
        Ok(names.cloned().collect())
    }

    fn get(&self, path: &str) -> Result<Value, Failure> {
        let answer = self.client.get(path)?;
        match answer.status {
            200 => document(&answer),
            _ => Err(unexpected(&answer)),
        }
    }

    fn unexpected_answer(&self, cause: &str) -> Failure {
        let cause = format!("the catalog's answer {cause}");
        Failure::new(ErrorKind::Protocol, self.client.subject(), cause).retryable(true)
    }

    /// Whether the entries of a service on this node have the wanted ID, the IDs of the others, and the index of that
    /// answer. With an index it is a blocking query.
    fn entries(
        &self,
        name: &str,
        newer: Option<(&str, Duration)>,
        deadline: Deadline,
    ) -> Result<(bool, Vec<String>, Option<String>), Failure> {
        let (id, node) = (self.client.id, self.node.as_str());
        // The whole answer would be long for a service with thousands of instances.
        let filter = filter(&[node], || format!("Node == \"{node}\""));
        let mut path = format!("/v1/catalog/service/{}?{filter}", encoded(name));
        if let Some((index, hold)) = newer {
            // The agent adds up to a sixteenth.
            let left = deadline.left().unwrap_or_default();
            let wait = (left * 3 / 4).min(hold).as_millis().max(1);
            path = format!("{path}&index={}&wait={wait}ms", encoded(index));
        }
        let answer = self.client.send(&Request::get(path), deadline)?;
        if answer.status != 200 {
            return Err(unexpected(&answer));
        }
        let index = answer.header("x-consul-index").map(str::to_owned);
        let document = document(&answer)?;
        let entries = document.as_array();
        let entries = entries
            .ok_or_else(|| self.unexpected_answer("is not a list"))?
            .iter();
        let own = entries.filter(|it| it["Node"].as_str() == Some(node));
        let (ids, others): (Vec<_>, Vec<_>) = own
            .filter_map(|it| it["ServiceID"].as_str().map(str::to_owned))
            .partition(|it| it == id);
        Ok((!ids.is_empty(), others, index))
    }

    /// Waits until the service is not listed, and removes it itself if the agent does not: an agent that does not know
    /// a service cannot. `asked` says whether the agent or the catalog was asked to remove it, in this attempt or an
    /// earlier one, and is set here.
    ///
    /// # Errors
    /// Also if this token may not remove it, with the call that does.
    pub fn wait_until_unlisted(&self, asked: &mut bool) -> Result<(), Failure> {
        let context = self.client.context;
        let (id, node) = (self.client.id, &self.node);
        let begun = Instant::now();
        let patience = if *asked { GRACE } else { Duration::ZERO };
        let name = match self.look()? {
            Listing::Listed(name) => name,
            Listing::Hidden => {
                context.events.remark(&self.hidden());
                return Ok(());
            }
            Listing::Absent(namesakes) if !*asked && !namesakes.is_empty() => {
                return Err(self.id_is_a_name(&namesakes));
            }
            Listing::Absent(_) => return Ok(()),
        };
        *asked = true;
        let (mut index, mut removed): (Option<String>, Option<Result<(), Failure>>) = (None, None);
        loop {
            let turn = Instant::now();
            if removed.is_none() && begun.elapsed() >= patience {
                removed = Some(self.remove(&name)?);
                index = None;
            }
            let hold = if removed.is_some() { HOLD } else { GRACE };
            let newer = index.as_deref().map(|it| (it, hold));
            let (listed, _, next) = self.entries(&name, newer, context.request())?;
            if !listed {
                return Ok(());
            }
            index = next;
            let what = format!("the catalog to take {id} on {node} out");
            context.events.waiting(&what);
            // The agent may be removing it right now.
            if let Some(Err(refused)) = &removed
                && begun.elapsed() >= 3 * patience
            {
                return Err(refused.clone());
            }
            if !context.pause(EVERY.saturating_sub(turn.elapsed())) {
                if let Some(Err(refused)) = removed {
                    return Err(refused);
                }
                let cause = format!("it was taken out, and the catalog still lists it on {node}");
                return Err(Failure::new(
                    ErrorKind::TimedOut,
                    self.client.subject(),
                    cause,
                ));
            }
        }
    }

    /// Removes it from the catalog directly; the inner result is whether this token may.
    fn remove(&self, name: &str) -> Result<Result<(), Failure>, Failure> {
        let path = "/v1/catalog/deregister";
        let body = json!({"Node": self.node, "ServiceID": self.client.id});
        let request = Request::json("PUT", path, &body);
        let answer = self.client.send(&request, self.client.context.request())?;
        match answer.status {
            200 => Ok(Ok(())),
            403 => {
                let said = excerpt(&answer.body);
                let cause = format!(
                    "the agent does not know it, the catalog lists it on {}, and this token may not take it out there \
                     ({said}): one with service:write on {name:?} may, by PUT {} with the body {body}",
                    self.node, answer.url
                );
                Ok(Err(Failure::new(
                    ErrorKind::Refused,
                    self.client.subject(),
                    cause,
                )))
            }
            _ => Err(unexpected(&answer)),
        }
    }

    /// The remark that the catalog could not be checked.
    pub fn hidden(&self) -> String {
        format!(
            "the catalog shows this token nothing of the node {}, so that only the agent was asked whether it is gone",
            self.node
        )
    }

    /// The failure that no service has the wanted ID, but others have it as their name.
    pub fn id_is_a_name(&self, namesakes: &[String]) -> Failure {
        let more = match namesakes.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let shown: Vec<&str> = namesakes.iter().take(SHOWN).map(String::as_str).collect();
        let cause = format!(
            "there is no such ID on {}; it is the name of {}{more}: set `service` to the ID",
            self.node,
            shown.join(", ")
        );
        Failure::new(ErrorKind::Config, self.client.subject(), cause)
    }
}

/// A query with a filter, unless the texts need escapes, which filters do not have.
fn filter(texts: &[&str], filter: impl Fn() -> String) -> String {
    if texts.iter().any(|it| it.contains(['"', '\\'])) {
        return String::new();
    }
    format!("filter={}", encoded(&filter()))
}

/// The services of a node in an answer of the catalog; `None` where it is none.
fn listing(document: &Value, id: &str) -> Option<Listing> {
    if document.is_null() {
        return Some(Listing::Hidden);
    }
    let services = match &document.as_object()?.get("Services")? {
        Value::Null => return Some(Listing::Absent(Vec::new())),
        services => services.as_object()?,
    };
    let mut namesakes = Vec::new();
    for service in services.values() {
        let (its, name) = (service["ID"].as_str()?, service["Service"].as_str()?);
        if its == id {
            return Some(Listing::Listed(name.to_owned()));
        }
        if name == id {
            namesakes.push(its.to_owned());
        }
    }
    Some(Listing::Absent(namesakes))
}
