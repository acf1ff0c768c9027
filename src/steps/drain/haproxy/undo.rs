//! The undo of a drain: the server is set to what it was before.

use super::super::server_name;
use super::runtime::{Found, Runtime, State};
use crate::config::section::{Field, Secrecy, Section, read_kept};
use crate::config::text_kind::TextKind;
use crate::model::error::{ErrorKind, Failure};
use crate::model::intent::Chain;
use crate::step::{Action, AttemptContext, Outcome};
use crate::sys::command_socket;
use crate::sys::http::Endpoint;

/// Makes the undo of what [`super::Haproxy`] has declared in one HAProxy. If several runs have drained
/// it, the first one knows the original state.
pub(super) fn undo(chain: &Chain) -> Result<Box<dyn Action>, String> {
    let mut last = read_kept(&chain.last().what, read)?;
    last.before = read_kept(&chain.first().what, read)?.before;
    let left = chain.texts("left");
    let left: Result<_, _> = left.iter().map(|it| State::parse(it)).collect();
    last.left = left?;
    Ok(Box::new(last))
}

struct Undrain {
    socket: Field<Endpoint>,
    backend: Field<String>,
    server: Field<String>,
    before: State,
    /// The states that runs have set.
    left: Vec<State>,
}

fn read(section: &Section<'_>) -> Option<Undrain> {
    let socket = section.required("socket", |section, key| {
        section.text_at(TextKind::Key, key, command_socket::parse)
    });
    let text = |section: &Section<'_>, key| section.text(key, server_name, Secrecy::Public);
    let backend = section.required("backend", text);
    let server = section.required("server", text);
    let states = ["ready", "drain", "maint"].map(|it| (it, it));
    let state = |section: &Section<'_>, key| section.choice(key, "state", &states);
    let before = section.required("before", state);
    let left = section.required("left", state);
    Some(Undrain {
        socket: socket?,
        backend: backend?,
        server: server?,
        before: State::parse(before?).ok()?,
        left: left
            .into_iter()
            .filter_map(|it| State::parse(it).ok())
            .collect(),
    })
}

impl Undrain {
    fn runtime<'a>(&self, context: &'a AttemptContext<'a>) -> Result<Runtime<'a>, Failure> {
        let facts = context.facts;
        let (backend, server) = (self.backend.get(facts)?, self.server.get(facts)?);
        Ok(Runtime::new(
            context,
            self.socket.get(facts)?,
            &backend,
            &server,
        ))
    }
}

impl Action for Undrain {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let runtime = self.runtime(context)?;
        let seen = match runtime.look()? {
            Found::Server(seen) => seen,
            Found::Unknown(cause) => {
                context.events.remark(&format!("HAProxy {cause} any more"));
                return Ok(Outcome::AlreadyDone);
            }
        };
        // A run that was cut off between the two has left the first one.
        let is_ours = seen.state == State::Drain || self.left.contains(&seen.state);
        if seen.state == self.before {
            return Ok(Outcome::AlreadyDone);
        }
        if !is_ours {
            let state = seen.state.word();
            let remark = format!("somebody has set it to {state} since: it is left as it is");
            context.events.remark(&remark);
            return Ok(Outcome::AlreadyDone);
        }
        runtime.set(self.before)?;
        let seen = runtime.must()?;
        if seen.state == self.before {
            return Ok(Outcome::Done);
        }
        let cause = format!(
            "is {} after it was set {}",
            seen.state.word(),
            self.before.word()
        );
        Err(Failure::new(ErrorKind::Protocol, runtime.subject(), cause).retryable(true))
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let runtime = self.runtime(context)?;
        let state = match runtime.look()? {
            Found::Server(seen) => seen.state.word(),
            Found::Unknown(_) => "not known any more",
        };
        Ok(format!("{}: {state}", runtime.subject()))
    }
}
