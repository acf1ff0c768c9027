//! The order of the steps, their limits, and what happens when the run is told to stop.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attempts::Ending;
use super::context::RunContext;
use super::renewal;
use crate::model::deadline::{Deadline, Reason};
use crate::model::error::{ErrorKind, Failure};
use crate::model::event::{EventKind, Result, State};
use crate::plan::steps::{OnFailure, Step};
use crate::sys::cancel::Cancel;
use crate::sys::threads::{self, Next};
use crate::text::duration;

/// How long a step may be late before its thread is abandoned. Steps end by themselves at their deadline; only what
/// nothing can interrupt is late.
const SLACK: Duration = Duration::from_millis(250);

/// What a closing has at the least, even where the budget is spent or everything is told to end: together with its
/// slack a second.
const LAST_WORD: Duration = Duration::from_millis(750);

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOutcome {
    /// The result.
    pub result: Result,
    /// Why it was cut short, if it was.
    pub reason: Option<String>,
}

/// A step that is to run now, on whichever thread.
pub(super) struct Start {
    pub(super) index: usize,
    pub(super) deadline: Deadline,
    pub(super) cancel: Arc<Cancel>,
}

/// A step's time on its thread.
#[derive(Clone, Copy)]
struct RunningStep {
    since: Instant,
    deadline: Deadline,
    /// When it is abandoned.
    late: Instant,
}

#[derive(Clone, Copy)]
enum Place {
    /// Waits for this many others.
    Waiting(usize),
    /// On its thread.
    Running(RunningStep),
    Ended,
}

