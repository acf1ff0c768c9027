//! An agent of Consul or Nomad, usually on this machine: its address and its token.
//!
//! Source: Consul's documentation, "HTTP API Structure"; Nomad's, "HTTP API".

use crate::clients::http::{Peer, Session, warn_of_secret};
use crate::config::facts::Facts;
use crate::config::section::{Field, Secrecy, Section};
use crate::model::error::Failure;
use crate::model::intent::Keys;
use crate::step::{AttemptContext, Dependencies};
use crate::sys::http::header_value;

/// Whose agent it is.
#[derive(Clone, Copy, Debug)]
pub struct Make {
    /// The agent's default address.
    url: &'static str,
    /// The header that the token is sent in.
    header: &'static str,
}

/// Consul's.
pub const CONSUL: Make = Make {
    url: "http://127.0.0.1:8500",
    header: "X-Consul-Token",
};

/// Nomad's.
pub const NOMAD: Make = Make {
    url: "http://127.0.0.1:4646",
    header: "X-Nomad-Token",
};

/// The configuration of an agent. Its keys:
///
/// - those of every [`Peer`]
/// - `url` (URLs; default the agent on this machine): the agent's address
/// - `token` (string; default none): the ACL token, sent in a header of its own; a secret, best as `${credential:NAME}`
pub struct Agent {
    peer: Peer,
    token: Option<Field<String>>,
    header: &'static str,
}

impl Agent {
    /// Reads its keys.
    pub fn read(section: &Section<'_>, make: Make) -> Option<Agent> {
        let Make { url, header } = make;
        let token = section.text("token", header_value, Secrecy::Secret);
        let peer = Peer::read_at(section, url)?;
        if token.is_some() && peer.has_header(header) {
            let message = format!("`token` and a header {header} cannot both be sent");
            section.problem("token", message);
        }
        Some(Agent {
            peer,
            token,
            header,
        })
    }

    /// As [`Peer::warn_of_secrets`].
    pub fn warn_of_secrets(&self, section: &Section<'_>) {
        self.peer.warn_of_secrets(section);
        if let Some(token) = &self.token {
            warn_of_secret(section, "token", token);
        }
    }

    /// The dependencies of a step that talks to it.
    pub fn dependencies(&self) -> Dependencies {
        self.peer.dependencies()
    }

    /// As [`Peer::keep`].
    pub fn keep(&self, facts: &Facts) -> Result<Keys, Failure> {
        let mut kept = self.peer.keep(facts)?;
        if let Some(token) = &self.token {
            kept.insert("token".to_owned(), token.keep(facts)?);
        }
        Ok(kept)
    }

    /// Opens a session.
    pub fn open<'a>(&'a self, context: &AttemptContext<'a>) -> Result<Session<'a>, Failure> {
        let mut session = self.peer.open(context)?;
        if let Some(token) = &self.token {
            session.set_header(self.header, token.get(context.facts)?);
        }
        Ok(session)
    }
}
