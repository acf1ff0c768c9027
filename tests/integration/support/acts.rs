//! Runs of actions that are made of functions, and what is heard of them.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use farewell::config::facts::Facts;
use farewell::config::fragments::Source;
use farewell::model::error::{ErrorKind, Failure};
use farewell::model::event::{EventKind, Purpose, State};
use farewell::model::machine::Machine;
use farewell::model::trigger::Trigger;
use farewell::plan::load::{LoadedConfig, Plan};
use farewell::run::context::{EventSink, RunContext};
use farewell::run::panics::catch_panics;
use farewell::run::runner::{Control, RunOutcome, Runner};
use farewell::step::{Action, AttemptContext, Outcome};
use farewell::sys::http::Http;

/// Keeps everything that it hears.
#[derive(Default)]
pub struct Ear(pub Mutex<Vec<EventKind>>);

impl EventSink for Ear {
    fn emit(&self, kind: EventKind) {
        self.0.lock().expect("no panic").push(kind);
    }
}

pub struct End {
    pub state: State,
    pub attempts: u32,
    pub kind: Option<ErrorKind>,
    pub message: String,
}

impl Ear {
    pub fn end(&self, step: usize) -> End {
        let heard = self.0.lock().expect("no panic");
        let ends: Vec<_> = heard
            .iter()
            .filter_map(|kind| match kind {
                EventKind::StepFinished {
                    step: it,
                    state,
                    attempts,
                    failure,
                    reason,
                    ..
                } if *it == step => {
                    let message = failure.as_ref().map(ToString::to_string).or(reason.clone());
                    let kind = failure.as_ref().map(|failure| failure.kind);
                    Some(End {
                        state: *state,
                        attempts: *attempts,
                        kind,
                        message: message.unwrap_or_default(),
                    })
                }
                _ => None,
            })
            .collect();
        assert_eq!(ends.len(), 1, "step {step} ends once: {heard:?}");
        ends.into_iter().next().expect("one")
    }

    pub fn started(&self, step: usize) -> bool {
        let heard = self.0.lock().expect("no panic");
        heard
            .iter()
            .any(|kind| matches!(kind, EventKind::StepStarted { step: it, .. } if *it == step))
    }
}

/// An action made of a function.
struct Act<F>(F);

impl<F: Fn(&AttemptContext<'_>) -> Result<Outcome, Failure> + Send + Sync> Action for Act<F> {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        (self.0)(context)
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        (self.0)(context).map(|effect| format!("{effect:?}"))
    }
}

pub fn act(
    act: impl Fn(&AttemptContext<'_>) -> Result<Outcome, Failure> + Send + Sync + 'static,
) -> Arc<dyn Action> {
    Arc::new(Act(act))
}

/// A plan from TOML, whose steps do what `actions` do, in the plan's order. In the text every step is a `command`, or
/// whatever else has the pace that the test wants.
pub fn plan(name: &str, toml: &str, actions: Vec<Arc<dyn Action>>) -> Plan {
    let path = std::env::temp_dir().join(format!(
        "farewell-runner-{}-{name}.toml",
        std::process::id()
    ));
    std::fs::write(&path, toml).expect("written");
    let facts = Facts::new(Trigger::Stop, "test");
    let loaded = LoadedConfig::through(&Source::File(path.clone()), Some(&facts));
    std::fs::remove_file(&path).expect("removed");
    let mut plan = loaded
        .plan
        .unwrap_or_else(|| panic!("{:?}", loaded.problems));
    assert_eq!(plan.steps.len(), actions.len());
    for (step, action) in plan.steps.iter_mut().zip(actions) {
        step.action = action;
    }
    plan
}

pub fn run(plan: Plan) -> (RunOutcome, Arc<Ear>, Duration) {
    run_with(plan, |_| {})
}

pub fn run_with(plan: Plan, meanwhile: impl FnOnce(Control)) -> (RunOutcome, Arc<Ear>, Duration) {
    catch_panics();
    let begun = Instant::now();
    let ear = Arc::new(Ear::default());
    let facts = Facts::new(Trigger::Stop, "test");
    let trigger = Trigger::Stop;
    let run = RunContext {
        id: "test".to_owned(),
        purpose: Purpose::Farewell,
        machine: Machine::default(),
        started: SystemTime::now(),
        plan,
        trigger,
        begun,
        facts,
        http: Http::default(),
        sink: ear.clone(),
    };
    let runner = Runner::default();
    meanwhile(runner.control());
    let outcome = runner.run(&Arc::new(run), Vec::new());
    (outcome, ear, begun.elapsed())
}

pub fn step(name: &str, more: &str) -> String {
    format!(
        "[[step]]\nname = \"{name}\"\nkind = \"deregister\"\nregistry = \"file\"\npath = \"/x\"\n{more}\n"
    )
}

pub fn done() -> Arc<dyn Action> {
    act(|_| Ok(Outcome::Done))
}

/// Sleeps without looking at its deadline or at the switch, as a call that nothing can interrupt does.
pub fn deaf(time: Duration) -> Arc<dyn Action> {
    act(move |_| {
        thread::sleep(time);
        Ok(Outcome::Done)
    })
}
