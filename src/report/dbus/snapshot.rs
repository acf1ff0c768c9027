//! A run as D-Bus shows it: made from the run's progress, and turned back into events by clients that watch it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::history::record::usec;
use crate::model::error::{ErrorKind, Failure};
use crate::model::event::{Event, EventKind, Purpose, Result, State, StepName};
use crate::model::machine::Machine;
use crate::model::trigger::Trigger;
use crate::report::dbus::interface::{Snapshot, Span, Step};
use crate::text::sanitize::plain;
use crate::view::progress::{Progress, StepProgress};

/// A run that began at `begun`, as D-Bus shows it.
pub fn of(progress: &Progress, begun: Instant) -> Snapshot {
    let deadline = progress.started.checked_add(progress.budget);
    let steps = progress.steps.iter();
    Snapshot {
        run: progress.run.clone(),
        trigger: progress.trigger.to_string(),
        result: progress.result.map(|result| result.as_str().to_owned()),
        started_usec: since_epoch(progress.started),
        deadline_usec: deadline.map_or(u64::MAX, since_epoch),
        steps: steps.map(|step| of_step(step, begun)).collect(),
    }
}

/// A step of a run that began at `begun`, as D-Bus shows it.
pub fn of_step(step: &StepProgress, begun: Instant) -> Step {
    let span = match (step.started, step.took) {
        (Some(started), None) => Span::Since(begun + started),
        (_, took) => Span::Over(took.unwrap_or_default()),
    };
    let message = match (&step.waiting, &step.failure, &step.reason) {
        (Some(what), _, _) => what.clone(),
        (None, Some(failure), _) => format!("{}: {failure}", failure.kind),
        (None, None, reason) => reason.clone().unwrap_or_default(),
    };
    Step {
        name: step.name.clone(),
        kind: step.kind.clone(),
        state: step.state,
        // D-Bus allows no NUL in a string, and a terminal should get no other control characters either.
        message: plain(&message).into_owned(),
        attempt: step.attempts,
        span,
    }
}

fn since_epoch(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, usec)
}

/// When a run began, by the wall clock.
pub fn started(run: &Snapshot) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(run.started_usec)
}

/// The run's budget.
fn budget(run: &Snapshot) -> Duration {
    Duration::from_micros(run.deadline_usec.saturating_sub(run.started_usec))
}

/// The progress of a run that is first seen now, `at` after its start. When its ended steps began is not known.
pub fn progress(run: &Snapshot, at: Duration) -> Option<Progress> {
    let events = events(None, run, at);
    let (first, rest) = events.split_first()?;
    let mut progress = Progress::begin(first)?;
    rest.iter().for_each(|event| progress.apply(event));
    progress.at = progress.at.max(at);
    Some(progress)
}

/// The events that lead from `before`, or from nothing, to `after`, which was seen `at` after the run's start.
pub fn events(before: Option<&Snapshot>, after: &Snapshot, at: Duration) -> Vec<Event> {
    let mut events = Vec::new();
    if before.is_none() {
        let kind = beginning(after);
        let at = Duration::ZERO;
        events.push(Event { at, kind });
    }
    let left = budget(after).saturating_sub(at);
    for (index, step) in after.steps.iter().enumerate() {
        let known = before.and_then(|run| run.steps.get(index));
        for (earlier, kind) in step_events(index, known, step, left) {
            let at = at.saturating_sub(earlier);
            events.push(Event { at, kind });
        }
    }
    let was_over = before.is_some_and(|run| run.result.is_some());
    if let Some(result) = after.result.as_deref().filter(|_| !was_over) {
        let kind = EventKind::RunFinished {
            result: Result::parse(result).unwrap_or(Result::Failed),
            reason: None,
        };
        events.push(Event { at, kind });
    }
    events
}

fn beginning(run: &Snapshot) -> EventKind {
    let steps = run.steps.iter().map(|step| StepName {
        name: step.name.clone(),
        kind: step.kind.clone(),
    });
    EventKind::RunStarted {
        run: run.run.clone(),
        purpose: Purpose::Farewell,
        machine: Machine::default(),
        trigger: Trigger::parse(&run.trigger).unwrap_or(Trigger::Stop),
        started: started(run),
        budget: budget(run),
        reserve: Duration::ZERO,
        steps: steps.collect(),
    }
}

/// What has happened to a step since it was `known`, and how long ago. D-Bus does not carry the step's own limit: it
/// has at most what is `left` of the run.
fn step_events(
    step: usize,
    known: Option<&Step>,
    now: &Step,
    left: Duration,
) -> Vec<(Duration, EventKind)> {
    let mut happened = Vec::new();
    let was = known.map_or(State::Pending, |step| step.state);
    let length = now.span.length();
    let begins = was == State::Pending && now.attempt > 0;
    // When a step began that had ended before it was first seen is not known.
    if begins && (known.is_some() || now.state == State::Running) {
        let left = left + length;
        happened.push((length, EventKind::StepStarted { step, left }));
    }
    if now.state.is_final() {
        if !was.is_final() {
            happened.push((Duration::ZERO, ending(step, now)));
        }
        return happened;
    }
    let tried = known.map_or(0, |step| step.attempt).max(1);
    let said = known.map_or("", |step| &step.message);
    let kind = match failure(now) {
        Some(failure) if now.attempt > tried => EventKind::AttemptFailed {
            step,
            attempt: now.attempt - 1,
            failure,
            // Whether and when it begins is not known here.
            again: Duration::ZERO,
        },
        None if now.message != said => EventKind::Waiting {
            step,
            what: now.message.clone(),
        },
        _ => return happened,
    };
    happened.push((Duration::ZERO, kind));
    happened
}

