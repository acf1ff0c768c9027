//! `nacos`: removes an instance from a service (Nacos 3, 2 and 1, through the API that the server has).

mod client;
mod undo;

use std::time::{Duration, Instant};

use crate::clients::http::Peer;
use crate::config::section::{Field, Secrecy, Section, non_empty, plain};
use crate::model::error::{ErrorKind, Failure};
use crate::model::intent::{Intent, Keys};
use crate::step::{Action, AttemptContext, AttemptPolicy, Member, Outcome, StepSpec};
use crate::sys::sync::Mutex;
use crate::text::elapsed;
use client::{Client, EVERY, Entry, Instance};

/// The registry's entry in the table. Its keys:
///
/// - those of every [`Peer`]
/// - `url` (URLs; required): the server's address, with its context path unless that is `/nacos`, or a list of them,
///   tried in turn
/// - `service` (string; required): the service's name
/// - `ip` (string; required): the address with which the instance is registered
/// - `port` (integer from 0 to 65535; required): the port with which the instance is registered
/// - `namespace` (string; default the server's, `public`): the namespace's ID
/// - `group` (string; default the server's, `DEFAULT_GROUP`): the service's group
/// - `cluster` (string; default the one that it is listed in): the cluster of the instance; needed if the same address
///   is in several clusters of the service
/// - `ephemeral` (boolean; default true): whether it was registered as ephemeral, and depends on its heartbeat
/// - `user` (string; default none; only with `password`): the user; exchanged for a token at each attempt
///
/// Source: Nacos' documentation, "Client API" (3) and "Open API" (2 and 1), and the controllers in its source
/// (`InstanceOpenApiController`, `InstanceControllerV2`, `InstanceController`, `UserControllerV3`). BASE is the first of
/// `/v3/client/ns/instance`, `/v2/ns/instance` and `/v1/ns/instance` that is not answered with 404 or 410.
///
/// | request | replies |
/// |---|---|
/// | `POST /v3/auth/user/login`, else `/v1/auth/login` | 200 with `accessToken`. 403: refused |
/// | `GET BASE/list?serviceName=…` | 200: the instances that are not disabled; none for an unknown service. 403: refused |
/// | `DELETE BASE?serviceName=…&ip=…&port=…&ephemeral=…&clusterName=…` | 200, whether or not there was anything. 403: refused |
/// | `PUT BASE?…&enabled=false&weight=…&metadata=…` (of Nacos 3 `/v3/admin/ns/instance`) | 200: hidden from the list. 403: refused |
///
/// It has left when the list does not have it, which lags by about a second. One that was registered over gRPC belongs to its
/// application's connection: a DELETE is answered with 200, and changes nothing. What is still listed 3 s after it is
/// disabled, with weight and metadata as they were, and has left when the list does not have it. One that is there with
/// another `ephemeral` would stay, and is a mistake in the configuration.
///
/// Disabling sticks, beyond a new registration. Its undo is the same PUT with `enabled=true`.
pub const MEMBER: Member = Member {
    name: "nacos",
    read,
    undo: Some(undo::undo),
};

/// How long the list may show a removed instance before it is disabled.
const GRACE: Duration = Duration::from_secs(3);

struct Nacos {
    name: Target,
    /// When this run first asked for the removal.
    removed: Mutex<Option<Instant>>,
}

/// The instance and its server.
struct Target {
    peer: Peer,
    service: Field<String>,
    ip: Field<String>,
    port: i64,
    namespace: Option<Field<String>>,
    group: Option<Field<String>>,
    cluster: Option<Field<String>>,
    ephemeral: bool,
}

fn read(section: &Section<'_>) -> Option<StepSpec> {
    let name = read_target(section)?;
    name.peer.warn_of_secrets(section);
    let (dependencies, is_permanent) = (name.peer.dependencies(), !name.ephemeral);
    Some(StepSpec {
        dependencies,
        is_permanent,
        ..StepSpec::new(
            Nacos {
                name,
                removed: Mutex::new(None),
            },
            AttemptPolicy::Retried,
        )
    })
}

fn read_target(section: &Section<'_>) -> Option<Target> {
    let peer = Peer::read(section);
    let service = section.required("service", |section, key| {
        section.text(key, non_empty, Secrecy::Public)
    });
    let ip = section.required("ip", |section, key| {
        section.text(key, non_empty, Secrecy::Public)
    });
    let port = section.required("port", |section, key| section.integer(key, 0..=65535));
    let namespace = section.text("namespace", plain, Secrecy::Public);
    let group = section.text("group", plain, Secrecy::Public);
    let cluster = section.text("cluster", non_empty, Secrecy::Public);
    let ephemeral = section.boolean("ephemeral").unwrap_or(true);
    Some(Target {
        peer: peer?,
        service: service?,
        ip: ip?,
        port: port?,
        namespace,
        group,
        cluster,
        ephemeral,
    })
}

/// The keys that identify the instance.
const KEYS: &str = "`service`, `ip`, `port`, `namespace`, `group` and `cluster`";

impl Target {
    fn instance(&self, context: &AttemptContext<'_>) -> Result<Instance, Failure> {
        let get = |field: &Option<Field<String>>| {
            field.as_ref().map(|it| it.get(context.facts)).transpose()
        };
        Ok(Instance {
            service: self.service.get(context.facts)?,
            ip: self.ip.get(context.facts)?,
            port: self.port,
            namespace: get(&self.namespace)?,
            group: get(&self.group)?,
            cluster: get(&self.cluster)?,
            ephemeral: self.ephemeral,
        })
    }

