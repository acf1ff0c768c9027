//! `haproxy-dataplane`: drains a server by HAProxy's Data Plane API, and waits until it has no session and no queue.

mod api;
mod undo;

use super::server_name;
use crate::clients::http::Peer;
use crate::config::section::{Field, Secrecy, Section};
use crate::model::error::Failure;
use crate::model::intent::Keys;
use crate::step::{Action, AttemptContext, AttemptPolicy, Member, Outcome, StepSpec};
use api::{Api, DRAIN, READY};

/// The balancer's entry in the table. Its keys:
///
/// - those of every [`Peer`]
/// - `url` (URLs; required): the Data Plane API, without a version, or a list of them, one for each HAProxy that has the
///   server; it is drained in all of them
/// - `backend` (string; required): the backend that the server is in
/// - `server` (string; required): the server's name in that backend
///
/// Source: the specification and the handlers of HAProxy's Data Plane API 3.4.2 and 2.9.27 (`handlers/runtime/servers`,
/// `handlers/dataplane/stats`); it could not be run. Version 3 is asked first; where it answers 404, version 2.
///
/// | request | replies |
/// |---|---|
/// | `GET /v3/services/haproxy/stats/native?type=server&parent=BACKEND` | 200: the servers, with sessions (`scur`) and queues (`qcur`); 500: HAProxy does not answer it |
/// | `GET /v3/services/haproxy/runtime/backends/BACKEND/servers/SERVER` | 200 with `admin_state` |
/// | `PUT` the same with `{"admin_state":"drain"}` (the undo: `ready`) | 200 with the server as it is then |
///
/// The state is sticky until HAProxy is restarted or reloaded, which forgets it; then the server is drained again.
pub const MEMBER: Member = Member {
    name: "haproxy-dataplane",
    read,
    undo: Some(undo::undo),
};

/// What tells a server in the Data Plane API of one HAProxy, or of several.
struct Server {
    peer: Peer,
    backend: Field<String>,
    server: Field<String>,
}

impl Server {
    fn read(section: &Section<'_>) -> Option<Server> {
        let text = |section: &Section<'_>, key| section.text(key, server_name, Secrecy::Public);
        let backend = section.required("backend", text);
        let server = section.required("server", text);
        Some(Server {
            peer: Peer::read(section)?,
            backend: backend?,
            server: server?,
        })
    }

    /// The server in each HAProxy.
    fn everywhere<'a>(&'a self, context: &'a AttemptContext<'a>) -> Result<Vec<Api<'a>>, Failure> {
        let session = self.peer.open(context)?;
        let (backend, server) = (
            self.backend.get(context.facts)?,
            self.server.get(context.facts)?,
        );
        let endpoints = session.endpoints().iter().cloned();
        let api = |it| Api::new(session.elsewhere(vec![it]), context, &backend, &server);
        Ok(endpoints.map(api).collect())
    }
}

fn read(section: &Section<'_>) -> Option<StepSpec> {
    let action = Server::read(section)?;
    action.peer.warn_of_secrets(section);
    Some(StepSpec {
        dependencies: action.peer.dependencies(),
        ..StepSpec::new(action, AttemptPolicy::Polled)
    })
}

/// The server in one HAProxy, and what this attempt has done to it.
struct Target<'a> {
    api: Api<'a>,
    context: &'a AttemptContext<'a>,
    /// The keys of the peer for the intent.
    peer: Keys,
    is_changed: bool,
}

impl Target<'_> {
    /// Takes the next step of the drain. Returns what it waits for, or `None` when nothing is in flight.
    fn advance(&mut self) -> Result<Option<String>, Failure> {
        let mut seen = self.api.must()?;
        if seen.state == READY {
            if self.is_changed {
                self.context.events.remark(&format!(
                    "{} was no longer drained: HAProxy was restarted or reloaded, or somebody set it ready; it was drained again",
                    self.api.subject()
                ));
            }
            self.drain()?;
            seen = self.api.must()?;
        }
        let subject = || format!("{} of {}", seen.load, self.api.subject());
        Ok((!seen.load.is_zero()).then(subject))
    }

    fn drain(&mut self) -> Result<(), Failure> {
        let subject = format!("the drain of {}", self.api.subject());
        let (backend, server) = self.api.names();
        let mut what = self.peer.clone();
        what.extend(super::keys(vec![
            ("backend", backend.into()),
            ("server", server.into()),
        ]));
        let set = &mut || self.api.set(DRAIN);
        super::declared(self.context, MEMBER.name, subject, what, set)?;
        self.is_changed = true;
        Ok(())
    }
}

impl Action for Server {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let mut targets = Vec::new();
        for (at, api) in self.everywhere(context)?.into_iter().enumerate() {
            targets.push(Target {
                api,
                context,
                peer: super::keep_one(&self.peer, context.facts, at)?,
                is_changed: false,
            });
        }
        super::until_all_quiet(context, &mut targets, &|target| target.advance())?;
        Ok(Outcome::of_change(targets.iter().any(|it| it.is_changed)))
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let apis = self.everywhere(context)?;
        super::rehearse_all(apis.iter().map(|api| {
            let seen = api.must()?;
            Ok(format!(
                "{} (Data Plane API {}): {}, {}; whether the API may change it is not shown",
                api.subject(),
                api.version(),
                seen.state,
                seen.load
            ))
        }))
    }
}
