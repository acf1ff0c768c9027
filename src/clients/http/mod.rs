//! The configuration of all HTTP peers, and requests to a peer with several addresses.

mod credential_hosts;
pub mod credential_names;
mod expectation;
pub mod local_listener;
pub mod peer_ids;
mod session;
mod status;
mod url_parameters;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::config::facts::Facts;
use crate::config::section::{Field, Secrecy, Section, path, plain};
use crate::model::error::Failure;
use crate::model::intent::{Datum, Keys};
use crate::model::secrets;
use crate::step::{AttemptContext, Dependencies};
use crate::sys::http::{Endpoint, TlsFiles, header_name, header_value, server_name};
use crate::sys::sync::Mutex;

use credential_hosts::CredentialHosts;
pub use expectation::Expectation;
pub use session::Session;
pub use status::{cut, document, excerpt, unexpected};
pub use url_parameters::parameters;

/// The configuration of a peer. Its keys:
///
/// - `url` (URLs; required): its address, `http://…`, `https://…` or `unix:///run/app.sock` (a local agent on a unix
///   socket), or a list of a cluster's addresses, tried in turn
/// - `headers` (table of strings; default none): headers of every request
/// - `user` (string; default none; only with `password`): the user, sent as HTTP Basic authentication
/// - `password` (string; default none; only with `user`): the password of `user`; a secret, best as
///   `${credential:NAME}`
/// - `ca-file` (path; default the system's authorities): the trusted authorities, in PEM; a server certificate in it is
///   trusted as well, even if self-signed
/// - `cert-file` (path; default none; only with `key-file`): the client's certificate, in PEM
/// - `key-file` (path; default none; only with `cert-file`): the key of the client's certificate, in PEM
/// - `server-name` (string; default the URL's host): the name that the certificate of the server at `url` must have;
///   other members, whose addresses their cluster announces, need certificates for those
pub struct Peer {
    urls: Vec<Field<Endpoint>>,
    headers: Vec<(String, Field<String>)>,
    account: Option<(Field<String>, Field<String>)>,
    tls: Tls,
    credential_hosts: CredentialHosts,
    /// The index in `urls` of the address that answered last.
    preferred: AtomicUsize,
    /// The token of an earlier attempt.
    token: Mutex<Option<String>>,
}

const TLS_KEYS: [&str; 3] = ["ca-file", "cert-file", "key-file"];

#[derive(Clone, Default)]
struct Tls {
    ca_file: Option<Field<PathBuf>>,
    cert_file: Option<Field<PathBuf>>,
    key_file: Option<Field<PathBuf>>,
    server_name: Option<Field<String>>,
}

impl Tls {
    fn get(&self, facts: &Facts) -> Result<TlsFiles, Failure> {
        Ok(TlsFiles {
            ca_file: get(self.ca_file.as_ref(), facts)?,
            cert_file: get(self.cert_file.as_ref(), facts)?,
            key_file: get(self.key_file.as_ref(), facts)?,
            server_name: get(self.server_name.as_ref(), facts)?,
        })
    }
}

/// The path of the unix socket in a URL; the root, which always exists, if it has none.
fn socket_path(text: &str) -> Result<PathBuf, String> {
    let endpoint = Endpoint::parse(text)?;
    Ok(endpoint.socket().unwrap_or(Path::new("/")).to_owned())
}

fn get<T>(field: Option<&Field<T>>, facts: &Facts) -> Result<Option<T>, Failure> {
    field.map(|field| field.get(facts)).transpose()
}

impl Peer {
    /// Reads a service's address, to which paths are appended; `url` is required.
    pub fn read(section: &Section<'_>) -> Option<Peer> {
        let urls = section.required("url", |section, key| {
            section.texts(key, Endpoint::parse_base, Secrecy::Public)
        });
        let account = read_account(section);
        Self::read_rest(section, "url", urls, account)
    }

    /// As [`Peer::read`], without `user` and `password`: for a member with a password of its own.
    pub fn read_without_account(section: &Section<'_>) -> Option<Peer> {
        let urls = section.required("url", |section, key| {
            section.texts(key, Endpoint::parse_base, Secrecy::Public)
        });
        Self::read_rest(section, "url", urls, None)
    }

    /// As [`Peer::read`], with a default address: that of an agent on this machine.
    pub fn read_at(section: &Section<'_>, default: &str) -> Option<Peer> {
        let urls = section.texts_or("url", default, Endpoint::parse_base, Secrecy::Public);
        let account = read_account(section);
        Self::read_rest(section, "url", urls, account)
    }

