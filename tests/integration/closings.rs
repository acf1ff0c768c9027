//! What a step holds is renewed while the others run, and given back as the run's last act, whatever becomes of the run.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::acts::{act, deaf, done, plan, run, run_with, step};
use farewell::model::error::{ErrorKind, Failure};
use farewell::model::event::{EventKind, Result as RunResult, State};
use farewell::plan::load::Plan;
use farewell::run::runner::Control;
use farewell::step::{Action, Held, Outcome};

/// What was done, in order.
type Story = Arc<Mutex<Vec<&'static str>>>;

fn tells(story: &Story, what: &'static str) -> Arc<dyn Action> {
    let story = story.clone();
    act(move |_| {
        story.lock().expect("no panic").push(what);
        Ok(Outcome::Done)
    })
}

/// A plan whose first step holds what its last one gives back.
fn holding(
    name: &str,
    head: &str,
    actions: Vec<Arc<dyn Action>>,
    renewal: Option<(Duration, Arc<dyn Action>)>,
) -> Plan {
    let last = actions.len() - 1;
    let steps = (0..=last).map(|it| {
        step(
            &format!("s{it}"),
            if it == last { "always = true" } else { "" },
        )
    });
    let toml = head.to_owned() + &steps.collect::<String>();
    let mut plan = plan(name, &toml, actions);
    let release = plan.steps[last].action.clone();
    plan.steps[0].held = Some(Held { renewal, release });
    plan.steps[last].is_release = true;
    plan
}

/// Tells the run to stop, once or twice, when `begun` says that it has come so far.
fn stops(control: Control, begun: Arc<AtomicU32>, twice: bool) {
    thread::spawn(move || {
        while begun.load(Ordering::SeqCst) == 0 {
            thread::sleep(Duration::from_millis(5));
        }
        control.stop();
        if twice {
            control.stop_at_once();
        }
    });
}

fn begins(begun: &Arc<AtomicU32>, then: Arc<dyn Action>) -> Arc<dyn Action> {
    let begun = begun.clone();
    act(move |scope| {
        begun.store(1, Ordering::SeqCst);
        then.attempt(scope)
    })
}

#[test]
fn what_is_held_is_renewed_until_it_is_given_back() {
    let story = Story::default();
    let renewals = Arc::new(AtomicU32::new(0));
    let (counted, until) = (renewals.clone(), renewals.clone());
    let renew = act(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        Ok(Outcome::Done)
    });
    // It ends when three renewals were seen, however slow the machine is.
    let work = act(move |_| {
        let end = Instant::now() + Duration::from_secs(60);
        while until.load(Ordering::SeqCst) < 3 && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
        Ok(Outcome::Done)
    });
    let actions = vec![tells(&story, "take"), work, tells(&story, "give back")];
    let renewal = Some((Duration::from_millis(20), renew));
    let (outcome, ear, _) = run(holding("renewed", "", actions, renewal));
    assert_eq!(outcome.result, RunResult::Ok);
    assert_eq!(*story.lock().expect("no panic"), ["take", "give back"]);
    let seen = renewals.load(Ordering::SeqCst);
    assert!(seen >= 3, "{seen}");
    assert_eq!(ear.end(2).state, State::Done);
    // Nothing is renewed any more that was given back.
    thread::sleep(Duration::from_millis(200));
    assert!(renewals.load(Ordering::SeqCst) <= seen + 1);
}

