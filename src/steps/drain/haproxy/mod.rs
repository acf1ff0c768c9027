//! `haproxy`: drains a server by HAProxy's runtime API, and waits until it has no session and no queue.

mod min_up;
mod runtime;
mod target;
mod undo;

use super::server_name;
use crate::config::section::{Field, Secrecy, Section, path};
use crate::config::text_kind::TextKind;
use crate::model::error::Failure;
use crate::step::{Action, AttemptContext, AttemptPolicy, Dependencies, Member, Outcome, StepSpec};
use crate::sys::command_socket;
use crate::sys::http::Endpoint;
use target::Target;

/// The balancer's entry in the table. Its keys:
///
/// - `socket` (sockets; required): the runtime API, with level admin: the path of a unix socket or `host:port`, or a list of
///   them, one for each HAProxy that has the server; it is drained in all of them
/// - `backend` (string; required): the backend that the server is in
/// - `server` (string; required): the server's name in that backend
/// - `maint` (boolean; default false): whether it is put into maintenance when nothing is in flight any more; drained alone it
///   still gets health checks, and sessions that a cookie binds to it
/// - `min-up` (integer from 0 to 1000; default 0): how many other servers of the backend must be up; while there are fewer the
///   step waits, for half of its time, and then drains all the same
///
/// Source: HAProxy's "Management Guide", 9.3; the replies were seen on 2.6.12.
///
/// | command | replies |
/// |---|---|
/// | `show servers state BACKEND` | the servers, with operational state, administrative state and weight; `Can't find backend.` |
/// | `show stat BACKEND 4 -1` | their sessions and queues, as CSV |
/// | `set server BACKEND/SERVER state drain` (`maint`, `ready`) | a blank line: done; any text: refused |
/// | `show cli level` (the rehearsal) | `admin`, `operator` or `user` |
///
/// The state is sticky until HAProxy is restarted or reloaded, which forgets it; then the server is drained again.
pub const MEMBER: Member = Member {
    name: "haproxy",
    read,
    undo: Some(undo::undo),
};

struct Haproxy {
    sockets: Vec<Field<Endpoint>>,
    backend: Field<String>,
    server: Field<String>,
    maint: bool,
    min_up: i64,
}

fn read(section: &Section<'_>) -> Option<StepSpec> {
    let sockets = section.required("socket", |section, key| {
        section.texts_at(TextKind::Key, key, command_socket::parse)
    });
    let text = |section: &Section<'_>, key| section.text(key, server_name, Secrecy::Public);
    let backend = section.required("backend", text);
    let server = section.required("server", text);
    let maint = section.boolean("maint").unwrap_or(false);
    let min_up = section.integer("min-up", 0..=1000).unwrap_or(0);
    let sockets = sockets?;
    let is_path = |it: &&Field<Endpoint>| it.written().starts_with('/');
    let dependencies = Dependencies {
        paths: (sockets.iter().filter(is_path))
            .map(|it| it.taken_as(path))
            .collect(),
        peers: sockets.clone(),
        ..Dependencies::default()
    };
    let action = Haproxy {
        sockets,
        backend: backend?,
        server: server?,
        maint,
        min_up,
    };
    Some(StepSpec {
        dependencies,
        ..StepSpec::new(action, AttemptPolicy::Polled)
    })
}

impl Haproxy {
    fn targets<'a>(&self, context: &'a AttemptContext<'a>) -> Result<Vec<Target<'a>>, Failure> {
        let (backend, server) = (
            self.backend.get(context.facts)?,
            self.server.get(context.facts)?,
        );
        let target = |socket: &Field<Endpoint>| {
            let socket = socket.get(context.facts)?;
            Ok(Target::new(context, socket, &backend, &server, self.maint))
        };
        self.sockets.iter().map(target).collect()
    }

    /// The state of the server in one HAProxy, and whether this socket may change it.
    fn answer(&self, target: &Target<'_>, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let runtime = &target.runtime;
        let seen = runtime.must()?;
        let may = match runtime.level()?.as_deref() {
            Some("admin") => "this socket may change it",
            Some(level) => {
                let cause = format!(
                    "has the level {level}, and may not change a server: write `level admin` behind `stats socket`"
                );
                return Err(runtime.refused(cause));
            }
            None => "whether this socket may change it is not shown",
        };
        let others = seen.others_up;
        if others < self.min_up {
            let server = runtime.subject();
            let warning = format!(
                "{others} other servers are up beside {server}, and `min-up` is {}: a run would wait for more",
                self.min_up
            );
            context.events.warn(&warning);
        }
        Ok(format!(
            "{}: {}, {}, {others} others up; {may}",
            runtime.subject(),
            seen.state.word(),
            seen.load
        ))
    }
}

impl Action for Haproxy {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let mut targets = self.targets(context)?;
        if self.min_up > 0 {
            min_up::drain(&mut targets, self.min_up, context)?;
        }
        super::until_all_quiet(context, &mut targets, &|target| target.advance())?;
        Ok(Outcome::of_change(targets.iter().any(|it| it.is_changed)))
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let targets = self.targets(context)?;
        super::rehearse_all(targets.iter().map(|target| self.answer(target, context)))
    }
}
