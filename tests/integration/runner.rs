//! The runner against actions that misbehave: they panic, hang, fail and recover.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::acts::{act, deaf, done, plan, run, run_with, step};
use farewell::config::document;
use farewell::config::facts::Facts;
use farewell::config::section::{Reading, Secrecy, Section};
use farewell::model::error::{ErrorKind, Failure};
use farewell::model::event::{Result as RunResult, State};
use farewell::model::trigger::Trigger;
use farewell::run::panics::catch_panics;
use farewell::run::rehearsal::{Answer, Verdict, rehearse};
use farewell::step::{Action, Outcome};
use farewell::sys::http::Http;

#[test]
fn a_panic_costs_the_other_steps_nothing() {
    let toml = step("a", "") + &step("b", "");
    let (outcome, ear, _) = run(plan("panic", &toml, vec![act(|_| panic!("ouch")), done()]));
    assert_eq!(outcome.result, RunResult::Failed);
    let end = ear.end(0);
    assert_eq!(
        (end.state, end.kind),
        (State::Failed, Some(ErrorKind::Panic))
    );
    assert!(
        end.message.contains("ouch") && end.message.contains("runner.rs"),
        "{}",
        end.message
    );
    assert_eq!(ear.end(1).state, State::Done);
}

#[test]
fn a_rehearsal_outlives_a_panic_and_a_probe_that_is_deaf_to_its_deadline() {
    catch_panics();
    let names = ["panics", "deaf", "remarks"];
    let toml: String = names
        .iter()
        .map(|name| step(name, "attempt-timeout = \"100ms\""))
        .collect();
    let remarks = act(|context| {
        context.events.remark("once more");
        context.events.warn("look there");
        Ok(Outcome::Done)
    });
    let deaf = deaf(Duration::from_secs(3600));
    let actions = vec![act(|_| panic!("ouch")), deaf, remarks];
    let plan = Arc::new(plan("rehearsal", &toml, actions));
    let facts = Arc::new(Facts::new(Trigger::Stop, "test"));
    let mut told = Vec::new();
    let answers = rehearse(&plan, &facts, Http::default(), |index, answer| {
        told.push((index, answer.to_vec()));
    });
    let answers = answers.expect("descriptors");
    let expected: Vec<(usize, Vec<Verdict>)> = answers.iter().cloned().enumerate().collect();
    assert_eq!(told, expected);
    let answer = |verdicts: Vec<Verdict>| match verdicts.as_slice() {
        // Nobody asked for the trigger, so that one answer holds for all.
        [verdict] => verdict.answer.clone(),
        several => panic!("{several:?}"),
    };
    let answers: Vec<Answer> = answers.into_iter().map(answer).collect();
    let word = |answer: &Answer| match answer {
        Answer::Failed(failure) => Some(failure.kind),
        _ => None,
    };
    let words: Vec<Option<ErrorKind>> = answers.iter().map(word).collect();
    assert_eq!(
        words,
        [Some(ErrorKind::Panic), Some(ErrorKind::TimedOut), None]
    );
    let ready = Answer::Ready {
        said: "Done; once more".to_owned(),
        warnings: vec!["look there".to_owned()],
    };
    assert_eq!(answers[2], ready);
}

#[test]
fn an_action_that_is_deaf_to_its_deadline_is_left_behind() {
    let toml = step("a", "timeout = \"200ms\"") + &step("b", "");
    let (outcome, ear, took) = run(plan(
        "deaf",
        &toml,
        vec![deaf(Duration::from_secs(60)), done()],
    ));
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert_eq!(outcome.result, RunResult::Failed);
    assert_eq!(
        (ear.end(0).state, ear.end(0).kind),
        (State::TimedOut, Some(ErrorKind::TimedOut))
    );
    assert_eq!(ear.end(1).state, State::Done);
}

fn failing(word: ErrorKind, times: u32) -> (Arc<dyn Action>, Arc<AtomicU32>) {
    let count = Arc::new(AtomicU32::new(0));
    let counted = count.clone();
    let action = act(move |_| {
        if counted.fetch_add(1, Ordering::Relaxed) < times {
            Err(Failure::new(word, "peer", "no"))
        } else {
            Ok(Outcome::Done)
        }
    });
    (action, count)
}

