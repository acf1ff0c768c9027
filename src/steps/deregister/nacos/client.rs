//! Nacos at one attempt: the account, the API that the server has, and what it answers.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::clients::http::{Account, Peer, Session, document, excerpt, unexpected};
use crate::model::error::{ErrorKind, Failure};
use crate::model::intent::{Datum, Keys};
use crate::model::secrets;
use crate::step::AttemptContext;
use crate::sys::http::{Answer, Request, encoded};

/// The poll interval of the list.
pub(super) const EVERY: Duration = Duration::from_millis(200);

/// The APIs for instances, newest first. Newer servers have older ones turned off.
const BASES: [&str; 3] = [
    "/v3/client/ns/instance",
    "/v2/ns/instance",
    "/v1/ns/instance",
];

/// The login APIs, newest first.
const LOGINS: [&str; 2] = ["/v3/auth/user/login", "/v1/auth/login"];

/// The default context path.
const CONTEXT: &str = "/nacos";

/// Keys of what is kept of an entry.
const WEIGHT: &str = "weight";
const METADATA: &str = "metadata";

/// The instance that is meant.
pub(super) struct Instance {
    pub(super) service: String,
    pub(super) ip: String,
    pub(super) port: i64,
    pub(super) namespace: Option<String>,
    pub(super) group: Option<String>,
    pub(super) cluster: Option<String>,
    pub(super) ephemeral: bool,
}

impl fmt::Display for Instance {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "instance {}:{} of {}",
            self.ip, self.port, self.service
        )
    }
}

impl Instance {
    /// The query that names its service.
    fn service_query(&self) -> String {
        let mut query = format!("serviceName={}", encoded(&self.service));
        for (key, value) in [("namespaceId", &self.namespace), ("groupName", &self.group)] {
            if let Some(value) = value {
                query = format!("{query}&{key}={}", encoded(value));
            }
        }
        query
    }

    /// The query that names it, in the cluster that it was found in.
    fn query(&self, cluster: Option<&str>) -> String {
        let service = self.service_query();
        let (ip, port, ephemeral) = (encoded(&self.ip), self.port, self.ephemeral);
        let query = format!("{service}&ip={ip}&port={port}&ephemeral={ephemeral}");
        match cluster.or(self.cluster.as_deref()) {
            Some(cluster) => format!("{query}&clusterName={}", encoded(cluster)),
            None => query,
        }
    }
}

/// An instance in a list.
#[derive(Clone, Default)]
pub(super) struct Entry {
    pub(super) ephemeral: Option<bool>,
    pub(super) cluster: Option<String>,
    /// Its weight and metadata, which an update replaces, too.
    pub(super) weight: Value,
    pub(super) metadata: Value,
}

impl Entry {
    /// What to record for the undo.
    pub(super) fn keep(&self) -> Keys {
        let mut kept = Keys::new();
        if let Some(cluster) = &self.cluster {
            kept.insert("cluster".to_owned(), cluster.as_str().into());
        }
        // As text, since a record's tables and numbers are read as those of the configuration.
        if self.weight.is_number() {
            kept.insert(WEIGHT.to_owned(), self.weight.to_string().into());
        }
        if self.metadata.is_object() {
            kept.insert(METADATA.to_owned(), self.metadata.to_string().into());
        }
        kept
    }

    /// What was kept.
    pub(super) fn kept(what: &Keys) -> Entry {
        let text = |key: &str| what.get(key).and_then(Datum::text);
        let json = |key: &str| {
            let text = text(key);
            text.and_then(|it| serde_json::from_str(&it).ok())
                .unwrap_or_default()
        };
        Entry {
            ephemeral: None,
            cluster: text("cluster").map(|it| it.into_owned()),
            weight: json(WEIGHT),
            metadata: json(METADATA),
        }
    }
}

