//! Decides which steps begin, with which limits, and what a stop does.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attempts::Ending;
use super::context::RunContext;
use super::renewal;
use crate::model::deadline::{Deadline, Reason};
use crate::model::error::{ErrorKind, Failure};
use crate::model::event::{EventKind, Result, State};
use crate::plan::step::{OnFailure, Step};
use crate::sys::cancel::Cancel;
use crate::sys::threads::{self, WhenIdle};
use crate::text::duration;

/// How late a step may be before its thread is abandoned. Steps end by themselves at their deadline; only
/// uninterruptible work is late.
const SLACK: Duration = Duration::from_millis(250);

/// The time a release always has, even when the budget is spent or everything is told to end: a second, with its slack.
const RELEASE_MINIMUM: Duration = Duration::from_millis(750);

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOutcome {
    /// The result.
    pub result: Result,
    /// Why it was cut short, if it was.
    pub reason: Option<String>,
}

/// A step to run now, on any thread.
pub(super) struct Start {
    pub(super) index: usize,
    pub(super) deadline: Deadline,
    pub(super) cancel: Arc<Cancel>,
}

/// A step on its thread.
#[derive(Clone, Copy)]
struct RunningStep {
    since: Instant,
    deadline: Deadline,
    abandon_at: Instant,
}

#[derive(Clone, Copy)]
enum Phase {
    /// Waits for this many other steps.
    Waiting(usize),
    /// On its thread.
    Running(RunningStep),
    Ended,
}

/// A run that has begun.
pub struct Scheduler {
    run: Arc<RunContext>,
    phases: Vec<Phase>,
    followers: Vec<Vec<usize>>,
    ready: VecDeque<usize>,
    running: Vec<usize>,
    pub(super) left: usize,
    /// Cancelled at a stop: for all but `always` steps, and for all when everything ends.
    cancel: Arc<Cancel>,
    cancel_always: Arc<Cancel>,
    /// Never cancelled: only its time limit ends a release.
    cancel_release: Arc<Cancel>,
    /// Cancelled when the lock is released.
    cancel_renewal: Arc<Cancel>,
    /// The end of the budget, or after a stop the end of the reserve.
    end: Deadline,
    reserve: Duration,
    /// Why steps that have not begun are cancelled, except `always` ones.
    stopped: Option<String>,
    cut: Option<String>,
    failed: Vec<String>,
}

impl Scheduler {
    pub(super) fn new(run: Arc<RunContext>) -> std::io::Result<Scheduler> {
        let steps = &run.plan.steps;
        let mut followers = vec![Vec::new(); steps.len()];
        for (index, step) in steps.iter().enumerate() {
            for before in &step.after {
                followers[*before].push(index);
            }
        }
        let phases: Vec<_> = steps
            .iter()
            .map(|step| Phase::Waiting(step.after.len()))
            .collect();
        let ready = (0..steps.len())
            .filter(|index| steps[*index].after.is_empty())
            .collect();
        let (budget, reserve) = (run.plan.budget(run.trigger), run.plan.reserve(run.trigger));
        Ok(Scheduler {
            left: steps.len(),
            end: Deadline::at(run.begun + budget, Reason::Budget),
            reserve,
            phases,
            followers,
            ready,
            running: Vec::new(),
            cancel: Arc::new(Cancel::new()?),
            cancel_always: Arc::new(Cancel::new()?),
            cancel_release: Arc::new(Cancel::new()?),
            cancel_renewal: Arc::new(Cancel::new()?),
            stopped: None,
            cut: None,
            failed: Vec::new(),
            run,
        })
    }

    /// The next step that can begin. Steps that are skipped or cancelled end here.
    pub(super) fn next_start(&mut self) -> Option<Start> {
        while let Some(index) = self.ready.pop_front() {
            let start = self.begin(index);
            if start.is_some() {
                return start;
            }
        }
        None
    }

