//! One run from its first step to its outcome.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Instant;

use super::automounts::Awake;
use super::context::RunContext;
use super::scheduler::{Message, Scheduler};

pub use super::scheduler::{Control, RunOutcome};

/// A run that has not begun, and can already be told to stop.
pub struct Runner {
    inbox: Receiver<Message>,
    control: Control,
}

impl Default for Runner {
    fn default() -> Self {
        let (sender, inbox) = mpsc::channel();
        Runner {
            inbox,
            control: Control(sender),
        }
    }
}

impl Runner {
    /// The means to stop it.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Runs the sequence and returns when every step has ended, or everything was told to end at once.
    ///
    /// # Errors
    /// When the process has no file descriptor left for the switches that stop its steps.
    pub fn run(self, run: &Arc<RunContext>) -> std::io::Result<RunOutcome> {
        let mut scheduler = Scheduler::new(run.clone(), self.control)?;
        let _awake = Awake::start(run);
        loop {
            // Before anything begins: who was told to stop begins no step that a stop cancels.
            while let Ok(message) = self.inbox.try_recv() {
                scheduler.hear(message);
            }
            scheduler.begin_what_can();
            if scheduler.left == 0 {
                break;
            }
            let message = match scheduler.next_limit() {
                Some(limit) => self
                    .inbox
                    .recv_timeout(limit.saturating_duration_since(Instant::now())),
                None => self
                    .inbox
                    .recv()
                    .map_err(|_| RecvTimeoutError::Disconnected),
            };
            match message {
                Ok(message) => scheduler.hear(message),
                Err(_) => scheduler.leave_late_ones_behind(),
            }
        }
        Ok(scheduler.outcome())
    }
}