fn ending(step: usize, now: &Step) -> EventKind {
    let failure = failure(now).filter(|_| !now.state.is_good());
    let message = Some(&now.message).filter(|message| !message.is_empty());
    EventKind::StepFinished {
        step,
        state: now.state,
        attempts: now.attempt,
        took: now.span.length(),
        reason: message.filter(|_| failure.is_none()).cloned(),
        failure,
    }
}

/// The failure in a step's message: the error word, then the cause.
fn failure(step: &Step) -> Option<Failure> {
    let (word, rest) = step.message.split_once(": ")?;
    Some(Failure::new(ErrorKind::parse(word)?, "", rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started_run() -> Progress {
        let steps = ["leave", "drain", "copy", "lock"].map(|name| StepName {
            name: name.to_owned(),
            kind: "http".to_owned(),
        });
        let kind = EventKind::RunStarted {
            run: "R1".to_owned(),
            purpose: Purpose::Farewell,
            machine: Machine::default(),
            trigger: Trigger::Reboot,
            started: UNIX_EPOCH + Duration::from_secs(1_000),
            budget: Duration::from_secs(90),
            reserve: Duration::ZERO,
            steps: steps.into_iter().collect(),
        };
        let at = Duration::ZERO;
        Progress::begin(&Event { at, kind }).expect("a start")
    }

    fn apply(progress: &mut Progress, millis: u64, kind: EventKind) {
        let at = Duration::from_millis(millis);
        progress.apply(&Event { at, kind });
    }

    fn finished(step: usize, state: State, attempts: u32, message: &str) -> EventKind {
        let failure = (!state.is_good())
            .then(|| Failure::new(ErrorKind::Unreachable, "http://x", "connection refused"));
        EventKind::StepFinished {
            step,
            state,
            attempts,
            took: Duration::from_millis(40),
            failure,
            reason: Some(message.to_owned()).filter(|it| !it.is_empty()),
        }
    }

    /// What matters of the steps, as a person reads it.
    fn told(progress: &Progress) -> Vec<String> {
        let line = |step: &StepProgress| {
            let waiting = step.waiting.as_deref().unwrap_or_default();
            let ending = crate::view::describe::ending(step);
            format!("{} {ending} {} [{waiting}]", step.name, step.attempts)
        };
        progress.steps.iter().map(line).collect()
    }

    #[test]
    fn what_was_seen_on_the_way_is_what_happened() {
        let left = Duration::from_secs(30);
        let begun = Instant::now();
        let mut run = started_run();
        let mut last = of(&run, begun);
        let mut watched = progress(&last, Duration::ZERO).expect("a run");
        let stations = [
            vec![EventKind::StepStarted { step: 0, left }],
            vec![
                EventKind::AttemptFailed {
                    step: 0,
                    attempt: 1,
                    failure: Failure::new(ErrorKind::TimedOut, "http://x", "after 2 s"),
                    again: Duration::from_millis(10),
                },
                EventKind::StepStarted { step: 1, left },
                EventKind::Waiting {
                    step: 1,
                    what: "3 sessions".to_owned(),
                },
            ],
            vec![
                finished(0, State::Failed, 2, ""),
                finished(1, State::Done, 1, "a remark"),
                // Begun and ended between two looks.
                EventKind::StepStarted { step: 2, left },
                finished(2, State::AlreadyDone, 1, ""),
                finished(3, State::Skipped, 0, "/opt/app does not exist"),
            ],
            vec![EventKind::RunFinished {
                result: Result::Failed,
                reason: None,
            }],
        ];
        for (station, happenings) in (1..).zip(stations) {
            let millis = station * 100;
            for kind in happenings {
                apply(&mut run, millis, kind);
            }
            let next = of(&run, begun);
            for event in events(Some(&last), &next, Duration::from_millis(millis)) {
                watched.apply(&event);
            }
            last = next;
            assert_eq!(told(&watched), told(&run), "at station {station}");
        }
        assert_eq!(watched.result, Some(Result::Failed));
        assert_eq!(watched.budget, run.budget);
        assert_eq!((&watched.run, watched.trigger), (&run.run, run.trigger));
        assert_eq!(watched.started, run.started);
        // Nothing happens twice.
        assert!(events(Some(&last), &last, Duration::from_secs(1)).is_empty());
        // Who comes late is told the same, but for when the steps began.
        let late = progress(&last, Duration::from_millis(400)).expect("a run");
        assert_eq!(told(&late), told(&run));
        assert!(late.steps.iter().all(|step| step.started.is_none()));
    }

    #[test]
    fn a_running_step_has_begun_when_it_began() {
        let mut run = started_run();
        let left = Duration::from_secs(30);
        apply(&mut run, 1_000, EventKind::StepStarted { step: 0, left });
        // The run began three seconds ago.
        let begun = Instant::now()
            .checked_sub(Duration::from_secs(3))
            .expect("the machine is up for longer");
        let late = progress(&of(&run, begun), Duration::from_secs(3)).expect("a run");
        let began = late.steps[0].started.expect("it has begun");
        assert!(
            began > Duration::from_millis(500) && began <= Duration::from_secs(1),
            "{began:?}"
        );
        assert_eq!(late.at, Duration::from_secs(3));
        // What is left of the budget, since the step's own limit is not known.
        let deadline = late.steps[0].deadline.expect("it has one");
        assert_eq!(deadline, Duration::from_secs(90));
    }

    #[test]
    fn a_message_holds_nothing_that_a_bus_or_a_terminal_would_choke_on() {
        let mut run = started_run();
        let what = "a\0b\x1b[2J".to_owned();
        apply(&mut run, 0, EventKind::Waiting { step: 0, what });
        let snapshot = of(&run, Instant::now());
        assert_eq!(snapshot.steps[0].message, "a\\x00b\\x1b[2J");
    }
}
