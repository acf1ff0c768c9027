//! One run from its first event to its last.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Instant;

use super::automounts::Awake;
use super::context::RunContext;
use super::scheduler::{Message, Scheduler};
use crate::model::event::{EventKind, Result};

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

    /// Runs the sequence, from the event that it starts to the one that it is finished, and returns when every step has
    /// ended, or everything was told to end at once. The operator is warned of `warnings` at its start.
    pub fn run(self, run: &Arc<RunContext>, warnings: Vec<String>) -> RunOutcome {
        run.sink.emit(EventKind::RunStarted {
            run: run.id.clone(),
            purpose: run.purpose,
            machine: run.machine.clone(),
            trigger: run.trigger,
            started: run.started,
            budget: run.plan.budget(run.trigger),
            reserve: run.plan.reserve(run.trigger),
            steps: run.plan.names(),
        });
        for message in warnings {
            run.sink.emit(EventKind::Warning { message });
        }
        let scheduled = Scheduler::new(run.clone(), self.control);
        let outcome = match scheduled {
            Ok(scheduler) => schedule(scheduler, &self.inbox, run),
            // No file descriptor is left for the switches that stop the steps.
            Err(error) => RunOutcome {
                result: Result::CutShort,
                reason: Some(format!("nothing was run: {error}")),
            },
        };
        let outcome = with_unrecorded(run, outcome);
        run.sink.emit(EventKind::RunFinished {
            result: outcome.result,
            reason: outcome.reason.clone(),
        });
        outcome
    }
}

fn schedule(
    mut scheduler: Scheduler,
    inbox: &Receiver<Message>,
    run: &Arc<RunContext>,
) -> RunOutcome {
    let _awake = Awake::start(run);
    loop {
        // Before anything begins: a run that was told to stop begins no step that a stop cancels.
        while let Ok(message) = inbox.try_recv() {
            scheduler.handle(message);
        }
        scheduler.begin_what_can();
        if scheduler.left == 0 {
            return scheduler.outcome();
        }
        let message = match scheduler.next_limit() {
            Some(limit) => inbox.recv_timeout(limit.saturating_duration_since(Instant::now())),
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match message {
            Ok(message) => scheduler.handle(message),
            Err(_) => scheduler.leave_late_ones_behind(),
        }
    }
}

/// Warns of what the run has left that `farewell start` will not know of: a run that leaves such things has failed.
fn with_unrecorded(run: &RunContext, outcome: RunOutcome) -> RunOutcome {
    let unrecorded = run.sink.unrecorded();
    for (step, subject) in &unrecorded {
        let name = run.plan.steps.get(*step).map_or("", |it| &it.name);
        let message = format!(
            "step {name}: {subject} is not in the record, which could not be written: `farewell start` will not undo it; \
             undo it by hand"
        );
        run.sink.emit(EventKind::Warning { message });
    }
    if unrecorded.is_empty() || outcome.result != Result::Ok {
        return outcome;
    }
    let reason = "the record could not be written, so what has to be undone is not in it";
    RunOutcome {
        result: Result::Failed,
        reason: Some(reason.to_owned()),
    }
}