    /// As [`Peer::keep`], in the cluster that it was found in.
    fn keep(&self, context: &AttemptContext<'_>, entry: &Entry) -> Result<Keys, Failure> {
        let facts = context.facts;
        let mut kept = self.peer.keep(facts)?;
        let fields = [
            ("service", Some(&self.service)),
            ("ip", Some(&self.ip)),
            ("namespace", self.namespace.as_ref()),
            ("group", self.group.as_ref()),
            ("cluster", self.cluster.as_ref()),
        ];
        for (key, field) in fields {
            if let Some(field) = field {
                kept.insert(key.to_owned(), field.keep(facts)?);
            }
        }
        kept.insert("port".to_owned(), self.port.into());
        kept.insert("ephemeral".to_owned(), self.ephemeral.into());
        kept.extend(entry.keep());
        Ok(kept)
    }

    /// The failure that it is registered with the other `ephemeral`, so that a removal has no effect.
    fn check(&self, instance: &Instance, is_ephemeral: Option<bool>) -> Result<(), Failure> {
        match is_ephemeral {
            Some(is) if is != self.ephemeral => {
                let cause = format!("is registered with ephemeral = {is}: set that key");
                Err(Failure::new(ErrorKind::Config, instance.to_string(), cause))
            }
            _ => Ok(()),
        }
    }
}

impl Nacos {
    /// Waits until it is not listed; `false` if it still is at `until`, or the time is over.
    fn is_unlisted_by(
        client: &Client<'_>,
        context: &AttemptContext<'_>,
        instance: &Instance,
        until: Instant,
    ) -> Result<bool, Failure> {
        loop {
            if client.look(instance)?.is_none() {
                return Ok(true);
            }
            let what = format!("{instance} to vanish from the list");
            context.events.waiting(&what);
            if !context.pause(EVERY) || Instant::now() >= until {
                return Ok(false);
            }
        }
    }

    /// Disables it, since its removal had no effect.
    fn disable(
        &self,
        client: &Client<'_>,
        context: &AttemptContext<'_>,
        instance: &Instance,
        entry: &Entry,
    ) -> Result<(), Failure> {
        let what = self.name.keep(context, entry)?;
        let intent_id = context.intend(&Intent {
            member: MEMBER.name.to_owned(),
            subject: format!("that {instance} is disabled"),
            thing: thing(&what),
            what,
        })?;
        let answer = client.enable(instance, entry, false)?;
        Client::check_change(&answer).map_err(|failure| {
            if !failure.retryable {
                context.withdraw(intent_id);
            }
            let cause = format!(
                "is listed after its removal was answered with success, and cannot be disabled ({failure}): stop its \
                 application before this step"
            );
            Failure::new(failure.kind, instance.to_string(), cause).retryable(failure.retryable)
        })
    }
}

/// Finds the instance among those with this address.
fn thing(what: &Keys) -> String {
    let keys = ["url", "namespace", "group", "service", "ip", "port"];
    let parts = keys.map(|key| what.get(key).map_or(String::new(), ToString::to_string));
    parts.join(" ")
}

impl Action for Nacos {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let instance = self.name.instance(context)?;
        let client = Client::open(&self.name.peer, context, &instance)?;
        let found = client.found();
        if let Some(entry) = found {
            self.name.check(&instance, entry.ephemeral)?;
        }
        let removed = || self.removed.lock();
        let before = *removed();
        let Some(entry) = found else {
            // Even if it is not listed: a disabled one exists, but is hidden.
            client.remove(&instance)?;
            return Ok(match before {
                Some(_) => Outcome::Done,
                None => Outcome::AlreadyDone,
            });
        };
        let since = *removed().get_or_insert_with(Instant::now);
        client.remove(&instance)?;
        if Self::is_unlisted_by(&client, context, &instance, since + GRACE)? {
            return Ok(Outcome::Done);
        }
        let late = |what: &str| {
            let cause = format!(
                "is listed {} after it was {what}",
                elapsed::short(since.elapsed())
            );
            Failure::new(ErrorKind::Protocol, instance.to_string(), cause).retryable(true)
        };
        if since.elapsed() < GRACE {
            return Err(late("removed"));
        }
        self.disable(&client, context, &instance, entry)?;
        if !Self::is_unlisted_by(&client, context, &instance, context.deadline.instant())? {
            return Err(late("removed, and disabled then"));
        }
        context.events.remark(&format!(
            "{instance} stayed when it was removed, and is disabled instead: clients do not get it any more, and the entry \
             itself goes with its application"
        ));
        Ok(Outcome::Done)
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let instance = self.name.instance(context)?;
        let client = Client::open(&self.name.peer, context, &instance)?;
        let found = match client.found() {
            Some(entry) => {
                self.name.check(&instance, entry.ephemeral)?;
                "there; whether this account may remove it is not known"
            }
            None => {
                context.warn_of_absence(&instance.to_string(), KEYS);
                "not there, nothing to leave yet"
            }
        };
        Ok(format!("{instance} at {}: {found}", client.address()))
    }
}
