//! `drain` by real balancers, under load, restarted, hanging and killed.

mod app;
mod balancer;
mod caddy;
mod caddy_load;
mod consul;
mod envoy;
mod file;
mod haproxy;
mod haproxy_dataplane;
mod load;
mod nginx;
mod nginx_file;
mod nginx_reload;
mod traefik;
mod traefik_file;
mod traefik_load;

use std::time::Duration;

use crate::support::Run;
use farewell::model::error::Failure;
use farewell::model::intent::{Chain, Intent};
use farewell::step::{Action, AttemptContext, AttemptPolicy, Outcome, StepSpec};

/// What anything may take that ends by itself, on the slowest machine.
const TIME: Duration = Duration::from_secs(120);

/// An action in the place of which an undo is put.
struct Nothing;

impl Action for Nothing {
    fn attempt(&self, _: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        Ok(Outcome::AlreadyDone)
    }

    fn rehearse(&self, _: &AttemptContext<'_>) -> Result<String, Failure> {
        Ok(String::new())
    }
}

/// The undo of what was intended, from what a record keeps of it.
fn undo(intents: &[Intent]) -> StepSpec {
    let kind = farewell::steps::drain::KIND;
    // As the record has it.
    let kept = |it: &Intent| {
        let text = serde_json::to_string(it).expect("JSON");
        serde_json::from_str(&text).expect("an intent")
    };
    let mut chain = Chain::new(kept(&intents[0]));
    intents[1..].iter().for_each(|it| chain.push(kept(it)));
    let action = kind.undo.expect("an undo")(&chain).expect("an action");
    StepSpec {
        action,
        ..StepSpec::new(Nothing, AttemptPolicy::Retried)
    }
}

/// What a run has declared.
fn intents(run: &Run) -> Vec<Intent> {
    run.recorder.intents()
}
