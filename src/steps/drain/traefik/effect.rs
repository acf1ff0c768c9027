//! Waiting until Traefik has read its file: by its API, or for a fixed time.

use std::time::Duration;

use super::{Found, Target};
use crate::clients::http::{Peer, Session, document, unexpected};
use crate::config::facts::Facts;
use crate::config::section::{Secrecy, Section};
use crate::model::error::{ErrorKind, Failure};
use crate::model::intent::Keys;
use crate::step::Dependencies;
use crate::sys::http::{Endpoint, encoded};

/// Traefik's default of `providers.providersThrottleDuration`.
const SETTLE: Duration = Duration::from_secs(2);

pub(super) enum Effect {
    Settle(Duration),
    Api(Box<Peer>),
}

impl Effect {
    pub(super) fn read(section: &Section<'_>) -> Option<Effect> {
        let settle = section.duration("settle");
        let urls = section.texts("api", Endpoint::parse_base, Secrecy::Public);
        let peer = Peer::read_beside(section, "api", urls.unwrap_or_default());
        if !section.has("api") {
            return Some(Effect::Settle(settle.unwrap_or(SETTLE)));
        }
        if section.has("settle") {
            section.problem("settle", "is not used with `api`: remove one of them");
        }
        let peer = peer?;
        peer.warn_of_secrets(section);
        Some(Effect::Api(Box::new(peer)))
    }

    /// The keys for the record. An undo does not wait for `settle`.
    pub(super) fn keep(&self, facts: &Facts) -> Result<Keys, Failure> {
        match self {
            Effect::Settle(_) => Ok(Keys::new()),
            Effect::Api(peer) => peer.keep(facts),
        }
    }

    /// Reads what [`Effect::keep`] has kept.
    pub(super) fn read_kept(section: &Section<'_>) -> Option<Effect> {
        match section.has("url") {
            true => Peer::read(section).map(|it| Effect::Api(Box::new(it))),
            false => Some(Effect::Settle(Duration::ZERO)),
        }
    }

    pub(super) fn dependencies(&self) -> Dependencies {
        match self {
            Effect::Settle(_) => Dependencies::default(),
            Effect::Api(peer) => peer.dependencies(),
        }
    }

    /// Waits until Traefik has removed the server from these services.
    pub(super) fn wait_out(&self, target: &Target<'_>, services: &[String]) -> Result<(), Failure> {
        let peer = match self {
            Effect::Settle(time) => {
                let subject = format!("Traefik to read {}", target.config.path().display());
                return super::super::settle(target.context, &subject, *time);
            }
            Effect::Api(peer) => peer,
        };
        let session = peer.open(target.context)?;
        self::wait(target, &session, services, "to remove", &|listed| {
            listed != Some(true)
        })
    }

    /// Waits until Traefik has the server in these services again. Without its API this cannot be seen.
    pub(super) fn wait_in(&self, target: &Target<'_>, services: &[String]) -> Result<(), Failure> {
        let Effect::Api(peer) = self else {
            return Ok(());
        };
        let session = peer.open(target.context)?;
        self::wait(target, &session, services, "to have", &|listed| {
            listed == Some(true)
        })
    }

    /// Checks that Traefik knows the services; returns what to add to the rehearsal's sentence.
    pub(super) fn rehearse(&self, target: &Target<'_>, found: &Found) -> Result<String, Failure> {
        let Effect::Api(peer) = self else {
            return Ok(String::new());
        };
        let session = peer.open(target.context)?;
        for service in &found.services {
            if listed(target, &session, service)?.is_none() {
                let cause = format!(
                    "has no service {service}@file: does it read {}?",
                    target.config.path().display()
                );
                return Err(Failure::new(ErrorKind::Refused, subject(&session), cause));
            }
        }
        Ok(format!("; {} has it", subject(&session)))
    }
}

fn subject(session: &Session<'_>) -> String {
    format!("Traefik at {}", session.address())
}

fn wait(
    target: &Target<'_>,
    session: &Session<'_>,
    services: &[String],
    what: &str,
    is_so: &dyn Fn(Option<bool>) -> bool,
) -> Result<(), Failure> {
    super::super::until_quiet(target.context, &mut || {
        for service in services {
            if !is_so(listed(target, session, service)?) {
                return Ok(Some(format!(
                    "{} {what} {} in service {service} (if that does not change, see its log: does it load {}?)",
                    subject(session),
                    target.server,
                    target.config.path().display()
                )));
            }
        }
        Ok(None)
    })
}

/// Whether Traefik has the server in a service; `None` if there is no such service.
fn listed(
    target: &Target<'_>,
    session: &Session<'_>,
    service: &str,
) -> Result<Option<bool>, Failure> {
    let path = format!("/api/http/services/{}", encoded(&format!("{service}@file")));
    let answer = super::super::ask(session, target.context, "GET", path)?;
    if answer.status == 404 && document(&answer).is_ok_and(|it| it["message"].is_string()) {
        return Ok(None);
    }
    if !answer.is_success() {
        // While it starts, Traefik answers 404 to everything.
        return Err(unexpected(&answer).retryable_if(answer.status == 404));
    }
    let found = document(&answer)?;
    if !found["name"].is_string() {
        let cause = "the answer is not one of Traefik's services";
        return Err(Failure::new(ErrorKind::Protocol, answer.url, cause).retryable(true));
    }
    let servers = found["loadBalancer"]["servers"].as_array();
    let mut servers = servers.map_or(&[][..], Vec::as_slice).iter();
    Ok(Some(servers.any(|it| it["url"] == target.server.as_str())))
}
