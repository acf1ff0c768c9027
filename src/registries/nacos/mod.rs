//! `nacos`: takes an instance out of a service (Nacos 3, 2 and 1, through the API that the server has).

mod naming;

use std::time::Instant;

use crate::config::section::{Field, Secrecy, Section, plain};
use crate::failure::{Failure, Word};
use crate::lapse;
use crate::peer::Peer;
use crate::registry::{self, Registration, Registry};
use crate::step::{Effect, Pace, Scope};
use crate::sys::cancel::Waited;
use naming::{EVERY, Instance, Naming};

/// The registry's entry in the table. Its keys:
///
/// - those of every [`Peer`]
/// - `url` (URLs; required): the server's address, with its context path where that is not `/nacos`, or a list of them,
///   tried in turn
/// - `service` (string; required): the service's name
/// - `ip` (string; required): the address that the instance is registered with
/// - `port` (integer from 0 to 65535; required): the port that the instance is registered with
/// - `namespace` (string; default the server's, `public`): the namespace's ID
/// - `group` (string; default the server's, `DEFAULT_GROUP`): the service's group
/// - `ephemeral` (boolean; default true): whether it was registered as one that lives by its heartbeat
/// - `user` (string; default none; only with `password`): who asks; exchanged for a token at each attempt
///
/// Source: Nacos' documentation, "Client API" (3) and "Open API" (2 and 1), and the controllers in its source
/// (`InstanceOpenApiController`, `InstanceControllerV2`, `InstanceController`, `UserControllerV3`). BASE is the first of
/// `/v3/client/ns/instance`, `/v2/ns/instance` and `/v1/ns/instance` that is not answered with 404 or 410.
///
/// | request | replies |
/// |---|---|
/// | `POST /v3/auth/user/login`, else `/v1/auth/login` | 200 with `accessToken`. 403: refused |
/// | `GET BASE/list?serviceName=…` | 200: the instances that are not disabled; none for an unknown service. 403: refused |
/// | `DELETE BASE?serviceName=…&ip=…&port=…&ephemeral=…` | 200, whether or not there was anything. 403: refused |
///
/// It has left when the list does not have it, which lags by about a second. One that is there with another `ephemeral`
/// would stay, and is a mistake in the configuration. It leaves nothing sticky.
pub const REGISTRY: Registry = Registry {
    name: "nacos",
    read,
    undo: None,
};

struct Nacos {
    peer: Peer,
    service: Field<String>,
    ip: Field<String>,
    port: i64,
    namespace: Option<Field<String>>,
    group: Option<Field<String>>,
    ephemeral: bool,
}

fn read(section: &Section<'_>) -> Option<registry::Entry> {
    let peer = Peer::read(section);
    let service = section.required("service", |section, key| {
        section.text(key, some_text, Secrecy::Public)
    });
    let ip = section.required("ip", |section, key| {
        section.text(key, some_text, Secrecy::Public)
    });
    let port = section.required("port", |section, key| section.integer(key, 0..=65535));
    let namespace = section.text("namespace", plain, Secrecy::Public);
    let group = section.text("group", plain, Secrecy::Public);
    let ephemeral = section.boolean("ephemeral").unwrap_or(true);
    let (peer, service, ip, port) = (peer?, service?, ip?, port?);
    let ties = peer.ties();
    Some(registry::Entry {
        registration: Box::new(Nacos {
            peer,
            service,
            ip,
            port,
            namespace,
            group,
            ephemeral,
        }),
        ties,
        pace: Pace::Retried,
        is_permanent: !ephemeral,
    })
}

/// The keys that say which instance is meant.
const KEYS: &str = "`service`, `ip`, `port`, `namespace`, `group` and `cluster`";

fn some_text(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("must not be empty".to_owned());
    }
    Ok(text.to_owned())
}

impl Nacos {
    fn instance(&self, scope: &Scope<'_>) -> Result<Instance, Failure> {
        let get = |field: &Option<Field<String>>| {
            field.as_ref().map(|it| it.get(scope.facts)).transpose()
        };
        Ok(Instance {
            service: self.service.get(scope.facts)?,
            ip: self.ip.get(scope.facts)?,
            port: self.port,
            namespace: get(&self.namespace)?,
            group: get(&self.group)?,
            ephemeral: self.ephemeral,
        })
    }

    /// The failure that it is registered as the other kind of instance, which a removal would not touch.
    fn check(&self, instance: &Instance, is_ephemeral: Option<bool>) -> Result<(), Failure> {
        match is_ephemeral {
            Some(is) if is != self.ephemeral => {
                let cause = format!("is registered with ephemeral = {is}: set that key");
                Err(Failure::new(Word::Config, instance.to_string(), cause))
            }
            _ => Ok(()),
        }
    }
}

impl Registration for Nacos {
    fn leave(&self, scope: &Scope<'_>) -> Result<Effect, Failure> {
        let instance = self.instance(scope)?;
        let naming = Naming::open(&self.peer, scope, &instance)?;
        let found = naming.found();
        if let Some(entry) = found {
            self.check(&instance, entry.ephemeral)?;
        }
        // Also where it is not listed: one that somebody has disabled is hidden, and yet there.
        naming.remove(&instance)?;
        if found.is_none() {
            return Ok(Effect::AlreadyDone);
        }
        let begun = Instant::now();
        while naming.look(&instance)?.is_some() {
            let what = format!("{} to vanish from the list", instance);
            scope.voice.waiting(&what);
            let waited = scope.cancel.sleep(EVERY);
            if waited == Waited::Cancelled || scope.deadline.left().is_none() {
                let cause = format!(
                    "is listed {} after it was removed: something registers it again, as a heartbeat of its own does; \
                     stop the application first",
                    lapse::short(begun.elapsed())
                );
                let failure = Failure::new(Word::Protocol, instance.to_string(), cause);
                return Err(failure.passing(true));
            }
        }
        Ok(Effect::Done)
    }

    fn rehearse(&self, scope: &Scope<'_>) -> Result<String, Failure> {
        let instance = self.instance(scope)?;
        let naming = Naming::open(&self.peer, scope, &instance)?;
        let found = match naming.found() {
            Some(entry) => {
                self.check(&instance, entry.ephemeral)?;
                "there; whether this account may remove it is not shown"
            }
            None => {
                scope.warn_of_absence(&instance.to_string(), KEYS);
                "not there, nothing to leave yet"
            }
        };
        Ok(format!("{instance} at {}: {found}", naming.address()))
    }
}
