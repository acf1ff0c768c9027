//! One run from its first event to its last.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attempts::{self, Ending};
use super::automounts::KeepInUse;
use super::context::RunContext;
use super::scheduler::{Scheduler, Start};
use crate::model::error::{ErrorKind, Failure};
use crate::model::event::{EventKind, Result};
use crate::sys::sync::{Condvar, Mutex};
use crate::sys::threads::{self, WhenIdle};

pub use super::scheduler::RunOutcome;

/// How long the runner sleeps when no step has a limit.
const IDLE_WAIT: Duration = Duration::from_secs(3600);

/// A run that has not begun, but can already be stopped.
#[derive(Default)]
pub struct Runner(Arc<Shared>);

/// Stops a run, from any thread.
#[derive(Clone)]
pub struct Control(Arc<Shared>);

/// Shared by the threads of a run. A thread whose step has ended runs the next one itself, so that a chain of steps
/// needs one thread and no hand-over; the runner's own thread wakes for late steps, for stops, and for the end.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// `Some` from the start of the run to its end.
    scheduler: Option<Scheduler>,
    /// How often it was told to stop before it began.
    stops: u32,
    /// When the runner's thread wakes by itself, and whether it should wake now.
    wakes: Option<Instant>,
    is_woken: bool,
}

impl Control {
    /// Cancels running steps; only `always` steps still begin.
    pub fn stop(&self) {
        self.tell(1);
    }

    /// Ends everything now.
    pub fn stop_at_once(&self) {
        self.tell(2);
    }

    fn tell(&self, stops: u32) {
        let mut state = self.0.state.lock();
        state.stops = state.stops.max(stops);
        state.apply_stops();
        state.is_woken = true;
        self.0.changed.notify_all();
    }
}

impl State {
    fn apply_stops(&mut self) {
        match (&mut self.scheduler, self.stops) {
            (None, _) | (_, 0) => {}
            (Some(scheduler), 1) => scheduler.stop(),
            (Some(scheduler), _) => scheduler.stop_at_once(),
        }
    }
}

impl Shared {
    /// Begins every step that can begin: the first one on the caller's thread if it `takes_one`, the others on other
    /// threads.
    fn advance(self: &Arc<Shared>, run: &Arc<RunContext>, takes_one: bool) -> Option<Start> {
        let mut own = None;
        loop {
            let mut starts = self.starts()?.into_iter();
            if takes_one && own.is_none() {
                own = starts.next();
            }
            let mut has_failed = false;
            for start in starts {
                let index = start.index;
                if let Err(error) = self.start(run, start) {
                    let cause = error.to_string();
                    let failure = Failure::new(ErrorKind::Io, "a thread for the step", cause);
                    self.end(index, Ending::failed(0, failure));
                    has_failed = true;
                }
            }
            if !has_failed {
                return own;
            }
        }
    }

    /// All steps that can begin, taken together so that none of them sees how another one ended. `None` when the run is
    /// over.
    fn starts(&self) -> Option<Vec<Start>> {
        let mut state = self.state.lock();
        let scheduler = state.scheduler.as_mut()?;
        let starts: Vec<Start> = std::iter::from_fn(|| scheduler.next_start()).collect();
        let (is_over, limit) = (scheduler.left == 0, scheduler.next_limit());
        let is_early = limit.is_some_and(|it| state.wakes.is_some_and(|at| it < at));
        if is_over || is_early {
            state.is_woken = true;
            self.changed.notify_all();
        }
        Some(starts)
    }

    fn start(self: &Arc<Shared>, run: &Arc<RunContext>, start: Start) -> std::io::Result<()> {
        let (shared, run) = (self.clone(), run.clone());
        threads::start(move || -> WhenIdle {
            let mut next = Some(start);
            while let Some(start) = next {
                let ending = attempts::perform(&run, start.index, start.deadline, &start.cancel);
                shared.end(start.index, ending);
                next = shared.advance(&run, true);
            }
            Box::new(|| {})
        })
    }

    fn end(&self, index: usize, ending: Ending) {
        if let Some(scheduler) = &mut self.state.lock().scheduler {
            scheduler.end(index, ending, Instant::now());
        }
    }

    /// Waits for a stop, for the end, or until a step is late.
    fn wait(&self) -> Option<RunOutcome> {
        let mut state = self.state.lock();
        let scheduler = state.scheduler.as_ref()?;
        if scheduler.left == 0 {
            let outcome = scheduler.outcome();
            state.scheduler = None;
            return Some(outcome);
        }
        let now = Instant::now();
        let wakes = scheduler.next_limit().unwrap_or(now + IDLE_WAIT);
        state.wakes = Some(wakes);
        let patience = wakes.saturating_duration_since(now);
        let (mut state, _) = (self.changed).wait_while(state, patience, |state| !state.is_woken);
        state.is_woken = false;
        state.wakes = None;
        if let Some(scheduler) = &mut state.scheduler {
            scheduler.abandon_late_ones();
        }
        None
    }
}

impl Runner {
    /// A handle to stop it.
    pub fn control(&self) -> Control {
        Control(self.0.clone())
    }

    /// Runs the sequence, from the event that it starts to the one that it is finished, and returns when every step has
    /// ended, or everything was told to end at once. `warnings` are emitted at its start.
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
        let outcome = match Scheduler::new(run.clone()) {
            Ok(scheduler) => self.schedule(scheduler, run),
            // No file descriptor is left for cancelling steps.
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

    fn schedule(&self, scheduler: Scheduler, run: &Arc<RunContext>) -> RunOutcome {
        let _in_use = KeepInUse::start(run);
        let mut state = self.0.state.lock();
        state.scheduler = Some(scheduler);
        // Before anything begins: a stopped run begins no step that a stop cancels.
        state.apply_stops();
        drop(state);
        loop {
            self.0.advance(run, false);
            if let Some(outcome) = self.0.wait() {
                return outcome;
            }
        }
    }
}

/// Warns of intents that are not in the record, so that `farewell start` will not undo them: such a run has failed.
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
    let reason = "the record could not be written, so the next boot will not know what to undo";
    RunOutcome {
        result: Result::Failed,
        reason: Some(reason.to_owned()),
    }
}
