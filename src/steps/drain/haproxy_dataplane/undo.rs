//! The undo of a drain: the server is set ready again.

use super::Server;
use super::api::{Api, DRAIN, Found, READY};
use crate::config::section::read_kept;
use crate::model::error::{ErrorKind, Failure};
use crate::model::intent::Chain;
use crate::step::{Action, AttemptContext, Outcome};

/// Makes the undo of what [`super::Server`] has declared in one HAProxy. Only a server that was ready is ever drained.
pub(super) fn undo(chain: &Chain) -> Result<Box<dyn Action>, String> {
    let server = read_kept(&chain.last().what, Server::read)?;
    Ok(Box::new(Undrain(server)))
}

struct Undrain(Server);

impl Undrain {
    fn api<'a>(&'a self, context: &'a AttemptContext<'a>) -> Result<Api<'a>, Failure> {
        let address = || Failure::new(ErrorKind::Config, "key \"url\"", "has no address");
        self.0.everywhere(context)?.pop().ok_or_else(address)
    }
}

impl Action for Undrain {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let api = self.api(context)?;
        let remark = match api.look()? {
            Found::Unknown(cause) => format!("HAProxy {cause} any more"),
            Found::Server(seen) if seen.state == READY => return Ok(Outcome::AlreadyDone),
            Found::Server(seen) if seen.state == DRAIN => {
                return api.set(READY).map(|()| Outcome::Done);
            }
            Found::Server(seen) => {
                let state = seen.state;
                format!("somebody has set it to {state} since: it is left as it is")
            }
        };
        context.events.remark(&remark);
        Ok(Outcome::AlreadyDone)
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let api = self.api(context)?;
        let state = match api.look()? {
            Found::Server(seen) => seen.state,
            Found::Unknown(_) => "not known any more".to_owned(),
        };
        Ok(format!("{}: {state}", api.subject()))
    }
}
