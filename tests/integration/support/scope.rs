//! Steps of one kind, each attempted once.

use std::time::{Duration, Instant};

use farewell::model::error::Failure;
use farewell::step::{AttemptContext, Outcome, StepSpec};
use farewell::sys::cancel::Cancel;
use farewell::sys::probe;

use super::recorder::Recorder;
use super::{Run, read};

/// What a busy machine may add to a timeout.
const SLACK: Duration = Duration::from_secs(30);

fn keys_of(kind: &str, keys: &str) -> String {
    probe::use_program(env!("CARGO_BIN_EXE_farewell"));
    format!("kind = {kind:?}\n{keys}")
}

/// The problems of a step's keys.
pub fn problems(kind: &str, keys: &str) -> Vec<String> {
    read(&keys_of(kind, keys)).1
}

/// A step of this kind with these keys.
pub fn step(kind: &str, keys: &str) -> StepSpec {
    super::step(&keys_of(kind, keys))
}

/// One attempt, what it reported, and how long it took.
pub struct Attempt {
    pub result: Result<Outcome, Failure>,
    pub recorder: Recorder,
    pub took: Duration,
}

impl Attempt {
    /// The machine word and the whole message of its failure.
    pub fn failure(&self) -> (&'static str, String) {
        let failure = self.result.as_ref().expect_err("a failure");
        (failure.kind.as_str(), failure.to_string())
    }
}

/// Attempts a step that may take `timeout`, and fails the test when it takes half a minute longer.
pub fn attempt(kind: &str, keys: &str, timeout: Duration) -> Attempt {
    let cancel = Cancel::new().expect("a switch");
    attempt_with(kind, keys, timeout, timeout, &cancel)
}

/// The same, with a limit of each look and a switch.
pub fn attempt_with(
    kind: &str,
    keys: &str,
    timeout: Duration,
    attempt_timeout: Duration,
    cancel: &Cancel,
) -> Attempt {
    let run = Run::new();
    let (result, took) = attempt_in(&run, kind, keys, (timeout, attempt_timeout), cancel);
    Attempt {
        result,
        recorder: run.recorder,
        took,
    }
}

/// The same, for a test that looks at what is reported meanwhile: the result and how long it took.
pub fn attempt_in(
    run: &Run,
    kind: &str,
    keys: &str,
    (timeout, attempt_timeout): (Duration, Duration),
    cancel: &Cancel,
) -> (Result<Outcome, Failure>, Duration) {
    let step = step(kind, keys);
    let begun = Instant::now();
    let result = step.action.attempt(&AttemptContext {
        attempt_timeout,
        cancel,
        ..run.context(timeout)
    });
    let took = begun.elapsed();
    assert!(took < timeout + SLACK, "took {took:?}");
    (result, took)
}

/// What a rehearsal of a step says, or its failure.
pub fn rehearse(kind: &str, keys: &str) -> Result<String, String> {
    rehearse_with_warnings(kind, keys).0
}

/// The same, with what it warns of.
pub fn rehearse_with_warnings(kind: &str, keys: &str) -> (Result<String, String>, Vec<String>) {
    let run = Run::new();
    let said = run.rehearse(&step(kind, keys), Duration::from_secs(60));
    (said.map_err(|failure| failure.to_string()), run.remarks())
}