/// Nacos at one attempt.
pub(super) struct Client<'a> {
    session: Session<'a>,
    context: &'a AttemptContext<'a>,
    /// The path of the API that the server has.
    base: String,
    /// The path of the API that changes an instance.
    updates: String,
    found: Option<Entry>,
}

/// Whether an answer means that the server does not have this API. A 404 with Nacos' own code concerns the service.
fn is_absent(answer: &Answer) -> bool {
    answer.status == 410 || answer.status == 404 && !has_code(answer)
}

fn has_code(answer: &Answer) -> bool {
    document(answer).is_ok_and(|document| document["code"].is_i64())
}

impl<'a> Client<'a> {
    /// Logs in, finds the server's API, and reads the instance.
    pub(super) fn open(
        peer: &'a Peer,
        context: &'a AttemptContext<'a>,
        instance: &Instance,
    ) -> Result<Self, Failure> {
        let (session, account) = peer.open_with_account(context)?;
        let has_path = session.endpoints().iter().any(|it| it.target() != "/");
        let path = if has_path { "" } else { CONTEXT };
        let mut client = Client {
            session,
            context,
            base: String::new(),
            updates: String::new(),
            found: None,
        };
        if let Some(account) = account {
            client.log_in(path, &account)?;
        }
        let mut tried = Vec::new();
        for base in BASES {
            client.base = format!("{path}{base}");
            let answer = client.list(instance)?;
            if !is_absent(&answer) {
                client.found = client.entry(&answer, instance)?;
                // Clients of Nacos 3 have no such request; the administrators' API does.
                client.updates = client.base.replace("/v3/client/", "/v3/admin/");
                return Ok(client);
            }
            tried.push(client.base.clone());
        }
        let address = client.address();
        let cause = format!("no Nacos here: it has none of {}", tried.join(", "));
        Err(Failure::new(ErrorKind::Status, address, cause))
    }

    fn send(&self, request: &Request) -> Result<Answer, Failure> {
        self.session.ask(request, self.context.request())
    }

    fn log_in(&mut self, path: &str, account: &Account) -> Result<(), Failure> {
        let (user, password) = (encoded(&account.user), encoded(&account.password));
        let form = "application/x-www-form-urlencoded".to_owned();
        let mut request = Request {
            method: "POST".to_owned(),
            path: String::new(),
            headers: vec![("Content-Type".to_owned(), form)],
            body: Some(format!("username={user}&password={password}").into_bytes()),
        };
        for login in LOGINS {
            request.path = format!("{path}{login}");
            let answer = self.send(&request)?;
            if is_absent(&answer) {
                continue;
            }
            if !answer.is_success() {
                return Err(unexpected(&answer));
            }
            let document = document(&answer)?;
            let Some(token) = document["accessToken"].as_str().filter(|it| !it.is_empty()) else {
                let cause = format!(
                    "the answer to the password holds no token{}",
                    said(&document)
                );
                return Err(Failure::new(ErrorKind::Refused, answer.url, cause));
            };
            secrets::hide(token);
            self.session
                .set_header("Authorization", format!("Bearer {token}"));
            return Ok(());
        }
        let cause = "no Nacos here, or one without accounts of its own: there is nothing that takes `user` and `password`";
        Err(Failure::new(ErrorKind::Status, self.address(), cause))
    }

    fn list(&self, instance: &Instance) -> Result<Answer, Failure> {
        let path = format!("{}/list?{}", self.base, instance.service_query());
        self.send(&Request::get(path))
    }

    /// The data of an answer in Nacos' format, unless it is an error.
    fn content(answer: &Answer) -> Result<Value, Failure> {
        if !answer.is_success() {
            return Err(unexpected(answer));
        }
        let document = document(answer)?;
        match document["code"].as_i64() {
            None | Some(0 | 200) => Ok(document),
            Some(code) => {
                let cause = format!("code {code}{}", said(&document));
                Err(Failure::new(ErrorKind::Refused, answer.url.clone(), cause))
            }
        }
    }

