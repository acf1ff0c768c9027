//! One step on its thread: its conditions, its attempts and the pauses between them.

use std::time::Duration;

use super::automounts;
use super::conditions;
use super::context::{EventSink, RunContext};
use super::panics;
use crate::model::deadline::{Deadline, Reason};
use crate::model::error::{ErrorKind, Failure};
use crate::model::event::{Copied, EventKind, State, Stream};
use crate::model::intent::{Intent, IntentId};
use crate::plan::step::Step;
use crate::step::{AttemptContext, AttemptPolicy, Outcome, StepEvents};
use crate::sys::cancel::{Cancel, Waited};
use crate::sys::sync::Mutex;

/// The first pause between two attempts; pauses double up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How many remarks of one attempt are kept: the last ones.
const REMARKS: usize = 4;

/// With less time than this left, no other attempt is made.
const TOO_SHORT: Duration = Duration::from_millis(100);

/// How a step ended.
#[derive(Clone, Debug)]
pub struct Ending {
    /// Its last state.
    pub state: State,
    /// Attempts made.
    pub attempts: u32,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// Why it was skipped or cancelled, or a remark.
    pub reason: Option<String>,
    /// The limit that ended it, if one did.
    pub reached: Option<Reason>,
}

impl Ending {
    /// A step that did not begin.
    pub fn not_begun(state: State, reason: impl Into<String>) -> Ending {
        Ending {
            state,
            attempts: 0,
            failure: None,
            reason: Some(reason.into()),
            reached: None,
        }
    }

    /// A step whose last attempt failed.
    pub fn failed(attempts: u32, failure: Failure) -> Ending {
        let state = if failure.kind == ErrorKind::TimedOut {
            State::TimedOut
        } else {
            State::Failed
        };
        Ending {
            state,
            attempts,
            failure: Some(failure),
            reason: None,
            reached: None,
        }
    }

    /// A step that reached its own time limit or the run's.
    pub fn timed_out(attempts: u32, reached: Reason, failure: Failure) -> Ending {
        Ending {
            reached: Some(reached),
            ..Ending::failed(
                attempts,
                Failure {
                    kind: ErrorKind::TimedOut,
                    ..failure
                },
            )
        }
    }
}

/// Begins a step.
///
/// # Errors
/// How it ends where its conditions are not met, or cannot be checked.
fn begin(
    run: &RunContext,
    index: usize,
    deadline: Deadline,
    cancel: &Cancel,
) -> Result<(), Ending> {
    let step = &run.plan.steps[index];
    let unmet = panics::catch(|| {
        automounts::mount_missing(step, &run.facts, deadline, cancel);
        conditions::unmet(step, &run.facts, deadline, cancel)
    });
    match unmet {
        Ok(None) => {}
        Ok(Some(reason)) => return Err(Ending::not_begun(State::Skipped, reason)),
        Err(failure) if cancel.is_cancelled() => return Err(stopped(0, failure)),
        Err(failure) => return Err(Ending::failed(0, failure)),
    }
    run.sink.emit(EventKind::StepStarted {
        step: index,
        left: deadline.left().unwrap_or_default(),
    });
    Ok(())
}

/// The time limit of the next attempt.
fn limit(step: &Step, deadline: Deadline) -> Deadline {
    match step.policy {
        AttemptPolicy::Polled | AttemptPolicy::Patient => deadline,
        AttemptPolicy::Once | AttemptPolicy::Retried => {
            deadline.earlier(Deadline::after(step.attempt_timeout, Reason::Attempt))
        }
    }
}

/// Why no attempt follows.
enum Last {
    Failed,
    TimedOut,
}

/// Why the attempt that ended with `failure`, within its `limit`, is the last one, if it is.
fn is_last(step: &Step, limit: Deadline, attempt: u32, failure: &Failure) -> Option<Last> {
    // One of several addresses may have used up only its own share of the time.
    let is_over = limit.left().is_none_or(|left| left <= TOO_SHORT);
    if failure.kind == ErrorKind::TimedOut && limit.reason() != Reason::Attempt && is_over {
        return Some(Last::TimedOut);
    }
    let is_enough = step.attempts.is_some_and(|attempts| attempt >= attempts);
    (!failure.retryable || is_enough).then_some(Last::Failed)
}

