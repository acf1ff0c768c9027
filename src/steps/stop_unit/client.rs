//! A connection to PID 1 for one attempt, which a `daemon-reexec` may cut at any time.

use std::time::Duration;

use crate::model::deadline::{Deadline, Reason};
use crate::model::error::Failure;
use crate::step::AttemptContext;
use crate::sys::cancel::Waited;
use crate::sys::dbus::BusError;
use crate::sys::systemd::Manager;

/// The pause before a call is repeated.
const AGAIN: Duration = Duration::from_millis(200);

/// PID 1 at one attempt.
pub(super) struct Client<'a> {
    pub(super) context: &'a AttemptContext<'a>,
    /// Opened again after each error.
    manager: Option<Manager>,
}

impl<'a> Client<'a> {
    pub(super) fn new(context: &'a AttemptContext<'a>) -> Client<'a> {
        let manager = None;
        Client { context, manager }
    }

    /// Calls PID 1, again after each temporary error.
    pub(super) fn ask<T>(
        &mut self,
        subject: &str,
        question: impl Fn(&Manager, Deadline) -> Result<T, BusError>,
    ) -> Result<T, Failure> {
        self.tell(question).map_err(|error| error.failure(subject))
    }

    /// As [`Client::ask`], with the message of an error reply.
    pub(super) fn tell<T>(
        &mut self,
        question: impl Fn(&Manager, Deadline) -> Result<T, BusError>,
    ) -> Result<T, BusError> {
        loop {
            let deadline = self.context.request();
            let answer = match self.manager.take() {
                Some(manager) => Ok(manager),
                None => Manager::connect(deadline),
            };
            let answer = answer.and_then(|manager| {
                let answer = question(&manager, deadline);
                // An error reply is an answer, too.
                if matches!(answer, Ok(_) | Err(BusError::Refused(..))) {
                    self.manager = Some(manager);
                }
                answer
            });
            let error = match answer {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let is_final = matches!(error, BusError::Refused(..));
            if is_final
                || self.pause(AGAIN) == Waited::Cancelled
                || self.context.deadline.left().is_none()
            {
                return Err(error);
            }
        }
    }

    /// Waits for `time`, at most until the attempt's deadline, or until the run is told to stop.
    pub(super) fn pause(&self, time: Duration) -> Waited {
        let next = Deadline::after(time, Reason::Attempt);
        self.context
            .cancel
            .sleep_until(self.context.deadline.earlier(next))
    }
}
