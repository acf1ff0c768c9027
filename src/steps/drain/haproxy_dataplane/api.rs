//! One server, as the Data Plane API of one HAProxy tells of it.

use std::cell::Cell;

use serde_json::{Value, json};

use super::super::{Load, ask};
use crate::clients::http::{Session, document, unexpected};
use crate::model::error::{ErrorKind, Failure};
use crate::step::AttemptContext;
use crate::sys::http::{Answer, Request, encoded};

/// What a server was set to, as the API calls it.
pub(super) const READY: &str = "ready";
pub(super) const DRAIN: &str = "drain";

/// The versions of the API, and where each has a server: the newest one first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    V3,
    V2,
}

impl Version {
    fn base(self) -> &'static str {
        match self {
            Version::V3 => "/v3/services/haproxy",
            Version::V2 => "/v2/services/haproxy",
        }
    }
}

/// The server as it was read.
pub(super) struct Seen {
    /// `ready`, `drain` or `maint`.
    pub(super) state: String,
    pub(super) load: Load,
}

/// Whether HAProxy knows the server.
pub(super) enum Found {
    Server(Seen),
    /// It does not; what it lacks, for the operator.
    Unknown(String),
}

/// One server in one HAProxy, behind its Data Plane API.
pub(super) struct Api<'a> {
    session: Session<'a>,
    context: &'a AttemptContext<'a>,
    backend: String,
    server: String,
    /// As found out.
    version: Cell<Option<Version>>,
}