    fn begin(&mut self, index: usize) -> Option<Start> {
        let run = self.run.clone();
        let step = &run.plan.steps[index];
        if let Some(reason) = step.skipped(run.trigger, run.facts.comes_back()) {
            let ending = Ending::not_begun(State::Skipped, reason);
            self.end(index, ending, Instant::now());
            return None;
        }
        if let Some(reason) = self.stopped.as_ref().filter(|_| !step.always) {
            let ending = Ending::not_begun(State::Cancelled, reason.clone());
            self.end(index, ending, Instant::now());
            return None;
        }
        let limit = self.limit(step);
        if limit.left().is_none() {
            let reason = format!("nothing was left of the {}", limit.reason().describe());
            self.cut_by_budget();
            let ending = Ending::not_begun(State::Cancelled, reason);
            self.end(index, ending, Instant::now());
            return None;
        }
        let deadline = Deadline::after(step.timeout, Reason::Timeout).earlier(limit);
        if step.is_release {
            self.cancel_renewal.cancel(Duration::ZERO);
        }
        let cancel = self.cancel_for(step).clone();
        self.phases[index] = Phase::Running(RunningStep {
            since: Instant::now(),
            deadline,
            abandon_at: deadline.instant() + SLACK,
        });
        self.running.push(index);
        Some(Start {
            index,
            deadline,
            cancel,
        })
    }

    /// The run's limit for a step that begins now.
    fn limit(&self, step: &Step) -> Deadline {
        match self.end.instant().checked_sub(self.reserve) {
            Some(at) if !step.always && !self.reserve.is_zero() => {
                Deadline::at(at, Reason::Reserve)
            }
            _ if step.is_release => self
                .end
                .later(Deadline::after(RELEASE_MINIMUM, self.end.reason())),
            _ => self.end,
        }
    }

    /// What cancels a step.
    fn cancel_for(&self, step: &Step) -> &Arc<Cancel> {
        if step.is_release {
            &self.cancel_release
        } else if step.always {
            &self.cancel_always
        } else {
            &self.cancel
        }
    }

    /// Starts renewing what the step holds.
    fn start_renewal(&self, index: usize) {
        let held = self.run.plan.steps[index].held.as_ref();
        let Some((every, action)) = held.and_then(|it| it.renewal.clone()) else {
            return;
        };
        let (run, cancel) = (self.run.clone(), self.cancel_renewal.clone());
        let job = move || -> WhenIdle {
            renewal::keep(&run, index, every, action.as_ref(), &cancel);
            Box::new(|| {})
        };
        if let Err(error) = threads::start(job) {
            let name = &self.run.plan.steps[index].name;
            let message = format!("{name}: cannot renew what it holds: no thread: {error}");
            self.run.sink.emit(EventKind::Warning { message });
        }
    }

    /// Takes the end of a step. The result of an abandoned step is dropped.
    pub(super) fn end(&mut self, index: usize, ending: Ending, at: Instant) {
        let took = match self.phases[index] {
            Phase::Running(running) => at.saturating_duration_since(running.since),
            Phase::Waiting(_) => Duration::ZERO,
            // An abandoned step has ended after all.
            Phase::Ended => return,
        };
        self.phases[index] = Phase::Ended;
        self.running.retain(|running| *running != index);
        self.left -= 1;
        let run = self.run.clone();
        let step = &run.plan.steps[index];
        if matches!(ending.reached, Some(Reason::Budget | Reason::Reserve)) {
            self.cut_by_budget();
        }
        let failed = matches!(ending.state, State::Failed | State::TimedOut);
        if failed {
            self.failed.push(step.name.clone());
        }
        if !ending.state.is_good() {
            run.facts.set_progress(self.result(), self.failed.clone());
        }
        run.sink.emit(EventKind::StepFinished {
            step: index,
            state: ending.state,
            attempts: ending.attempts,
            took,
            failure: ending.failure,
            reason: ending.reason,
        });
        if matches!(ending.state, State::Done | State::AlreadyDone) {
            self.start_renewal(index);
        }
        if failed && step.on_failure == OnFailure::Stop {
            let reason = format!("{} failed, and its on-failure is \"stop\"", step.name);
            self.stopped.get_or_insert(reason);
        }
        for follower in std::mem::take(&mut self.followers[index]) {
            if let Phase::Waiting(others) = &mut self.phases[follower] {
                *others -= 1;
                if *others == 0 {
                    self.ready.push_back(follower);
                }
            }
        }
    }

    fn cut_by_budget(&mut self) {
        let budget = duration::print(self.run.plan.budget(self.run.trigger));
        self.cut
            .get_or_insert_with(|| format!("the budget of {budget} is spent"));
    }