    /// Reads the keys beside `key`, which has the addresses.
    pub fn read_beside(
        section: &Section<'_>,
        key: &'static str,
        urls: Vec<Field<Endpoint>>,
    ) -> Option<Peer> {
        let account = read_account(section);
        Self::read_rest(section, key, Some(urls), account)
    }

    /// Reads a complete URL, which may have a query.
    pub fn read_whole(section: &Section<'_>) -> Option<Peer> {
        let urls = section.required("url", |section, key| {
            section.texts(key, Endpoint::parse, Secrecy::Public)
        });
        let account = read_account(section);
        Self::read_rest(section, "url", urls, account)
    }

    fn read_rest(
        section: &Section<'_>,
        key: &'static str,
        urls: Option<Vec<Field<Endpoint>>>,
        account: Option<(Field<String>, Field<String>)>,
    ) -> Option<Peer> {
        let headers = read_headers(section);
        if section.has("user")
            && headers
                .iter()
                .any(|(name, _)| name.eq_ignore_ascii_case("authorization"))
        {
            let message = "`user` and a header Authorization cannot both be sent";
            section.problem("user", message);
        }
        let tls = Tls {
            ca_file: section.text("ca-file", path, Secrecy::Public),
            cert_file: section.text("cert-file", path, Secrecy::Public),
            key_file: section.text("key-file", path, Secrecy::Public),
            server_name: section.text("server-name", server_name, Secrecy::Public),
        };
        both(section, "cert-file", "key-file");
        for key in TLS_KEYS.into_iter().filter(|key| section.has(key)) {
            let tls = tls.clone();
            section.check(key, move |facts| {
                // A missing fact is reported by the field itself.
                let problems = tls
                    .get(facts)
                    .map_or_else(|_| Vec::new(), |it| it.problems());
                match problems.into_iter().find(|(about, _)| *about == key) {
                    Some((_, failure)) => Err(failure.to_string()),
                    None => Ok(()),
                }
            });
        }
        let urls = urls?;
        url_parameters::warn_of_secrets(section, key, &urls);
        let is_secret = headers
            .iter()
            .any(|(name, _)| secrecy(name) == Secrecy::Secret);
        let credential_hosts = CredentialHosts::read(section, key, &urls, is_secret);
        Some(Peer {
            credential_hosts,
            urls,
            headers,
            account,
            tls,
            preferred: AtomicUsize::new(0),
            token: Mutex::new(None),
        })
    }

    /// Warns of secrets in the configuration itself, for a member with an undo: they cannot be recorded.
    pub fn warn_of_secrets(&self, section: &Section<'_>) {
        let headers = self.headers.iter();
        let headers = headers.map(|(name, value)| (format!("headers.{name}"), value));
        let password = self
            .account
            .iter()
            .map(|(_, it)| ("password".to_owned(), it));
        headers
            .chain(password)
            .for_each(|(key, value)| warn_of_secret(section, &key, value));
    }

    /// Its keys as a record keeps them for an undo, as [`Field::keep`] says; [`Peer::read`] reads them again.
    pub fn keep(&self, facts: &Facts) -> Result<Keys, Failure> {
        let mut kept = Keys::new();
        let urls = self.urls.iter().map(|url| url.keep(facts));
        let urls: Vec<Datum> = urls.collect::<Result<_, _>>()?;
        kept.insert("url".to_owned(), urls.into());
        let mut headers = Keys::new();
        for (name, value) in &self.headers {
            headers.insert(name.clone(), value.keep(facts)?);
        }
        if !headers.is_empty() {
            kept.insert("headers".to_owned(), headers.into());
        }
        if let Some((user, password)) = &self.account {
            kept.insert("user".to_owned(), user.keep(facts)?);
            kept.insert("password".to_owned(), password.keep(facts)?);
        }
        let tls = &self.tls;
        for (key, file) in TLS_KEYS
            .into_iter()
            .zip([&tls.ca_file, &tls.cert_file, &tls.key_file])
        {
            if let Some(file) = file {
                kept.insert(key.to_owned(), file.keep(facts)?);
            }
        }
        if let Some(name) = &tls.server_name {
            kept.insert("server-name".to_owned(), name.keep(facts)?);
        }
        Ok(kept)
    }

