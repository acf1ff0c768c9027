//! `balancer = "consul"`, by a real agent.

use farewell::model::error::ErrorKind;
use farewell::step::{Outcome, StepSpec};

use super::{TIME, intents, undo};
use crate::support::binary::{Binary, wait_until};
use crate::support::consul::Consul;
use crate::support::{Run, manual, network, step};

fn keys(url: &str, rest: &str) -> String {
    format!("kind = \"drain\"\nbalancer = \"consul\"\nservice = \"web-1\"\nurl = {url:?}\n{rest}")
}

fn leave(url: &str) -> StepSpec {
    step(&keys(url, ""))
}

/// How many instances of web clients find.
fn found(consul: &Consul) -> usize {
    let (status, text) = consul.ask("GET /v1/health/service/web?passing", "");
    assert_eq!(status, 200, "{text}");
    let entries: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    entries.as_array().expect("a list").len()
}

fn maintain(consul: &Consul, enable: bool, reason: &str) {
    let path = format!("/v1/agent/service/maintenance/web-1?enable={enable}&reason={reason}");
    assert_eq!(consul.ask(&format!("PUT {path}"), "").0, 200);
}

#[test]
#[ignore = "needs Consul; tests/run has it"]
fn a_service_is_found_no_more_and_found_again_after_the_undo() {
    let consul = Consul::start("drain-consul");
    consul.register("web-1", "web");
    consul.register("web-2", "web");
    let run = Run::new();
    let said = run.rehearse(&leave(&consul.url), TIME).expect("ready");
    let is = "service web-1 (web): passing, not in maintenance";
    assert!(said.starts_with(is), "{said}");
    assert_eq!(run.attempt(&leave(&consul.url), TIME), Ok(Outcome::Done));
    assert_eq!(found(&consul), 1);
    let again = run.attempt(&leave(&consul.url), TIME);
    assert_eq!(again, Ok(Outcome::AlreadyDone));
    let left = intents(&run);
    assert_eq!(left.len(), 1);
    assert_eq!(run.attempt(&undo(&left), TIME), Ok(Outcome::Done));
    wait_until("clients find both again", || found(&consul) == 2);
    assert_eq!(run.attempt(&undo(&left), TIME), Ok(Outcome::AlreadyDone));
}

#[test]
#[ignore = "needs Consul; tests/run has it"]
fn maintenance_of_somebody_else_stays() {
    let consul = Consul::start("drain-consul-others");
    consul.register("web-1", "web");
    maintain(&consul, true, "by-hand");
    let run = Run::new();
    let ended = run.attempt(&leave(&consul.url), TIME);
    assert_eq!(ended, Ok(Outcome::AlreadyDone));
    assert!(intents(&run).is_empty());
    maintain(&consul, false, "");
    assert_eq!(run.attempt(&leave(&consul.url), TIME), Ok(Outcome::Done));
    maintain(&consul, false, "");
    maintain(&consul, true, "by-hand");
    let undone = run.attempt(&undo(&intents(&run)), TIME);
    assert_eq!(undone, Ok(Outcome::AlreadyDone));
    assert_eq!(found(&consul), 0);
    assert!(run.remarks()[0].contains("somebody else"));
}

#[test]
#[ignore = "needs Consul; tests/run has it"]
fn who_may_not_and_who_is_not_known_is_refused_at_once() {
    let consul = Consul::start_with_acls("drain-consul-acls");
    consul.register("web-1", "web");
    consul.token(
        "5ec0e7aa-0000-4000-8000-00000000000a",
        "service_prefix \"\" { policy = \"read\" }",
    );
    let token = "headers = { X-Consul-Token = \"5ec0e7aa-0000-4000-8000-00000000000a\" }";
    let reader = crate::support::step_with_warnings(&keys(&consul.url, token));
    let run = Run::new();
    let failure = run.attempt(&reader, TIME).expect_err("refused");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Refused, false)
    );
    assert_eq!(run.recorder.withdrawn().len(), 1);
    let unknown = keys(&consul.url, token).replace("web-1", "web-9");
    let unknown = crate::support::step_with_warnings(&unknown);
    let failure = run.attempt(&unknown, TIME).expect_err("unknown");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Refused, false)
    );
    assert_eq!(found(&consul), 1);
}

#[test]
#[ignore = "needs Consul; tests/run has it"]
fn the_manual_s_example_works_as_it_stands() {
    network::own();
    let consul = Consul::start_at("drain-consul-manual", 8500, true);
    consul.token(
        "5ec0e7aa-0000-4000-8000-00000000000b",
        "service \"web\" { policy = \"write\" } node_prefix \"\" { policy = \"read\" }",
    );
    let hostname = farewell::sys::host::hostname().expect("a name");
    consul.register(&format!("web-{hostname}"), "web");
    let binary = Binary::new("drain-consul-run", &manual::example("drain-consul"));
    binary
        .dir
        .credential("consul-token", "5ec0e7aa-0000-4000-8000-00000000000b");
    let verb = |verb: &[&str]| {
        let mut command = binary.command(verb);
        command.env("CREDENTIALS_DIRECTORY", &binary.dir.0);
        let output = command.output().expect("it starts");
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code().expect("a code"), told)
    };
    let (code, told) = verb(&["run"]);
    assert_eq!(code, 0, "{told}");
    assert_eq!(found(&consul), 0);
    let (code, told) = verb(&["start", "--undo-only"]);
    assert_eq!(code, 0, "{told}");
    assert_eq!(found(&consul), 1);
}