#[test]
fn a_renewal_that_fails_is_told_and_made_again_also_after_a_refusal() {
    for (name, retryable) in [("passing", true), ("lost", false)] {
        let renewals = Arc::new(AtomicU32::new(0));
        let counted = renewals.clone();
        let renew = act(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            Err(Failure::new(ErrorKind::Refused, "the lease", "is gone").retryable(retryable))
        });
        let seen = renewals.clone();
        let work = act(move |_| {
            let end = Instant::now() + Duration::from_secs(60);
            while seen.load(Ordering::SeqCst) < 3 && Instant::now() < end {
                thread::sleep(Duration::from_millis(5));
            }
            thread::sleep(Duration::from_millis(100));
            Ok(Outcome::Done)
        });
        let renewal = Some((Duration::from_millis(10), renew));
        let (outcome, ear, _) = run(holding(name, "", vec![done(), work, done()], renewal));
        assert_eq!(outcome.result, RunResult::Ok, "{name}");
        let heard = ear.0.lock().expect("no panic");
        let warnings: Vec<_> = heard
            .iter()
            .filter_map(|it| match it {
                EventKind::Warning { message } => Some(message.as_str()),
                _ => None,
            })
            .collect();
        let told = "s0: cannot renew what it holds: the lease: is gone";
        assert_eq!(warnings, [told], "{name}");
        let made = renewals.load(Ordering::SeqCst);
        assert!(made >= 3, "{name}: {made}");
    }
}

#[test]
fn a_failed_step_and_what_follows_from_it_still_give_back() {
    let story = Story::default();
    let fails = act(|_| Err(Failure::new(ErrorKind::Refused, "x", "no")));
    let mut plan = holding(
        "failed",
        "",
        vec![fails, tells(&story, "work"), tells(&story, "give back")],
        None,
    );
    plan.steps[0].on_failure = farewell::plan::step::OnFailure::Stop;
    let (outcome, ear, _) = run(plan);
    assert_eq!(outcome.result, RunResult::Failed);
    assert_eq!(ear.end(1).state, State::Cancelled);
    assert_eq!(*story.lock().expect("no panic"), ["give back"]);
}

#[test]
fn a_first_stop_gives_back_within_the_reserve() {
    let (story, begun) = (Story::default(), Arc::default());
    let work = begins(&begun, deaf(Duration::from_secs(60)));
    let plan = holding(
        "stopped",
        "[farewell]\nreserve = \"5s\"\n",
        vec![done(), work, tells(&story, "give back")],
        None,
    );
    let (outcome, ear, _) = run_with(plan, |control| stops(control, begun, false));
    assert_eq!(outcome.result, RunResult::CutShort);
    assert_eq!(
        (ear.end(1).state, ear.end(2).state),
        (State::Cancelled, State::Done)
    );
    assert_eq!(*story.lock().expect("no panic"), ["give back"]);
}

#[test]
fn a_second_stop_gives_back_once_and_waits_a_moment_for_it() {
    let (story, begun) = (Story::default(), Arc::default());
    let (told, work) = (story.clone(), begins(&begun, deaf(Duration::from_secs(60))));
    // It says what it does, and never comes back.
    let hangs = act(move |scope| {
        told.lock().expect("no panic").push("give back");
        assert!(!scope.cancel.is_cancelled(), "nothing cuts it short");
        thread::sleep(Duration::from_secs(60));
        Ok(Outcome::Done)
    });
    let plan = holding("twice", "", vec![done(), work, hangs], None);
    let (outcome, ear, took) = run_with(plan, |control| stops(control, begun, true));
    assert_eq!(outcome.result, RunResult::CutShort);
    assert_eq!(
        (ear.end(1).state, ear.end(2).state),
        (State::Cancelled, State::TimedOut)
    );
    assert_eq!(*story.lock().expect("no panic"), ["give back"]);
    assert!(took < Duration::from_secs(30), "{took:?}");
}

#[test]
fn a_budget_that_is_spent_still_has_a_moment_for_it() {
    let story = Story::default();
    let hangs = deaf(Duration::from_secs(60));
    let plan = holding(
        "spent",
        "[farewell]\nbudget = \"300ms\"\nreserve = \"0s\"\n",
        vec![done(), hangs, tells(&story, "give back")],
        None,
    );
    let (outcome, ear, _) = run(plan);
    assert_eq!(outcome.result, RunResult::CutShort);
    assert_eq!(ear.end(2).state, State::Done);
    assert_eq!(*story.lock().expect("no panic"), ["give back"]);
}