/// Runs a step from its conditions to its end, at the latest at `deadline`.
pub fn perform(run: &RunContext, index: usize, deadline: Deadline, cancel: &Cancel) -> Ending {
    if let Err(ending) = begin(run, index, deadline, cancel) {
        return ending;
    }
    let step = &run.plan.steps[index];
    let speaker = StepReporter::new(run.sink.as_ref(), index);
    // With a single attempt no request is sent twice, not even after a kept connection turned out to be closed.
    let http = match step.attempts {
        Some(1) => &run.http.sending_once(),
        _ => &run.http,
    };
    let mut first: Option<Failure> = None;
    let mut pause = FIRST_PAUSE;
    let mut attempt = 1;
    loop {
        let limit = limit(step, deadline);
        speaker.begin_attempt();
        let context = AttemptContext {
            deadline: limit,
            attempt_timeout: step.attempt_timeout,
            cancel,
            facts: &run.facts,
            http,
            events: &speaker,
            needed: &|| run.plan.needed(index),
        };
        let failed = match panics::catch(|| step.action.attempt(&context)) {
            Ok(outcome) => return speaker.success(outcome, attempt),
            Err(failure) => speaker.with_remarks(failure),
        };
        let failure = match &first {
            Some(first) => after(first, failed),
            None => first.insert(failed).clone(),
        };
        let left = deadline.left().filter(|left| *left > TOO_SHORT);
        let left = match (is_last(step, limit, attempt, &failure), left) {
            _ if cancel.is_cancelled() => return stopped(attempt, failure),
            (Some(Last::Failed), _) => return Ending::failed(attempt, failure),
            (Some(Last::TimedOut), _) | (None, None) => {
                return at_the_deadline(step, deadline, attempt, failure);
            }
            (None, Some(left)) => left,
        };
        // At most half of what is left, so that the last attempts come close to the deadline.
        let again = pause.mul_f64(0.5 + fastrand::f64() / 2.0).min(left / 2);
        run.sink.emit(EventKind::AttemptFailed {
            step: index,
            attempt,
            failure: failure.clone(),
            again,
        });
        if cancel.sleep(again) == Waited::Cancelled {
            return stopped(attempt, failure);
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
        attempt += 1;
    }
}

/// The failure of a later attempt, with the first attempt's: after a server died in the middle of a request, for
/// example, later attempts only see refused connections.
fn after(first: &Failure, failure: Failure) -> Failure {
    let both_late = first.kind == ErrorKind::TimedOut && failure.kind == ErrorKind::TimedOut;
    if both_late || first.subject == failure.subject && first.cause == failure.cause {
        return failure;
    }
    let told = match first.subject == failure.subject {
        true => first.cause.clone(),
        false => first.to_string(),
    };
    let cause = format!("{} (the first attempt: {told})", failure.cause);
    Failure { cause, ..failure }
}

fn stopped(attempts: u32, failure: Failure) -> Ending {
    let reason = format!("the run was told to stop; last: {failure}");
    Ending {
        attempts,
        ..Ending::not_begun(State::Cancelled, reason)
    }
}

/// The step's time is over. The last attempt's error word stays if the step's own timeout was reached; a step that
/// still runs at the end of the run's time is `timed-out`.
fn at_the_deadline(step: &Step, deadline: Deadline, attempts: u32, failure: Failure) -> Ending {
    if deadline.reason() == Reason::Timeout && failure.kind != ErrorKind::TimedOut {
        return Ending::failed(attempts, failure);
    }
    let what = match deadline.reason() {
        Reason::Timeout => format!("timeout of {}", crate::text::duration::print(step.timeout)),
        other => other.describe().to_owned(),
    };
    let cause = format!("{} (the {what} was reached)", failure.cause);
    Ending::timed_out(attempts, deadline.reason(), Failure { cause, ..failure })
}

/// Passes a step's events to the event sink under the step's index.
pub(super) struct StepReporter<'a> {
    sink: &'a dyn EventSink,
    step: usize,
    /// What it waits for, as emitted last: a step that polls may repeat itself.
    waiting: Mutex<Option<String>>,
    remarks: Mutex<Vec<String>>,
    /// The intents that the step has declared, by number; `None` once withdrawn.
    intents: Mutex<Vec<Option<Intent>>>,
}

