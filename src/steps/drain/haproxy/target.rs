//! The drain of a server in one HAProxy.

use super::super::{declared, keys};
use super::MEMBER;
use super::runtime::{Runtime, Seen, State};
use crate::model::error::Failure;
use crate::model::intent::{IntentId, Keys};
use crate::step::AttemptContext;
use crate::sys::http::Endpoint;

/// A server in one HAProxy, and what this attempt has done to it.
pub(super) struct Target<'a> {
    pub(super) runtime: Runtime<'a>,
    context: &'a AttemptContext<'a>,
    maint: bool,
    intent_id: Option<IntentId>,
    pub(super) is_changed: bool,
}

impl<'a> Target<'a> {
    pub(super) fn new(
        context: &'a AttemptContext<'a>,
        socket: Endpoint,
        backend: &str,
        server: &str,
        maint: bool,
    ) -> Target<'a> {
        Target {
            runtime: Runtime::new(context, socket, backend, server),
            context,
            maint,
            intent_id: None,
            is_changed: false,
        }
    }

    /// Takes the next step of the drain. Returns what it waits for, or `None` when nothing is in flight and nothing is left to do.
    pub(super) fn advance(&mut self) -> Result<Option<String>, Failure> {
        let mut seen = self.runtime.must()?;
        if seen.state == State::Ready {
            if self.is_changed {
                self.context.events.remark(&format!(
                    "{} was no longer drained: HAProxy was restarted or reloaded, or somebody set it ready; it was drained again",
                    self.runtime.subject()
                ));
            }
            seen = self.set(seen.state, State::Drain)?;
        }
        if seen.load.is_zero() && self.maint && seen.state == State::Drain {
            seen = self.set(seen.state, State::Maint)?;
        }
        let subject = || format!("{} of {}", seen.load, self.runtime.subject());
        Ok((!seen.load.is_zero()).then(subject))
    }

    /// Declares the change from one state to another, makes it, and reads the server again.
    pub(super) fn set(&mut self, before: State, state: State) -> Result<Seen, Failure> {
        match self.intent_id {
            Some(_) => self.runtime.set(state)?,
            None => {
                let subject = format!("the drain of {}", self.runtime.subject());
                let set = &mut || self.runtime.set(state);
                let what = self.kept(before);
                self.intent_id = Some(declared(self.context, MEMBER.name, subject, what, set)?);
            }
        }
        self.is_changed = true;
        self.runtime.must()
    }

    /// Reverts a drain that has just begun.
    pub(super) fn take_back(&mut self) -> Result<(), Failure> {
        self.runtime.set(State::Ready)?;
        self.is_changed = false;
        if let Some(intent_id) = self.intent_id.take() {
            self.context.withdraw(intent_id);
        }
        Ok(())
    }

    fn kept(&self, before: State) -> Keys {
        let left = match self.maint {
            true => State::Maint,
            false => State::Drain,
        };
        let (backend, server) = self.runtime.names();
        keys(vec![
            ("socket", self.runtime.address().into()),
            ("backend", backend.into()),
            ("server", server.into()),
            ("before", before.word().into()),
            ("left", left.word().into()),
        ])
    }
}
