//! The condition for releasing a lock at the next start.

use serde_json::Value;

use crate::clients::http::{Expectation, Peer, unexpected};
use crate::config::facts::Facts;
use crate::config::section::Section;
use crate::model::error::{ErrorKind, Failure};
use crate::model::event::Stream;
use crate::model::intent::{Datum, Intent, IntentId, Keys, READY};
use crate::step::{Action, AttemptContext, Outcome, StepEvents};
use crate::sys::http::{Answer, Request};

/// An answer that shows that the application is ready again.
pub(super) struct Ready {
    peer: Peer,
    expectation: Expectation,
    /// Whether the configuration has `expect` instead of `until`.
    is_expect: bool,
}

impl Ready {
    /// Reads the table's keys and finishes it.
    pub(super) fn read(section: &Section<'_>) -> Option<Ready> {
        let peer = Peer::read_whole(section);
        let expect = section.integers("expect", 100..=599);
        let until = section.table("until");
        if section.has("expect") && section.has("until") {
            let message = "has its own `status`, and cannot be used with `expect`";
            section.problem("until", message);
        }
        let is_expect = until.is_none();
        let expectation = match until {
            Some(until) => Expectation::read(&until, true),
            None => Expectation::of_status(expect),
        };
        section.finish();
        let peer = peer?;
        peer.warn_of_secrets(section);
        Some(Ready {
            peer,
            expectation,
            is_expect,
        })
    }

    /// Its keys for the record; [`Ready::read`] reads them.
    fn keep(&self, facts: &Facts) -> Result<Keys, Failure> {
        let mut keys = self.peer.keep(facts)?;
        let status = self
            .expectation
            .status()
            .map(|it| Datum::from(Value::from(it)));
        if self.is_expect {
            keys.extend(status.map(|it| ("expect".to_owned(), it)));
            return Ok(keys);
        }
        let (pointer, equals) = self.expectation.value();
        let mut until = Keys::new();
        until.extend(status.map(|it| ("status".to_owned(), it)));
        until.extend(pointer.map(|it| ("pointer".to_owned(), Datum::from(it))));
        if let Some(equals) = equals {
            until.insert("equals".to_owned(), Datum::from(equals.get(facts)?));
        }
        keys.insert("until".to_owned(), Datum::Table(until));
        Ok(keys)
    }

    /// One poll: the answer, and what does not match.
    fn look(&self, context: &AttemptContext<'_>) -> Result<(Answer, Option<String>), Failure> {
        let session = self.peer.open(context)?;
        let answer = session.send_until(&Request::get(""), context.request(), &|answer| {
            self.expectation.has_status(answer) || answer.status < 500
        })?;
        if matches!(answer.status, 401 | 403) && !self.expectation.has_status(&answer) {
            return Err(unexpected(&answer));
        }
        let missing = self.expectation.missing(&answer, context.facts)?;
        Ok((answer, missing))
    }

    /// Whether it holds now.
    ///
    /// # Errors
    /// What is missing in the answer, or why there is none.
    fn check(&self, context: &AttemptContext<'_>) -> Result<(), Failure> {
        let (answer, missing) = self.look(context)?;
        let Some(missing) = missing else {
            return Ok(());
        };
        let cause = format!(
            "answered {}{missing}: not yet as `ready` has it, so that the lock is kept",
            answer.status
        );
        Err(Failure::new(ErrorKind::Status, answer.url, cause).retryable(true))
    }

    /// Reports in a rehearsal whether it holds.
    pub(super) fn rehearse(&self, context: &AttemptContext<'_>) -> String {
        let seen = match self.look(context) {
            Ok((answer, None)) => {
                return format!("ready: {} answered {}", answer.url, answer.status);
            }
            Ok((answer, Some(missing))) => {
                format!("{} answered {}{missing}", answer.url, answer.status)
            }
            Err(failure) => failure.to_string(),
        };
        let warning = format!(
            "`ready` does not hold now, and where it does not after a reboot the lock is kept: {seen}"
        );
        context.events.warn(&warning);
        format!("not ready: {seen}")
    }

    /// Calls `act` with a context that adds this condition to intents.
    pub(super) fn condition(
        &self,
        context: &AttemptContext<'_>,
        act: impl FnOnce(&AttemptContext<'_>) -> Result<Outcome, Failure>,
    ) -> Result<Outcome, Failure> {
        let events = ConditionalEvents {
            events: context.events,
            ready: self.keep(context.facts)?,
        };
        act(&AttemptContext {
            events: &events,
            ..*context
        })
    }
}

/// Puts the condition into every intent.
struct ConditionalEvents<'a> {
    events: &'a dyn StepEvents,
    ready: Keys,
}

impl StepEvents for ConditionalEvents<'_> {
    fn waiting(&self, what: &str) {
        self.events.waiting(what);
    }

    fn output(&self, stream: Stream, line: &str) {
        self.events.output(stream, line);
    }

    fn remark(&self, remark: &str) {
        self.events.remark(remark);
    }

    fn warn(&self, warning: &str) {
        self.events.warn(warning);
    }

    fn intend(&self, intent: &Intent) -> IntentId {
        let mut intent = intent.clone();
        let ready = Datum::Table(self.ready.clone());
        intent.what.insert(READY.to_owned(), ready);
        self.events.intend(&intent)
    }

    fn withdraw(&self, intent_id: IntentId) {
        self.events.withdraw(intent_id);
    }
}

/// Releases a lock when the condition holds.
pub(super) struct WhenReady {
    pub(super) ready: Ready,
    pub(super) undo: Box<dyn Action>,
}

impl Action for WhenReady {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        self.ready.check(context)?;
        self.undo.attempt(context)
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        self.undo.rehearse(context)
    }

    fn renew(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        self.undo.renew(context)
    }
}