impl<'a> StepReporter<'a> {
    pub(super) fn new(sink: &'a dyn EventSink, step: usize) -> StepReporter<'a> {
        StepReporter {
            sink,
            step,
            waiting: Mutex::default(),
            remarks: Mutex::default(),
            intents: Mutex::default(),
        }
    }

    /// Remarks of an earlier attempt were reported with its failure.
    fn begin_attempt(&self) {
        self.remarks.lock().clear();
    }

    /// The failure of an attempt, with the attempt's remarks.
    fn with_remarks(&self, failure: Failure) -> Failure {
        let remarks = self.remarks.lock();
        let news = remarks.iter().filter(|it| !failure.cause.contains(*it));
        let cause = news.fold(failure.cause.clone(), |cause, it| format!("{cause}; {it}"));
        Failure { cause, ..failure }
    }

    fn success(self, outcome: Outcome, attempts: u32) -> Ending {
        let state = match outcome {
            Outcome::Done => State::Done,
            Outcome::AlreadyDone => State::AlreadyDone,
        };
        let remarks = self.remarks.lock().join("; ");
        Ending {
            state,
            attempts,
            failure: None,
            reason: (!remarks.is_empty()).then_some(remarks),
            reached: None,
        }
    }
}

impl StepEvents for StepReporter<'_> {
    fn waiting(&self, what: &str) {
        let mut told = self.waiting.lock();
        if told.as_deref() == Some(what) {
            return;
        }
        *told = Some(what.to_owned());
        self.sink.emit(EventKind::Waiting {
            step: self.step,
            what: what.to_owned(),
        });
    }

    fn output(&self, stream: Stream, line: &str) {
        self.sink.emit(EventKind::Output {
            step: self.step,
            stream,
            line: line.to_owned(),
        });
    }

    fn copied(&self, copy: Copied) {
        self.sink.emit(EventKind::Copied {
            step: self.step,
            copy,
        });
    }

    fn note(&self, what: &str) {
        self.sink.emit(EventKind::Noted {
            step: self.step,
            text: what.to_owned(),
        });
    }

    fn remark(&self, remark: &str) {
        let mut remarks = self.remarks.lock();
        if !remarks.iter().any(|it| it == remark) {
            // Remarks repeated at each poll of a long wait must not fill the record.
            if remarks.len() == REMARKS {
                remarks.remove(0);
            }
            remarks.push(remark.to_owned());
        }
    }

    fn intend(&self, intent: &Intent) -> IntentId {
        let mut intents = self.intents.lock();
        let known = intents.iter().position(|it| it.as_ref() == Some(intent));
        let at = known.unwrap_or(intents.len());
        let mark = IntentId {
            step: self.step,
            number: u32::try_from(at).unwrap_or(u32::MAX),
        };
        if known.is_none() {
            intents.push(Some(intent.clone()));
            drop(intents);
            self.sink.emit(EventKind::Intended {
                mark,
                intent: intent.clone(),
            });
        }
        mark
    }

    fn withdraw(&self, mark: IntentId) {
        if mark.step == self.step
            && let Some(intent) = self.intents.lock().get_mut(mark.number as usize)
        {
            *intent = None;
        }
        self.sink.emit(EventKind::Settled { mark });
    }

    fn left_before(&self) -> Vec<Intent> {
        self.sink.left_before(self.step)
    }

    fn is_recorded(&self, mark: IntentId) -> bool {
        self.sink.is_recorded(mark)
    }
}