    /// The running steps, each with its index.
    fn running_steps(&self) -> impl Iterator<Item = (usize, RunningStep)> {
        self.running
            .iter()
            .filter_map(|index| match self.phases[*index] {
                Phase::Running(running) => Some((*index, running)),
                _ => None,
            })
    }

    /// When the next step will be abandoned.
    pub(super) fn next_limit(&self) -> Option<Instant> {
        self.running_steps()
            .map(|(_, running)| running.abandon_at)
            .min()
    }

    pub(super) fn abandon_late_ones(&mut self) {
        let now = Instant::now();
        let late: Vec<_> = self
            .running_steps()
            .filter(|(_, running)| running.abandon_at <= now)
            .collect();
        for (index, running) in late {
            let step = &self.run.plan.steps[index];
            let ending = if self.cancel_for(step).is_cancelled() {
                let reason = "the run was told to stop, and it did not end in time";
                Ending {
                    attempts: 1,
                    ..Ending::not_begun(State::Cancelled, reason)
                }
            } else {
                let cause = "did not end at its deadline and was abandoned";
                Ending::timed_out(
                    1,
                    running.deadline.reason(),
                    Failure::new(ErrorKind::TimedOut, step.kind, cause),
                )
            };
            self.end(index, ending, now);
        }
    }

    /// The first stop: running steps are cancelled, and `always` steps have the reserve, or what is left of the budget
    /// if that is less.
    pub(super) fn stop(&mut self) {
        if self.end.reason() == Reason::Stop {
            return;
        }
        let reason = "the run was told to stop";
        self.cut.get_or_insert_with(|| reason.to_owned());
        self.stopped = Some(reason.to_owned());
        let budget = Deadline::at(self.end.instant(), Reason::Stop);
        self.end = Deadline::after(self.reserve, Reason::Stop).earlier(budget);
        // Running steps get half of the reserve, and the `always` steps that wait for them the other half. Without a
        // reserve nothing waits.
        let patience = match self.end.left() {
            Some(left) => left / 2,
            None => budget.left().unwrap_or_default(),
        };
        self.reserve = Duration::ZERO;
        self.cancel.cancel(patience);
        let run = self.run.clone();
        let (now, end) = (Instant::now(), self.end);
        for index in &self.running {
            let step = &run.plan.steps[*index];
            if let Phase::Running(running) = &mut self.phases[*index] {
                if step.is_release {
                    continue;
                }
                running.deadline = running.deadline.earlier(end);
                let limit = if step.always {
                    end.instant()
                } else {
                    now + step.grace.min(patience)
                };
                running.abandon_at = running.abandon_at.min(limit + SLACK);
            }
        }
        run.facts.set_progress(self.result(), self.failed.clone());
    }

    /// The second stop: only releases still run, for a moment.
    pub(super) fn stop_at_once(&mut self) {
        self.stop();
        self.cancel_always.cancel(Duration::ZERO);
        self.end = self
            .end
            .earlier(Deadline::after(RELEASE_MINIMUM, Reason::Stop));
        let run = self.run.clone();
        for (index, step) in run.plan.steps.iter().enumerate() {
            let attempts = match &mut self.phases[index] {
                Phase::Running(running) if step.is_release => {
                    running.abandon_at = running
                        .abandon_at
                        .min(Instant::now() + RELEASE_MINIMUM + SLACK);
                    continue;
                }
                Phase::Running(_) => 1,
                Phase::Waiting(_) if !step.is_release => 0,
                Phase::Waiting(_) | Phase::Ended => continue,
            };
            let ending = Ending::not_begun(State::Cancelled, "the run was told to end at once");
            self.end(index, Ending { attempts, ..ending }, Instant::now());
        }
        self.ready.retain(|index| run.plan.steps[*index].is_release);
    }

    fn result(&self) -> Result {
        match (&self.cut, self.failed.is_empty()) {
            (Some(_), _) => Result::CutShort,
            (None, false) => Result::Failed,
            (None, true) => Result::Ok,
        }
    }

    pub(super) fn outcome(&self) -> RunOutcome {
        RunOutcome {
            result: self.result(),
            reason: self.cut.clone(),
        }
    }
}