    /// Whether the configuration sets this header.
    pub fn has_header(&self, name: &str) -> bool {
        self.headers
            .iter()
            .any(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    /// Keeps the account's token for a later attempt that cannot get another one.
    pub fn remember(&self, token: &str) {
        let mut kept = self.token.lock();
        *kept = Some(token.to_owned());
    }

    /// The token from [`Peer::remember`].
    pub fn remembered(&self) -> Option<String> {
        let kept = self.token.lock();
        kept.clone()
    }

    /// Its addresses with the current facts.
    pub fn endpoints(&self, facts: &Facts) -> Result<Vec<Endpoint>, Failure> {
        let resolve = |url| self.credential_hosts.resolve(url, facts);
        self.urls.iter().map(resolve).collect()
    }

    /// The dependencies of a step that talks to it.
    pub fn dependencies(&self) -> Dependencies {
        let tls = &self.tls;
        let files = [&tls.ca_file, &tls.cert_file, &tls.key_file];
        let is_over_ip = |url: &&Field<Endpoint>| {
            let literal = url.literal().map(str::to_ascii_lowercase);
            literal.is_some_and(|it| it.starts_with("http"))
        };
        let sockets = self.urls.iter().filter(|it| !is_over_ip(it));
        let sockets = sockets.map(|url| url.taken_as(socket_path));
        Dependencies {
            paths: (files.into_iter().flatten().cloned())
                .chain(sockets)
                .collect(),
            peers: self.urls.clone(),
            credentials: self.credential_hosts.gets_credentials(),
            ..Dependencies::default()
        }
    }

    /// Opens a session with `user` and `password` as HTTP Basic authentication.
    pub fn open<'a>(&'a self, context: &AttemptContext<'a>) -> Result<Session<'a>, Failure> {
        let (mut session, account) = self.open_with_account(context)?;
        if let Some(Account { user, password }) = account {
            let pair = format!("{user}:{password}");
            secrets::hide(&pair);
            session.set_header("Authorization", format!("Basic {}", STANDARD.encode(pair)));
        }
        Ok(session)
    }

    /// Opens a session, and returns the account for the peer's own login.
    pub fn open_with_account<'a>(
        &'a self,
        context: &AttemptContext<'a>,
    ) -> Result<(Session<'a>, Option<Account>), Failure> {
        let facts = context.facts;
        let mut headers = Vec::new();
        for (name, value) in &self.headers {
            let value = value.get(facts)?;
            // A peer may repeat a token without the word before it: "Bearer".
            if secrecy(name) == Secrecy::Secret
                && let Some((_, bare)) = value.split_once(' ')
            {
                secrets::hide(bare);
            }
            headers.push((name.clone(), value));
        }
        let account = match &self.account {
            Some((user, password)) => Some(Account {
                user: user.get(facts)?,
                password: password.get(facts)?,
            }),
            None => None,
        };
        let endpoints = self.endpoints(facts)?;
        let tls = self.tls.get(facts)?;
        let tls_of_others = TlsFiles {
            server_name: None,
            ..tls.clone()
        };
        let with_credentials = self.headers.iter().filter(|(_, it)| it.is_secret());
        let session = Session {
            with_credentials: with_credentials.map(|(name, _)| name.clone()).collect(),
            http: context.http,
            configured: endpoints.clone().into(),
            endpoints,
            preferred: Some(&self.preferred),
            headers,
            tls: Arc::new(tls),
            tls_of_others: Arc::new(tls_of_others),
        };
        Ok((session, account))
    }
}

/// An account.
pub struct Account {
    /// The user's name.
    pub user: String,
    /// The password, hidden from every output.
    pub password: String,
}

fn secrecy(header: &str) -> Secrecy {
    match credential_names::credential(header) {
        Some(_) => Secrecy::Secret,
        None => Secrecy::MayHold,
    }
}

fn read_headers(section: &Section<'_>) -> Vec<(String, Field<String>)> {
    section.map("headers", header_name, header_value, secrecy)
}

fn read_account(section: &Section<'_>) -> Option<(Field<String>, Field<String>)> {
    let user = section.text("user", user_name, Secrecy::MayHold);
    let password = section.text("password", plain, Secrecy::Secret);
    both(section, "user", "password");
    Some((user?, password?))
}

fn user_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(':') || text.chars().any(char::is_control) {
        return Err("a user's name is not empty and has no colon in it".to_owned());
    }
    Ok(text.to_owned())
}

/// Warns if a key is a secret in plain text, which cannot be recorded for an undo.
pub fn warn_of_secret(section: &Section<'_>, key: &str, value: &Field<String>) {
    if value.is_plain_secret() {
        let message = "a secret that stands here is kept nowhere else: without it what this step leaves cannot be \
                       undone after a reboot; use ${credential:NAME}";
        section.warning(key, message);
    }
}

fn both(section: &Section<'_>, one: &str, other: &str) {
    for (there, missing) in [(one, other), (other, one)] {
        if section.has(there) && !section.has(missing) {
            section.problem(there, format!("needs the key `{missing}` beside it"));
        }
    }
}