impl<'a> Api<'a> {
    pub(super) fn new(
        session: Session<'a>,
        context: &'a AttemptContext<'a>,
        backend: &str,
        server: &str,
    ) -> Api<'a> {
        Api {
            session,
            context,
            backend: backend.to_owned(),
            server: server.to_owned(),
            version: Cell::new(None),
        }
    }

    pub(super) fn names(&self) -> (&str, &str) {
        (&self.backend, &self.server)
    }

    pub(super) fn subject(&self) -> String {
        format!(
            "{}/{} at {}",
            self.backend,
            self.server,
            self.session.address()
        )
    }

    /// The version that the API has been found to be.
    pub(super) fn version(&self) -> &'static str {
        match self.version.get() {
            Some(Version::V2) => "v2",
            _ => "v3",
        }
    }

    /// The statistics of the backend's servers, by the version that has them.
    fn statistics(&self) -> Result<(Version, Answer), Failure> {
        let ask = |version: Version| {
            let path = format!(
                "{}/stats/native?type=server&parent={}",
                version.base(),
                encoded(&self.backend)
            );
            ask(&self.session, self.context, "GET", path)
        };
        if let Some(version) = self.version.get() {
            return Ok((version, ask(version)?));
        }
        let newest = ask(Version::V3)?;
        let (version, answer) = match newest.status {
            404 => (Version::V2, ask(Version::V2)?),
            _ => (Version::V3, newest),
        };
        if answer.status == 200 {
            self.version.set(Some(version));
        }
        Ok((version, answer))
    }

    fn path(&self, version: Version) -> String {
        let (base, backend, server) = (
            version.base(),
            encoded(&self.backend),
            encoded(&self.server),
        );
        match version {
            Version::V3 => format!("{base}/runtime/backends/{backend}/servers/{server}"),
            Version::V2 => format!("{base}/runtime/servers/{server}?backend={backend}"),
        }
    }

    /// Reads the server. Whether it exists is known from the statistics, which are 500 where HAProxy itself does not answer; the
    /// API's answer for a server is 404 in both cases.
    pub(super) fn look(&self) -> Result<Found, Failure> {
        let (version, answer) = self.statistics()?;
        if answer.status != 200 {
            return Err(unexpected(&answer));
        }
        let rows = self.rows(&answer)?;
        let own = rows.iter().filter(|row| row["name"] == self.server);
        let own: Vec<_> = own.map(|row| &row["stats"]).collect();
        if own.is_empty() {
            return Ok(Found::Unknown(self.unknown(&rows)));
        }
        // Version 2 has one for each process of an old HAProxy.
        let sum = |key: &str| {
            let numbers = own.iter().map(|it| it[key].as_u64());
            numbers.sum::<Option<u64>>()
        };
        // A server without `maxconn` has no queue of its own, and its number may be left out.
        let sessions = sum("scur").ok_or_else(|| self.protocol(&answer))?;
        let queued = sum("qcur").unwrap_or(0);
        let answer = ask(&self.session, self.context, "GET", self.path(version))?;
        Ok(Found::Server(Seen {
            state: self.state(&answer)?,
            load: Load { sessions, queued },
        }))
    }

    /// As [`Api::look`], where a server that is not there is a refusal.
    pub(super) fn must(&self) -> Result<Seen, Failure> {
        match self.look()? {
            Found::Server(seen) => Ok(seen),
            Found::Unknown(cause) => {
                let cause = format!("HAProxy {cause}");
                Err(Failure::new(
                    ErrorKind::Refused,
                    self.session.address(),
                    cause,
                ))
            }
        }
    }

    /// Sets what the server is set to.
    ///
    /// # Errors
    /// `refused` where the Data Plane API itself may not change it.
    pub(super) fn set(&self, state: &str) -> Result<(), Failure> {
        let version = self.version.get().unwrap_or(Version::V3);
        let body = json!({ "admin_state": state });
        let request = Request::json("PUT", self.path(version), &body);
        let answer = self.session.send(&request, self.context.request())?;
        if answer.status == 500 && answer.says("Permission denied") {
            let failure = unexpected(&answer).retryable(false);
            let cause = format!(
                "{}: the API's own socket of HAProxy needs `level admin`",
                failure.cause
            );
            return Err(Failure {
                kind: ErrorKind::Refused,
                cause,
                ..failure
            });
        }
        let is = self.state(&answer)?;
        if is == state {
            return Ok(());
        }
        let cause = format!("is {is} after it was set to {state}");
        Err(Failure::new(ErrorKind::Protocol, self.subject(), cause).retryable(true))
    }

    /// The state in an answer about the server itself.
    fn state(&self, answer: &Answer) -> Result<String, Failure> {
        if !answer.is_success() {
            // It was there a moment ago: HAProxy restarts.
            return Err(unexpected(answer).retryable_if(answer.status == 404));
        }
        let server = document(answer)?;
        let state = server["admin_state"].as_str();
        let state = state.ok_or_else(|| self.protocol(answer))?;
        Ok(state.to_owned())
    }

    /// The rows of the backend's servers.
    fn rows(&self, answer: &Answer) -> Result<Vec<Value>, Failure> {
        let processes = match document(answer)? {
            Value::Array(processes) => processes,
            process => vec![process],
        };
        let is_of_haproxy = |it: &Value| it.get("runtimeAPI").is_some() || it["stats"].is_array();
        if processes.is_empty() || !processes.iter().all(is_of_haproxy) {
            return Err(self.protocol(answer));
        }
        let rows = processes.into_iter().flat_map(|mut it| {
            let rows = it["stats"].take();
            rows.as_array().cloned().unwrap_or_default()
        });
        let is_own = |row: &Value| row["backend_name"] == self.backend && row["type"] == "server";
        Ok(rows.filter(is_own).collect())
    }

    fn unknown(&self, rows: &[Value]) -> String {
        let names: Vec<_> = rows.iter().filter_map(|row| row["name"].as_str()).collect();
        match names.is_empty() {
            true => format!("knows no backend {} with servers", self.backend),
            false => format!(
                "knows no server {} in the backend {}, only {}",
                self.server,
                self.backend,
                names.join(", ")
            ),
        }
    }

    fn protocol(&self, answer: &Answer) -> Failure {
        let cause = "not what the Data Plane API says of a server of HAProxy";
        Failure::new(ErrorKind::Protocol, answer.url.clone(), cause).retryable(true)
    }
}
