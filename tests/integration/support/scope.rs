//! Steps from a snippet of TOML, attempted with a real scope.

use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use farewell::config::document;
use farewell::config::facts::Facts;
use farewell::config::section::{Reading, Section};
use farewell::model::deadline::{Deadline, Reason};
use farewell::model::error::Failure;
use farewell::model::event::Stream;
use farewell::model::intent::{Intent, IntentId};
use farewell::model::trigger::Trigger;
use farewell::step::{Action, AttemptContext, Outcome, StepEvents};
use farewell::steps::KINDS;
use farewell::sys::cancel::Cancel;
use farewell::sys::{http, probe};

/// The door to HTTP, which none of these steps opens.
fn http() -> http::Http {
    http::Http::new()
}

/// What a step told.
#[derive(Default)]
pub struct Told {
    pub waiting: Mutex<Vec<String>>,
    pub output: Mutex<Vec<(Stream, String)>>,
    pub remarks: Mutex<Vec<String>>,
    pub intents: Mutex<Vec<Intent>>,
    pub withdrawn: Mutex<Vec<IntentId>>,
}

impl StepEvents for Told {
    fn waiting(&self, what: &str) {
        self.waiting.lock().expect("no panic").push(what.to_owned());
    }
    fn output(&self, stream: Stream, line: &str) {
        let line = (stream, line.to_owned());
        self.output.lock().expect("no panic").push(line);
    }
    fn remark(&self, remark: &str) {
        let remark = remark.to_owned();
        self.remarks.lock().expect("no panic").push(remark);
    }

    fn intend(&self, intent: &Intent) -> IntentId {
        let mut intents = self.intents.lock().expect("no panic");
        intents.push(intent.clone());
        IntentId {
            step: 0,
            number: u32::try_from(intents.len() - 1).expect("few"),
        }
    }

    fn withdraw(&self, mark: IntentId) {
        self.withdrawn.lock().expect("no panic").push(mark);
    }
}

impl Told {
    pub fn lines(&self) -> Vec<String> {
        let output = self.output.lock().expect("no panic");
        output.iter().map(|(_, line)| line.clone()).collect()
    }
    pub fn text(&self) -> String {
        self.lines().join("\n")
    }
    pub fn remark(&self) -> String {
        self.remarks.lock().expect("no panic").join("\n")
    }
    pub fn waits(&self) -> Vec<String> {
        self.waiting.lock().expect("no panic").clone()
    }
}

/// The problems of a step's keys.
pub fn problems(kind: &str, keys: &str) -> Vec<String> {
    read(kind, keys).err().unwrap_or_default()
}

/// A step of this kind with these keys.
pub fn action(kind: &str, keys: &str) -> Box<dyn Action> {
    read(kind, keys).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn read(kind: &str, keys: &str) -> Result<Box<dyn Action>, Vec<String>> {
    probe::use_program(env!("CARGO_BIN_EXE_farewell"));
    let document::Document { table, errors, .. } = document::parse(keys);
    assert!(errors.is_empty(), "{errors:?}");
    let reading = Reading::new(Path::new("test.toml"), None, None);
    let kind = KINDS.iter().find(|it| it.name == kind).expect("a kind");
    let spec = (kind.read)(&Section::new(&reading, &table, 1));
    let (problems, _) = reading.finish();
    match spec {
        Some(spec) if problems.is_empty() => Ok(spec.action),
        _ => Err(problems.iter().map(ToString::to_string).collect()),
    }
}

/// One attempt, what it told, and what it took.
pub struct Attempt {
    pub result: Result<Outcome, Failure>,
    pub told: Told,
    pub took: Duration,
}

impl Attempt {
    /// The machine word and the whole message of its failure.
    pub fn failure(&self) -> (&'static str, String) {
        let failure = self.result.as_ref().expect_err("a failure");
        (failure.kind.as_str(), failure.to_string())
    }
}

/// What a busy machine may add to a timeout.
const SLACK: Duration = Duration::from_secs(30);

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
    let told = Told::default();
    let (result, took) = attempt_into(&told, kind, keys, (timeout, attempt_timeout), cancel);
    Attempt { result, told, took }
}

/// The same, for a test that looks at what is told meanwhile: the result and what it took.
pub fn attempt_into(
    told: &Told,
    kind: &str,
    keys: &str,
    (timeout, attempt_timeout): (Duration, Duration),
    cancel: &Cancel,
) -> (Result<Outcome, Failure>, Duration) {
    let (action, http) = (action(kind, keys), http());
    let facts = Facts::new(Trigger::Stop, "test");
    let begun = Instant::now();
    let context = AttemptContext {
        deadline: Deadline::after(timeout, Reason::Timeout),
        attempt_timeout,
        cancel,
        facts: &facts,
        http: &http,
        events: told,
        needed: &[],
    };
    let result = action.attempt(&context);
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
    let (action, told, http) = (action(kind, keys), Told::default(), http());
    let (facts, cancel) = (
        Facts::new(Trigger::Stop, "test"),
        Cancel::new().expect("a switch"),
    );
    let limit = Duration::from_secs(60);
    let context = AttemptContext {
        deadline: Deadline::after(limit, Reason::Timeout),
        attempt_timeout: limit,
        cancel: &cancel,
        needed: &[],
        facts: &facts,
        http: &http,
        events: &told,
    };
    let said = action.rehearse(&context);
    let warnings = told.remarks.into_inner().expect("no panic");
    (said.map_err(|failure| failure.to_string()), warnings)
}
