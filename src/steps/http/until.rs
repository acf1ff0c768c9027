//! Polls until an answer matches.

use std::time::{Duration, Instant};

use super::{Exchange, ask_instead, is_safe};
use crate::clients::http::{Expectation, Session, unexpected};
use crate::model::error::{ErrorKind, Failure};
use crate::step::{Action, AttemptContext, Outcome};
use crate::sys::http::{Answer, Request};

/// Polling.
pub(super) struct Until {
    pub(super) exchange: Exchange,
    pub(super) expectation: Expectation,
    pub(super) every: Duration,
}

impl Action for Until {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let session = self.exchange.peer.open(context)?;
        let request = self.exchange.request(&session, context)?;
        let address = session.address();
        let mut last = "no answer yet".to_owned();
        loop {
            let begun = Instant::now();
            let seen = match self.look(&session, &request, context) {
                Ok((answer, None)) => {
                    self.exchange.captures.take(&answer, context.facts)?;
                    return Ok(Outcome::Done);
                }
                Ok((answer, Some(missing))) => format!("last answer {}{missing}", answer.status),
                Err(failure) if failure.retryable => failure.cause,
                Err(failure) => return Err(failure),
            };
            if seen != last {
                context.events.waiting(&format!("{address}: {seen}"));
                last = seen;
            }
            if !context.pause(self.every.saturating_sub(begun.elapsed())) {
                let cause = format!("the condition did not become true; {last}");
                return Err(Failure::new(ErrorKind::TimedOut, address, cause));
            }
        }
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let session = self.exchange.peer.open(context)?;
        let request = self.exchange.request(&session, context)?;
        if !is_safe(&request.method) {
            return ask_instead(&session, &request, context);
        }
        let (answer, missing) = self.look(&session, &request, context)?;
        let seen = match missing {
            None => {
                let captured = self.exchange.captures.rehearse(&answer)?;
                format!(", as it is waited for{captured}")
            }
            Some(missing) => format!("{missing}: not yet as it is waited for"),
        };
        let (method, url) = (request.method, answer.url);
        Ok(format!("{method} {url}: answered {}{seen}", answer.status))
    }
}

impl Until {
    /// One poll: the answer, and what does not match. A refusal is a failure, since polling again will not change it.
    fn look(
        &self,
        session: &Session<'_>,
        request: &Request,
        context: &AttemptContext<'_>,
    ) -> Result<(Answer, Option<String>), Failure> {
        let answer = self.exchange.ask(session, request, context, &|answer| {
            self.expectation.has_status(answer) || answer.status < 500
        })?;
        if matches!(answer.status, 401 | 403) && !self.expectation.has_status(&answer) {
            return Err(unexpected(&answer));
        }
        let missing = self.expectation.missing(&answer, context.facts)?;
        Ok((answer, missing))
    }
}