#[test]
fn what_can_pass_is_tried_again() {
    let (action, count) = failing(ErrorKind::Unreachable, 2);
    let (outcome, ear, took) = run(plan("again", &step("a", ""), vec![action]));
    assert_eq!(
        (outcome.result, ear.end(0).state, ear.end(0).attempts),
        (RunResult::Ok, State::Done, 3)
    );
    assert_eq!(count.load(Ordering::Relaxed), 3);
    assert!(
        took >= Duration::from_millis(150),
        "there are pauses: {took:?}"
    );
}

#[test]
fn what_will_not_pass_is_not() {
    let (action, count) = failing(ErrorKind::Refused, 2);
    let (outcome, ear, _) = run(plan("once", &step("a", ""), vec![action]));
    assert_eq!(
        (outcome.result, ear.end(0).state),
        (RunResult::Failed, State::Failed)
    );
    assert_eq!(
        (count.load(Ordering::Relaxed), ear.end(0).kind),
        (1, Some(ErrorKind::Refused))
    );
}

#[test]
fn attempts_are_bounded_by_their_number_and_by_the_timeout() {
    let (action, count) = failing(ErrorKind::Unreachable, u32::MAX);
    let (_, ear, _) = run(plan("two", &step("a", "attempts = 2"), vec![action]));
    assert_eq!((count.load(Ordering::Relaxed), ear.end(0).attempts), (2, 2));

    let (action, count) = failing(ErrorKind::Unreachable, u32::MAX);
    let (_, ear, took) = run(plan(
        "bounded",
        &step("a", "timeout = \"1s\""),
        vec![action],
    ));
    let attempts = count.load(Ordering::Relaxed);
    assert!((3..=12).contains(&attempts), "{attempts} attempts");
    assert!(took <= Duration::from_secs(30), "{took:?}");
    // Only its own timeout was reached, so it keeps the word of what went wrong.
    assert_eq!(
        (ear.end(0).state, ear.end(0).kind),
        (State::Failed, Some(ErrorKind::Unreachable))
    );
}

#[test]
fn each_attempt_has_its_own_deadline() {
    let toml = step(
        "a",
        "timeout = \"30s\"\nattempt-timeout = \"300ms\"\nattempts = 2",
    );
    let action = act(|context| {
        let left = context.deadline.left().expect("some");
        assert!(left <= Duration::from_millis(300), "{left:?}");
        Err(Failure::new(ErrorKind::TimedOut, "peer", "silent"))
    });
    let (_, ear, _) = run(plan("attempt", &toml, vec![action]));
    let end = ear.end(0);
    assert_eq!(
        (end.state, end.attempts, end.kind),
        (State::TimedOut, 2, Some(ErrorKind::TimedOut)),
        "{}",
        end.message
    );
}

#[test]
fn the_reserve_is_kept_when_an_earlier_step_eats_all_it_can() {
    let toml = "[farewell]\nbudget = \"2s\"\nreserve = \"1200ms\"\n".to_owned()
        + &step("glutton", "timeout = \"30s\"")
        + &step("late", "")
        + &step("notice", "always = true");
    let glutton = act(|context| {
        context.cancel.sleep_until(context.deadline);
        Err(Failure::new(ErrorKind::TimedOut, "glutton", "still hungry"))
    });
    let notice = act(|context| {
        let left = context.deadline.left().expect("the reserve");
        assert!(left > Duration::from_millis(300), "{left:?}");
        Ok(Outcome::Done)
    });
    let (outcome, ear, took) = run(plan("reserve", &toml, vec![glutton, done(), notice]));
    assert_eq!(outcome.result, RunResult::CutShort);
    assert_eq!(outcome.reason.as_deref(), Some("the budget of 2s is spent"));
    assert_eq!(ear.end(0).state, State::TimedOut);
    assert_eq!(ear.end(1).state, State::Cancelled);
    assert!(
        ear.end(1).message.contains("budget"),
        "{}",
        ear.end(1).message
    );
    assert_eq!(ear.end(2).state, State::Done, "{}", ear.end(2).message);
    assert!(took >= Duration::from_millis(750), "{took:?}");
}

#[test]
fn on_failure_stop_cancels_what_has_not_begun_except_always_steps() {
    let toml = step("a", "on-failure = \"stop\"")
        + &step("beside", "after = []")
        + &step("b", "after = [\"a\"]")
        + &step("notice", "always = true");
    let (action, _) = failing(ErrorKind::Refused, 1);
    let (outcome, ear, _) = run(plan(
        "on-failure",
        &toml,
        vec![action, done(), done(), done()],
    ));
    assert_eq!(outcome.result, RunResult::Failed);
    assert_eq!(ear.end(1).state, State::Done);
    assert_eq!(ear.end(2).state, State::Cancelled);
    assert!(
        !ear.started(2) && ear.end(2).message.contains("a failed"),
        "{}",
        ear.end(2).message
    );
    assert_eq!(ear.end(3).state, State::Done);
}

