//! Restricts where a peer's credentials are sent if its host comes from a fact.

use super::local_listener;
use crate::config::credential_hosts::Hosts;
use crate::config::facts::Facts;
use crate::config::section::{Field, Section};
use crate::config::template::Fact;
use crate::model::error::{ErrorKind, Failure};
use crate::sys::http::Endpoint;

/// Keys whose values are always credentials.
const KEYS: [&str; 2] = ["password", "token"];

/// The hosts to which a peer's credentials may be sent, if its host comes from a file.
#[derive(Clone)]
pub struct CredentialHosts {
    /// `None` if the peer gets no credentials.
    hosts: Option<Hosts>,
}

impl CredentialHosts {
    /// Reads it, and makes `check` and `start` refuse an address that is not among the hosts. `is_secret`: a header
    /// contains a secret.
    pub fn read(
        section: &Section<'_>,
        key: &'static str,
        urls: &[Field<Endpoint>],
        is_secret: bool,
    ) -> CredentialHosts {
        let has_key = KEYS.iter().any(|key| section.has(key));
        let has_credentials = is_secret || has_key || section.has_credential();
        let hosts = has_credentials.then(|| section.credential_hosts());
        let credential_hosts = CredentialHosts { hosts };
        let hosts = credential_hosts.hosts.as_ref();
        for url in urls {
            if hosts.is_some() {
                let its = url.clone();
                section.caution(key, url.literal().is_some(), move |facts| {
                    in_the_open(&its, facts)
                });
            }
            let Some(fact) = url.host_fact() else {
                continue;
            };
            match hosts {
                Some(hosts) if hosts.is_empty() => section.refuse(key, unlisted(fact, None)),
                Some(_) => {
                    let (credential_hosts, url) = (credential_hosts.clone(), url.clone());
                    section.check(key, move |facts| {
                        // A fact that cannot be read is reported by the field itself.
                        let Ok((endpoint, fact)) = url.get_from(facts) else {
                            return Ok(());
                        };
                        credential_hosts.check(&endpoint, fact.as_ref())
                    });
                }
                None => {}
            }
        }
        credential_hosts
    }

    /// Whether the peer gets credentials.
    pub fn gets_credentials(&self) -> bool {
        self.hosts.is_some()
    }

    /// The address of a URL with the current facts.
    ///
    /// # Errors
    /// As [`Field::get`], and if credentials would go to a host from a file that is not in `[farewell]`.
    pub fn resolve(&self, url: &Field<Endpoint>, facts: &Facts) -> Result<Endpoint, Failure> {
        let (endpoint, fact) = url.get_from(facts)?;
        let subject = || format!("key \"{}\"", url.key());
        self.check(&endpoint, fact.as_ref())
            .map_err(|cause| Failure::new(ErrorKind::Config, subject(), cause))?;
        Ok(endpoint)
    }

    fn check(&self, endpoint: &Endpoint, fact: Option<&Fact>) -> Result<(), String> {
        match (&self.hosts, fact) {
            (Some(hosts), Some(fact)) if endpoint.socket().is_none() => {
                match hosts.has(endpoint.host()) {
                    true => Ok(()),
                    false => Err(unlisted(fact, Some(hosts))),
                }
            }
            _ => Ok(()),
        }
    }
}

/// Warns if credentials leave this machine without TLS.
fn in_the_open(url: &Field<Endpoint>, facts: &Facts) -> Result<(), String> {
    // A fact that cannot be read is reported by the field itself.
    let Ok(endpoint) = url.get_ahead(facts) else {
        return Ok(());
    };
    if endpoint.is_https() || local_listener::is_of_this_machine(&endpoint) {
        return Ok(());
    }
    Err(format!(
        "the credentials of this step go to {} over plain http, where everybody on the way can read them: use https://",
        endpoint.host()
    ))
}

fn unlisted(fact: &Fact, hosts: Option<&Hosts>) -> String {
    let place = match hosts {
        Some(hosts) if !hosts.is_empty() => {
            "names a host that is not in `credential-hosts` of `[farewell]`"
        }
        _ => "names the host, and `[farewell]` has no `credential-hosts`",
    };
    format!(
        "{fact} {place}: the credentials of this step would go wherever the file says; list the hosts that may get them, \
         like credential-hosts = [\".example\"]"
    )
}
