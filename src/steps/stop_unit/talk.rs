//! An attempt's talk with PID 1, which a `daemon-reexec` may cut at any time.

use std::time::Duration;

use crate::model::deadline::{Deadline, Reason};
use crate::model::error::Failure;
use crate::step::Scope;
use crate::sys::cancel::Waited;
use crate::sys::dbus::Trouble;
use crate::sys::systemd::Manager;

/// Before a question is asked again.
const AGAIN: Duration = Duration::from_millis(200);

/// One attempt's talk with PID 1.
pub(super) struct Talk<'a> {
    pub(super) scope: &'a Scope<'a>,
    /// Made anew after each trouble.
    manager: Option<Manager>,
}

impl<'a> Talk<'a> {
    pub(super) fn new(scope: &'a Scope<'a>) -> Talk<'a> {
        let manager = None;
        Talk { scope, manager }
    }

    /// Asks PID 1, again after each trouble that may pass.
    pub(super) fn ask<T>(
        &mut self,
        noun: &str,
        question: impl Fn(&Manager, Deadline) -> Result<T, Trouble>,
    ) -> Result<T, Failure> {
        self.tell(question).map_err(|trouble| trouble.failure(noun))
    }

    /// As [`Talk::ask`], with a refusal as PID 1 told it.
    pub(super) fn tell<T>(
        &mut self,
        question: impl Fn(&Manager, Deadline) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        loop {
            let deadline = self.scope.request();
            let answer = match self.manager.take() {
                Some(manager) => Ok(manager),
                None => Manager::connect(deadline),
            };
            let answer = answer.and_then(|manager| {
                let answer = question(&manager, deadline);
                // A refusal is an answer too.
                if matches!(answer, Ok(_) | Err(Trouble::Refused(..))) {
                    self.manager = Some(manager);
                }
                answer
            });
            let trouble = match answer {
                Ok(value) => return Ok(value),
                Err(trouble) => trouble,
            };
            let is_final = matches!(trouble, Trouble::Refused(..));
            if is_final
                || self.pause(AGAIN) == Waited::Cancelled
                || self.scope.deadline.left().is_none()
            {
                return Err(trouble);
            }
        }
    }

    /// Waits for `time`, at most until the attempt's deadline, or until the run is told to stop.
    pub(super) fn pause(&self, time: Duration) -> Waited {
        let next = Deadline::after(time, Reason::Attempt);
        self.scope
            .cancel
            .sleep_until(self.scope.deadline.earlier(next))
    }
}