/// A run that has begun.
pub struct Scheduler {
    run: Arc<RunContext>,
    places: Vec<Place>,
    followers: Vec<Vec<usize>>,
    ready: VecDeque<usize>,
    running: Vec<usize>,
    pub(super) left: usize,
    /// Turned at a stop, for all but `always` steps, and for all when everything ends.
    cancel: Arc<Cancel>,
    cancel_always: Arc<Cancel>,
    /// Never turned: nothing cuts a closing short but its time.
    cancel_closing: Arc<Cancel>,
    /// Turned when what is held is given back.
    cancel_upkeep: Arc<Cancel>,
    /// The end of the budget, or of the reserve after a stop.
    end: Deadline,
    reserve: Duration,
    /// Why the steps that have not begun are cancelled, `always` ones excepted.
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
        let places: Vec<_> = steps
            .iter()
            .map(|step| Place::Waiting(step.after.len()))
            .collect();
        let ready = (0..steps.len())
            .filter(|index| steps[*index].after.is_empty())
            .collect();
        let (budget, reserve) = (run.plan.budget(run.trigger), run.plan.reserve(run.trigger));
        Ok(Scheduler {
            left: steps.len(),
            end: Deadline::at(run.begun + budget, Reason::Budget),
            reserve,
            places,
            followers,
            ready,
            running: Vec::new(),
            cancel: Arc::new(Cancel::new()?),
            cancel_always: Arc::new(Cancel::new()?),
            cancel_closing: Arc::new(Cancel::new()?),
            cancel_upkeep: Arc::new(Cancel::new()?),
            stopped: None,
            cut: None,
            failed: Vec::new(),
            run,
        })
    }

    /// The next step that can begin. Those that are left out or cancelled end here.
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
            let ending = Ending::without_begin(State::Skipped, reason);
            self.end(index, ending, Instant::now());
            return None;
        }
        if let Some(reason) = self.stopped.as_ref().filter(|_| !step.always) {
            let ending = Ending::without_begin(State::Cancelled, reason.clone());
            self.end(index, ending, Instant::now());
            return None;
        }
        let limit = self.limit(step);
        if limit.left().is_none() {
            let reason = format!("nothing was left of the {}", limit.reason().describe());
            self.cut_by_budget();
            let ending = Ending::without_begin(State::Cancelled, reason);
            self.end(index, ending, Instant::now());
            return None;
        }
        let deadline = Deadline::after(step.timeout, Reason::Timeout).earlier(limit);
        if step.is_closing {
            self.cancel_upkeep.cancel(Duration::ZERO);
        }
        let cancel = self.switch(step).clone();
        self.places[index] = Place::Running(RunningStep {
            since: Instant::now(),
            deadline,
            late: deadline.instant() + SLACK,
        });
        self.running.push(index);
        Some(Start {
            index,
            deadline,
            cancel,
        })
    }

    /// Until when a step may run that begins now, whatever its own timeout.
    fn limit(&self, step: &Step) -> Deadline {
        match self.end.instant().checked_sub(self.reserve) {
            Some(at) if !step.always && !self.reserve.is_zero() => {
                Deadline::at(at, Reason::Reserve)
            }
            _ if step.is_closing => self
                .end
                .later(Deadline::after(LAST_WORD, self.end.reason())),
            _ => self.end,
        }
    }

    /// What ends a step early.
    fn switch(&self, step: &Step) -> &Arc<Cancel> {
        if step.is_closing {
            &self.cancel_closing
        } else if step.always {
            &self.cancel_always
        } else {
            &self.cancel
        }
    }

    /// Has what the step holds renewed.
    fn keep_up(&self, index: usize) {
        let held = self.run.plan.steps[index].held.as_ref();
        let Some((every, action)) = held.and_then(|it| it.upkeep.clone()) else {
            return;
        };
        let (run, cancel) = (self.run.clone(), self.cancel_upkeep.clone());
        let job = move || -> Next {
            renewal::keep(&run, index, every, action.as_ref(), &cancel);
            Box::new(|| {})
        };
        if let Err(error) = threads::start(job) {
            let name = &self.run.plan.steps[index].name;
            let message = format!("{name}: what it holds is not renewed: no thread: {error}");
            self.run.sink.emit(EventKind::Warning { message });
        }
    }

    /// A step has ended, at that time. What comes of one that was abandoned does not matter any more.
    pub(super) fn end(&mut self, index: usize, ending: Ending, at: Instant) {
        let took = match self.places[index] {
            Place::Running(stint) => at.saturating_duration_since(stint.since),
            Place::Waiting(_) => Duration::ZERO,
            // It was abandoned, and has ended since.
            Place::Ended => return,
        };
        self.places[index] = Place::Ended;
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
            self.keep_up(index);
        }
        if failed && step.on_failure == OnFailure::Stop {
            let reason = format!("{} failed, and its on-failure is \"stop\"", step.name);
            self.stopped.get_or_insert(reason);
        }
        for follower in std::mem::take(&mut self.followers[index]) {
            if let Place::Waiting(others) = &mut self.places[follower] {
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

    /// What is running, with its index.
    fn stints(&self) -> impl Iterator<Item = (usize, RunningStep)> {
        self.running
            .iter()
            .filter_map(|index| match self.places[*index] {
                Place::Running(stint) => Some((*index, stint)),
                _ => None,
            })
    }

    /// The instant at which somebody will be late.
    pub(super) fn next_limit(&self) -> Option<Instant> {
        self.stints().map(|(_, stint)| stint.late).min()
    }

    pub(super) fn abandon_late_ones(&mut self) {
        let now = Instant::now();
        let late: Vec<_> = self
            .stints()
            .filter(|(_, stint)| stint.late <= now)
            .collect();
        for (index, stint) in late {
            let step = &self.run.plan.steps[index];
            let ending = if self.switch(step).is_cancelled() {
                let reason = "the run was told to stop, and it did not end in time";
                Ending {
                    attempts: 1,
                    ..Ending::without_begin(State::Cancelled, reason)
                }
            } else {
                let cause = "did not end at its deadline and was abandoned";
                Ending::timed_out(
                    1,
                    stint.deadline.reason(),
                    Failure::new(ErrorKind::TimedOut, step.kind, cause),
                )
            };
            self.end(index, ending, now);
        }
    }

    /// The first stop: what runs is cancelled, and `always` steps have the reserve, or what is left of the budget if
    /// that is less.
    pub(super) fn stop(&mut self) {
        if self.end.reason() == Reason::Stop {
            return;
        }
        let reason = "the run was told to stop";
        self.cut.get_or_insert_with(|| reason.to_owned());
        self.stopped = Some(reason.to_owned());
        let budget = Deadline::at(self.end.instant(), Reason::Stop);
        self.end = Deadline::after(self.reserve, Reason::Stop).earlier(budget);
        // `always` steps that wait for what runs get the other half of the reserve. Where nothing is kept for any,
        // nothing waits.
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
            if let Place::Running(stint) = &mut self.places[*index] {
                if step.is_closing {
                    continue;
                }
                stint.deadline = stint.deadline.earlier(end);
                let limit = if step.always {
                    end.instant()
                } else {
                    now + step.grace.min(patience)
                };
                stint.late = stint.late.min(limit + SLACK);
            }
        }
        run.facts.set_progress(self.result(), self.failed.clone());
    }

    /// The second stop: nothing runs or begins any more but the closings, and these for a moment.
    pub(super) fn stop_at_once(&mut self) {
        self.stop();
        self.cancel_always.cancel(Duration::ZERO);
        self.end = self.end.earlier(Deadline::after(LAST_WORD, Reason::Stop));
        let run = self.run.clone();
        for (index, step) in run.plan.steps.iter().enumerate() {
            let attempts = match &mut self.places[index] {
                Place::Running(stint) if step.is_closing => {
                    stint.late = stint.late.min(Instant::now() + LAST_WORD + SLACK);
                    continue;
                }
                Place::Running(_) => 1,
                Place::Waiting(_) if !step.is_closing => 0,
                Place::Waiting(_) | Place::Ended => continue,
            };
            let ending = Ending::without_begin(State::Cancelled, "the run was told to end at once");
            self.end(index, Ending { attempts, ..ending }, Instant::now());
        }
        self.ready.retain(|index| run.plan.steps[*index].is_closing);
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