    /// The instance among those of a list: Nacos 3 has them below `data`, 2 below `data.hosts`, 1 below `hosts`.
    fn entry(&self, answer: &Answer, instance: &Instance) -> Result<Option<Entry>, Failure> {
        if answer.status == 404 && has_code(answer) {
            return Ok(None);
        }
        let content = Self::content(answer)?;
        let places = [
            &content["data"],
            &content["data"]["hosts"],
            &content["hosts"],
        ];
        let Some(hosts) = places.into_iter().find_map(Value::as_array) else {
            let cause = "the answer is not a list of instances";
            return Err(
                Failure::new(ErrorKind::Protocol, answer.url.clone(), cause).retryable(true)
            );
        };
        let is_it = |host: &&Value| host["ip"] == *instance.ip && host["port"] == instance.port;
        let entries = hosts.iter().filter(is_it).map(|host| Entry {
            ephemeral: host["ephemeral"].as_bool(),
            cluster: host["clusterName"].as_str().map(str::to_owned),
            weight: host["weight"].clone(),
            metadata: host["metadata"].clone(),
        });
        let wanted = |it: &Entry| match (&instance.cluster, &it.cluster) {
            (Some(wanted), Some(cluster)) => wanted == cluster,
            _ => true,
        };
        let entries: Vec<Entry> = entries.filter(wanted).collect();
        let clusters: Vec<&str> = entries
            .iter()
            .filter_map(|it| it.cluster.as_deref())
            .collect();
        if clusters.len() > 1 {
            let cause = format!(
                "is registered in the clusters {}: say which one with `cluster`",
                clusters.join(" and ")
            );
            return Err(Failure::new(ErrorKind::Config, instance.to_string(), cause));
        }
        Ok(entries.into_iter().next())
    }

    /// The instance as it was listed at the beginning.
    pub(super) fn found(&self) -> Option<&Entry> {
        self.found.as_ref()
    }

    /// The instance as it is listed now.
    pub(super) fn look(&self, instance: &Instance) -> Result<Option<Entry>, Failure> {
        let answer = self.list(instance)?;
        self.entry(&answer, instance)
    }

    pub(super) fn remove(&self, instance: &Instance) -> Result<(), Failure> {
        let cluster = self.found.as_ref().and_then(|it| it.cluster.as_deref());
        let path = format!("{}?{}", self.base, instance.query(cluster));
        Self::check_change(&self.change("DELETE", path)?)
    }

    /// Enables or disables it, with everything else unchanged.
    pub(super) fn enable(
        &self,
        instance: &Instance,
        entry: &Entry,
        enabled: bool,
    ) -> Result<Answer, Failure> {
        let mut query = instance.query(entry.cluster.as_deref());
        query = format!("{query}&enabled={enabled}");
        if entry.weight.is_number() {
            query = format!("{query}&weight={}", entry.weight);
        }
        if entry.metadata.is_object() {
            let metadata = encoded(&entry.metadata.to_string());
            query = format!("{query}&metadata={metadata}");
        }
        self.change("PUT", format!("{}?{query}", self.updates))
    }

    fn change(&self, method: &str, path: String) -> Result<Answer, Failure> {
        self.send(&Request {
            method: method.to_owned(),
            ..Request::get(path)
        })
    }

    /// Whether a change was accepted. Nacos 1 answers only `ok`.
    pub(super) fn check_change(answer: &Answer) -> Result<(), Failure> {
        match answer.is_success() && answer.body.trim_ascii() == b"ok" {
            true => Ok(()),
            false => Self::content(answer).map(drop),
        }
    }

    /// The address that answers.
    pub(super) fn address(&self) -> String {
        self.session.address()
    }
}

/// A server's error message.
fn said(document: &Value) -> String {
    let said = document["message"].as_str().unwrap_or_default();
    match excerpt(said.as_bytes()) {
        said if said.is_empty() => String::new(),
        said => format!(": {said}"),
    }
}