#[test]
fn a_stop_ends_what_runs_and_leaves_the_reserve_to_always_steps() {
    let toml = "[farewell]\nreserve = \"10s\"\n".to_owned()
        + &step("deaf", "timeout = \"30s\"")
        + &step("b", "")
        + &step("notice", "always = true");
    let plan = plan(
        "stop",
        &toml,
        vec![deaf(Duration::from_secs(60)), done(), done()],
    );
    let (outcome, ear, took) = run_with(plan, |control| {
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(200));
            control.stop();
        });
    });
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert_eq!(outcome.result, RunResult::CutShort);
    assert_eq!(
        (ear.end(0).state, ear.end(1).state, ear.end(2).state),
        (State::Cancelled, State::Cancelled, State::Done)
    );
}

#[test]
fn a_second_stop_ends_everything_at_once() {
    let toml = "[farewell]\nreserve = \"30s\"\n".to_owned()
        + &step("a", "always = true")
        + &step("b", "always = true");
    let plan = plan("twice", &toml, vec![deaf(Duration::from_secs(60)), done()]);
    let (outcome, ear, took) = run_with(plan, |control| {
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(100));
            control.stop();
            thread::sleep(Duration::from_millis(100));
            control.stop_at_once();
        });
    });
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert_eq!(outcome.result, RunResult::CutShort);
    assert_eq!(
        (ear.end(0).state, ear.end(1).state),
        (State::Cancelled, State::Cancelled)
    );
}

#[test]
fn a_run_that_was_told_to_stop_before_it_began_begins_nothing_but_always_steps() {
    let toml = "[farewell]\nreserve = \"5s\"\n".to_owned()
        + &step("a", "")
        + &step("notice", "always = true");
    let (first, begun) = failing(ErrorKind::Io, 0);
    let (outcome, ear, _) = run_with(plan("early", &toml, vec![first, done()]), |control| {
        control.stop()
    });
    assert_eq!(outcome.result, RunResult::CutShort);
    assert_eq!(ear.end(0).state, State::Cancelled);
    assert_eq!(begun.load(Ordering::Relaxed), 0, "it was begun");
    assert_eq!(ear.end(1).state, State::Done);
}

#[test]
fn a_run_that_was_told_to_end_at_once_before_it_began_begins_nothing() {
    let toml = "[farewell]\nreserve = \"5s\"\n".to_owned()
        + &step("a", "")
        + &step("notice", "always = true");
    let ((a, a_begun), (notice, notice_begun)) =
        (failing(ErrorKind::Io, 0), failing(ErrorKind::Io, 0));
    let (outcome, ear, _) = run_with(plan("at-once", &toml, vec![a, notice]), |control| {
        control.stop();
        control.stop_at_once();
    });
    assert_eq!(outcome.result, RunResult::CutShort);
    for (index, begun) in [a_begun, notice_begun].iter().enumerate() {
        assert_eq!(ear.end(index).state, State::Cancelled);
        assert_eq!(begun.load(Ordering::Relaxed), 0, "{index} was begun");
    }
}

#[test]
fn a_panic_in_a_condition_costs_the_other_steps_nothing() {
    let document = document::parse("if-path = \"/\"");
    let reading = Reading::new(Path::new("test.toml"), None, None);
    let section = Section::new(&reading, &document.table, 1);
    let mut plan = plan(
        "condition",
        &(step("a", "") + &step("b", "")),
        vec![done(), done()],
    );
    // It is parsed when it is read, and again at the run.
    static PARSED: AtomicU32 = AtomicU32::new(0);
    let parse = |text: &str| match PARSED.fetch_add(1, Ordering::Relaxed) {
        0 => Ok(PathBuf::from(text)),
        _ => panic!("ouch"),
    };
    plan.steps[0].if_path = section.text("if-path", parse, Secrecy::Public);
    assert!(plan.steps[0].if_path.is_some());
    let (outcome, ear, _) = run(plan);
    assert_eq!(outcome.result, RunResult::Failed);
    let end = ear.end(0);
    assert_eq!(
        (end.state, end.kind),
        (State::Failed, Some(ErrorKind::Panic))
    );
    assert_eq!(ear.end(1).state, State::Done);
}
