//! `deregister` from Nomad, by a stand-in for its agent.

use std::time::{Duration, Instant};

use crate::support::binary::{Binary, GENEROUS, Running, step_of, wait_until};
use crate::support::case::{Case, all_hold};
use crate::support::loopback::{Loopback, Reply};
use crate::support::nomad_stand_in::{Fault, NODE, NomadStandIn};
use crate::support::own_process::{in_own_process, this_test};
use crate::support::servers::{Manner, Server, dead_url};
use crate::support::{Run, manual, network, problems, read, step};
use farewell::model::error::ErrorKind;
use farewell::step::{Outcome, StepSpec};
use serde_json::json;

const TIME: Duration = Duration::from_secs(20);

const SYSTEM: (&str, &str) = ("logs.all[0]", "system");

fn keys(url: &str, rest: &str) -> String {
    format!("kind = \"deregister\"\nregistry = \"nomad\"\nurl = {url:?}\n{rest}")
}

fn leave(url: &str, rest: &str) -> StepSpec {
    step(&keys(url, rest))
}

fn binary(name: &str, url: &str, rest: &str) -> Binary {
    let keys = keys(url, rest);
    Binary::new(name, &format!("[[step]]\nname = \"leave\"\n{keys}\n"))
}

fn drains(nomad: &NomadStandIn) -> usize {
    let heard = nomad.heard();
    heard.iter().filter(|it| it.starts_with("PUT")).count()
}

#[test]
fn keys_are_checked() {
    let with = |rest: &str| problems(&keys("http://h:4646", rest));
    assert_eq!(with(""), "");
    assert_eq!(with("deadline = \"20s\"\nignore-system-jobs = false"), "");
    let long = with("deadline = \"30s\"");
    assert!(
        long.contains("must be shorter than the step's timeout, 30s"),
        "{long}"
    );
    assert!(!with("deadline = \"30s\"\ntimeout = \"50s\"").contains("must be shorter"));
    let twice = "token = \"s3cret-one\"\nheaders = { X-Nomad-Token = \"s3cret-two\" }";
    assert!(with(twice).contains("cannot both be sent"));
    assert!(with("token = \"s3cret-one\"").contains("cannot be undone after a reboot"));
}

#[test]
fn a_node_is_drained_until_nothing_runs_on_it() {
    let nomad = NomadStandIn::start();
    nomad.run(&[("web.a[0]", "service"), ("web.a[1]", "service"), SYSTEM]);
    let run = Run::new();
    let begun = Instant::now();
    assert_eq!(run.attempt(&leave(&nomad.url, ""), TIME), Ok(Outcome::Done));
    let took = begun.elapsed();
    assert_eq!(nomad.running(), ["logs.all[0]"]);
    assert!(!nomad.drains() && !nomad.is_eligible());
    let body = nomad.bodies().remove(0);
    let deadline = body["DrainSpec"]["Deadline"].as_i64().expect("a number");
    assert!(
        (10_000_000_000..=15_000_000_000).contains(&deadline),
        "of 20 s: {body}"
    );
    assert_eq!(body["DrainSpec"]["IgnoreSystemJobs"], true);
    let waiting = run.waiting();
    assert!(
        waiting[0].contains("2 allocations: web.a[0], web.a[1] on node n1"),
        "{waiting:?}"
    );
    let heard = nomad.heard();
    assert!(
        heard.iter().any(|it| it.contains("/allocations?index=")),
        "{heard:?}"
    );
    let most = 8 + 5 * took.as_millis() / 1000;
    assert!(heard.len() as u128 <= most, "{took:?}: {heard:?}");
    // Again, and by another one: nothing is left that could be drained.
    assert_eq!(
        run.attempt(&leave(&nomad.url, ""), TIME),
        Ok(Outcome::AlreadyDone)
    );
    assert_eq!(
        run.attempt(&leave(&nomad.url, ""), TIME),
        Ok(Outcome::AlreadyDone)
    );
    assert_eq!(drains(&nomad), 1);
    assert_eq!(run.recorder.intents().len(), 1);
}

#[test]
fn allocations_that_are_too_long_together_are_asked_for_in_short() {
    let nomad = NomadStandIn::start();
    nomad.be_bulky();
    nomad.run(&[("web.a[0]", "service"), ("web.a[1]", "service"), SYSTEM]);
    let run = Run::new();
    assert_eq!(run.attempt(&leave(&nomad.url, ""), TIME), Ok(Outcome::Done));
    assert_eq!(nomad.running(), ["logs.all[0]"]);
    assert!(run.waiting()[0].contains("2 allocations: web.a[0], web.a[1]"));
    assert_eq!(
        run.attempt(&leave(&nomad.url, ""), TIME),
        Ok(Outcome::AlreadyDone)
    );
}

#[test]
fn the_end_of_the_drain_is_not_the_end_of_what_runs() {
    let nomad = NomadStandIn::start();
    nomad.run(&[("web.a[0]", "service"), ("web.a[1]", "service")]);
    // Nothing moves: Nomad stops both at the deadline, and calls the drain complete before they have ended.
    nomad.set_pace(Duration::ZERO);
    let run = Run::new();
    let step = leave(&nomad.url, "deadline = \"700ms\"");
    assert_eq!(run.attempt(&step, TIME), Ok(Outcome::Done));
    assert!(nomad.running().is_empty(), "{:?}", nomad.running());
    assert_eq!(nomad.bodies()[0]["DrainSpec"]["Deadline"], 700_000_000);
}

#[test]
fn system_jobs_go_too_where_they_are_not_ignored_and_all_at_once_without_a_deadline() {
    let nomad = NomadStandIn::start();
    nomad.run(&[("web.a[0]", "service"), SYSTEM]);
    let keys = "deadline = \"0s\"\nignore-system-jobs = false";
    assert_eq!(
        Run::new().attempt(&leave(&nomad.url, keys), TIME),
        Ok(Outcome::Done)
    );
    assert!(nomad.running().is_empty());
    let spec = nomad.bodies()[0]["DrainSpec"].clone();
    assert_eq!(spec, json!({"Deadline": -1, "IgnoreSystemJobs": false}));
}

#[test]
fn a_deadline_is_shortened_where_the_budget_is_short() {
    let nomad = NomadStandIn::start();
    nomad.run(&[("web.a[0]", "service")]);
    nomad.set_pace(Duration::ZERO);
    let run = Run::new();
    let step = leave(&nomad.url, "deadline = \"20s\"");
    assert_eq!(
        run.attempt(&step, Duration::from_secs(6)),
        Ok(Outcome::Done)
    );
    let deadline = nomad.bodies()[0]["DrainSpec"]["Deadline"].as_i64();
    assert!(deadline <= Some(4_500_000_000), "{deadline:?}");
    assert!(
        run.remarks()[0].contains("shortened"),
        "{:?}",
        run.remarks()
    );
}

#[test]
fn a_drain_of_somebody_else_is_waited_for_and_left_as_it_is() {
    let nomad = NomadStandIn::start();
    nomad.run(&[("web.a[0]", "service"), ("web.a[1]", "service")]);
    nomad.drain_by_hand();
    let run = Run::new();
    assert_eq!(run.attempt(&leave(&nomad.url, ""), TIME), Ok(Outcome::Done));
    assert!(nomad.running().is_empty());
    assert_eq!(drains(&nomad), 0);
    assert!(run.recorder.intents().is_empty());
    assert!(
        run.remarks()[0].contains("somebody else"),
        "{:?}",
        run.remarks()
    );
}

#[test]
fn a_drain_that_somebody_ends_is_told_at_once() {
    let nomad = NomadStandIn::start();
    nomad.run(&[("web.a[0]", "service")]);
    nomad.set_pace(Duration::from_secs(3600));
    let binary = binary("nomad-ended", &nomad.url, "timeout = \"50s\"");
    let run = binary.start(&["run"]);
    wait_until("it drains", || nomad.drains());
    nomad.undrain_by_hand();
    assert_eq!(run.end(GENEROUS).code, 1);
    let report = binary.report();
    let step = step_of(&report, "leave");
    assert_eq!(
        (&step["error"]["word"], &step["attempts"]),
        (&"refused".into(), &1.into()),
        "{report:#}"
    );
    assert_eq!(nomad.running().len(), 1);
}

#[test]
fn who_may_not_is_refused_and_leaves_nothing_pending() {
    let nomad = NomadStandIn::start_at(0, Some("s3cret-nomad-token"));
    nomad.run(&[("web.a[0]", "service")]);
    let run = Run::new();
    for token in ["", "token = \"s3cret-wrong\""] {
        // A token that stands there is warned of.
        let step = read(&keys(&nomad.url, token)).0.expect("a step");
        for failure in [
            run.attempt(&step, TIME).map(drop),
            run.rehearse(&step, TIME).map(drop),
        ] {
            let failure = failure.expect_err("refused");
            assert_eq!(
                (failure.kind, failure.retryable),
                (ErrorKind::Refused, false),
                "{failure}"
            );
            assert!(!failure.to_string().contains("s3cret"), "{failure}");
        }
    }
    // It may look, and not drain.
    nomad.set_fault(Fault::Forbidding);
    let binary = binary(
        "nomad-refused",
        &nomad.url,
        "token = \"s3cret-nomad-token\"",
    );
    let run = binary.verb(&["run"]);
    let report = binary.report();
    let step = step_of(&report, "leave");
    assert_eq!(
        (run.code, &step["error"]["word"]),
        (1, &"refused".into()),
        "{report:#}"
    );
    assert_eq!(step["attempts"], 1, "{report:#}");
    let undo = binary.verb(&["start", "--undo-only"]);
    assert_eq!(
        (undo.code, undo.stdout.contains("pending")),
        (0, false),
        "{}",
        undo.stdout
    );
    let said = format!("{}{}{report}", run.stdout, run.stderr);
    assert!(!said.contains("s3cret"), "{said}");
}

#[test]
fn a_drain_is_undone_after_the_boot_and_once() {
    let nomad = NomadStandIn::start();
    nomad.run(&[("web.a[0]", "service")]);
    let binary = binary("nomad-undo", &nomad.url, "");
    let run = binary.verb(&["run"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(
        run.stdout.contains("leaves the drain of node n1"),
        "{}",
        run.stdout
    );
    assert!(!nomad.is_eligible());
    let undo = binary.verb(&["start", "--undo-only"]);
    assert_eq!(undo.code, 0, "{}{}", undo.stdout, undo.stderr);
    assert!(nomad.is_eligible());
    let bodies = nomad.bodies();
    assert_eq!(bodies[1], json!({"DrainSpec": null, "MarkEligible": true}));
    let asked = nomad.heard().len();
    assert_eq!(binary.verb(&["start", "--undo-only"]).code, 0);
    assert_eq!(nomad.heard().len(), asked, "nothing is pending any more");
}

#[test]
fn a_run_that_is_killed_before_the_reply_is_undone() {
    let nomad = NomadStandIn::start();
    nomad.run(&[("web.a[0]", "service")]);
    nomad.set_pace(Duration::ZERO);
    nomad.set_fault(Fault::SilentAfterDrain);
    let binary = binary("nomad-killed", &nomad.url, "timeout = \"50s\"");
    let run = Running::spawn(&mut binary.command(&["run"]));
    wait_until("it drains", || nomad.drains());
    run.signal(nix::sys::signal::Signal::SIGKILL);
    assert_eq!(run.end(GENEROUS).code, -9);
    nomad.set_fault(Fault::None);
    assert_eq!(binary.verb(&["start", "--undo-only"]).code, 0);
    assert!(nomad.is_eligible());
    assert_eq!(nomad.running().len(), 1);
}

#[test]
fn an_undo_leaves_what_others_have_left() {
    // An operator made it ineligible before, and drained it after.
    let nomad = NomadStandIn::start();
    nomad.run(&[("web.a[0]", "service")]);
    nomad.set_eligible(false);
    let before = binary("nomad-others-before", &nomad.url, "");
    assert_eq!(before.verb(&["run"]).code, 0);
    let undo = before.verb(&["start", "--undo-only"]);
    assert_eq!(undo.code, 0, "{}", undo.stdout);
    assert!(!nomad.is_eligible());
    assert_eq!(drains(&nomad), 1, "it is as it was");

    nomad.set_eligible(true);
    nomad.run(&[("web.a[0]", "service")]);
    let after = binary("nomad-others-after", &nomad.url, "");
    assert_eq!(after.verb(&["run"]).code, 0);
    nomad.drain_by_hand();
    let undo = after.verb(&["start", "--undo-only"]);
    assert_eq!(undo.code, 0, "{}", undo.stdout);
    assert!(!nomad.is_eligible());
    assert_eq!(drains(&nomad), 2, "the drain by hand is none of ours");
}

#[test]
fn an_undo_of_a_node_that_is_gone_or_undrained_is_harmless() {
    let nomad = NomadStandIn::start();
    let binary = binary("nomad-undone-by-hand", &nomad.url, "");
    assert_eq!(binary.verb(&["run"]).code, 0);
    nomad.set_eligible(true);
    assert_eq!(binary.verb(&["start", "--undo-only"]).code, 0);
    assert_eq!(drains(&nomad), 1);
}

#[test]
fn a_server_that_has_forgotten_the_node_is_told_from_a_wrong_one() {
    // It hides a secret that others' messages contain.
    in_own_process(this_test!(), forgotten_or_wrong);
}

fn forgotten_or_wrong() {
    let intent = |url: &str| farewell::model::intent::Intent {
        member: "nomad".to_owned(),
        subject: "the drain of node n1".to_owned(),
        thing: NODE.to_owned(),
        what: [
            ("url".to_owned(), url.into()),
            ("node".to_owned(), NODE.into()),
            ("run".to_owned(), "r".into()),
            ("eligible".to_owned(), true.into()),
        ]
        .into(),
    };
    let kind = farewell::steps::KINDS
        .iter()
        .find(|it| it.name == "deregister");
    let undo = kind.expect("a kind").undo.expect("an undo");
    // A short secret is a part of many words, and is masked in all that is shown of an answer.
    farewell::model::secrets::hide("t f");
    let forgotten = Server::answers(&["404 node not found"]);
    let attempt = |url: &str| {
        let action = undo(&farewell::model::intent::Chain::new(intent(url))).expect("an undo");
        let run = Run::new();
        let pace = farewell::step::AttemptPolicy::Retried;
        run.attempt(
            &StepSpec {
                action,
                ..StepSpec::new(Nothing, pace)
            },
            TIME,
        )
    };
    assert_eq!(attempt(&forgotten.url()), Ok(Outcome::AlreadyDone));
    let wrong = Server::answers(&["404 page not found"]);
    assert_eq!(
        attempt(&wrong.url()).expect_err("no Nomad").kind,
        ErrorKind::Status
    );
}

/// An action in the place of another one.
struct Nothing;

impl farewell::step::Action for Nothing {
    fn attempt(
        &self,
        _: &farewell::step::AttemptContext<'_>,
    ) -> Result<Outcome, farewell::model::error::Failure> {
        Ok(Outcome::Done)
    }

    fn rehearse(
        &self,
        _: &farewell::step::AttemptContext<'_>,
    ) -> Result<String, farewell::model::error::Failure> {
        Ok(String::new())
    }
}

#[test]
fn an_agent_that_hangs_or_is_gone_costs_the_timeout_and_no_more() {
    let hangs = NomadStandIn::start();
    hangs.run(&[("web.a[0]", "service")]);
    hangs.set_fault(Fault::SilentAfterDrain);
    let drains = NomadStandIn::start();
    drains.run(&[("web.a[0]", "service")]);
    drains.set_pace(Duration::from_secs(3600));
    drains.drain_by_hand();
    let silent = Server::start(Manner::Silent);
    let case = |name, url: &str, end| Case {
        name,
        keys: keys(url, ""),
        end,
    };
    all_hold(&[
        case(
            "nomad silent",
            &silent.url(),
            ("timed-out", "timed-out", 2, 4),
        ),
        case("nomad hangs", &hangs.url, ("timed-out", "timed-out", 2, 4)),
        case(
            "nomad drains",
            &drains.url,
            ("timed-out", "timed-out", 1, 1),
        ),
        case("nomad dead", &dead_url(), ("failed", "unreachable", 2, 20)),
    ]);
    assert_eq!(drains.running().len(), 1);
}

#[test]
fn an_agent_that_dies_after_the_request_is_asked_again_when_it_is_back() {
    let nomad = NomadStandIn::start();
    nomad.run(&[("web.a[0]", "service"), ("web.a[1]", "service")]);
    nomad.set_fault(Fault::GoneAfterDrain);
    let binary = binary("nomad-dies", &nomad.url, "timeout = \"50s\"");
    let run = binary.start(&["run"]);
    wait_until("an attempt has failed", || {
        step_of(&binary.report(), "leave")["attempts"].as_u64() >= Some(2)
    });
    nomad.be_gone(false);
    assert_eq!(run.end(GENEROUS).code, 0);
    assert_eq!(step_of(&binary.report(), "leave")["state"], "done");
    assert!(nomad.running().is_empty());
    assert_eq!(drains(&nomad), 1, "it is drained once");
}

#[test]
fn a_rehearsal_says_what_is_there_and_changes_nothing() {
    let nomad = NomadStandIn::start();
    nomad.run(&[("web.a[0]", "service"), SYSTEM]);
    let run = Run::new();
    let told = run
        .rehearse(&leave(&nomad.url, ""), TIME)
        .expect("an answer");
    assert!(
        told.contains("node n1 at") && told.contains("eligible, 1 allocation to move away"),
        "{told}"
    );
    assert!(nomad.is_eligible() && drains(&nomad) == 0);
    // A stand-in for an agent that is a server alone.
    let server = Server::answers(&["200 {\"stats\":{\"nomad\":{}}}"]);
    let failure = run
        .rehearse(&leave(&server.url(), ""), TIME)
        .expect_err("not a Nomad client");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Config, false),
        "{failure}"
    );
}

#[test]
fn answers_that_are_no_agent_s_are_failures() {
    for (answer, word, retryable) in [
        ("404 page not found", ErrorKind::Status, false),
        ("200 no JSON", ErrorKind::Protocol, true),
        ("200 {}", ErrorKind::Protocol, true),
        ("500 No cluster leader", ErrorKind::Status, true),
    ] {
        let server = Server::answers(&[answer]);
        let failure = Run::new().attempt(&leave(&server.url(), ""), TIME);
        let failure = failure.expect_err(answer);
        assert_eq!(
            (failure.kind, failure.retryable),
            (word, retryable),
            "{answer}: {failure}"
        );
    }
    // Nothing is drained where the answers about the node or its allocations make no sense.
    let own = r#"{"stats":{"client":{"node_id":"n"}}}"#;
    let node = r#"{"Name":"n1","DrainStrategy":null,"SchedulingEligibility":"ineligible"}"#;
    for (node, allocations) in [("{}", "[]"), ("[]", "[]"), (node, "{}"), (node, "x")] {
        let server = Loopback::start(move |asked| match asked.path.as_str() {
            "/v1/agent/self" => Reply::text("200 OK", own),
            "/v1/node/n" => Reply::text("200 OK", node),
            "/v1/node/n/allocations" => Reply::text("200 OK", allocations),
            _ => panic!("{}", asked.whole),
        });
        let failure = Run::new().attempt(&leave(&server.url(), ""), TIME);
        let failure = failure.expect_err("senseless");
        assert_eq!(
            (failure.kind, failure.retryable),
            (ErrorKind::Protocol, true),
            "{failure}"
        );
    }
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn the_manual_s_example_works_as_it_stands() {
    network::own();
    let token = "s3cret-nomad-manual";
    let nomad = NomadStandIn::start_at(4646, Some(token));
    nomad.run(&[("web.a[0]", "service"), SYSTEM]);
    let binary = Binary::new("nomad-manual", &manual::example("deregister-nomad"));
    binary.dir.credential("nomad-token", token);
    let verb = |verb: &[&str]| {
        let mut command = binary.command(verb);
        let output = command.env("CREDENTIALS_DIRECTORY", &binary.dir.0).output();
        let output = output.expect("it starts");
        let told = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(!told.contains(token), "{told}");
        (output.status.code().expect("a code"), told)
    };
    for state in ["done", "already-done"] {
        let (code, told) = verb(&["run"]);
        assert_eq!(code, 0, "{told}");
        assert_eq!(
            step_of(&binary.report(), "leave-nomad")["state"],
            state,
            "{told}"
        );
    }
    assert_eq!(nomad.running(), ["logs.all[0]"]);
    // The token is read anew, by its name.
    let (code, told) = verb(&["start", "--undo-only"]);
    assert_eq!(code, 0, "{told}");
    assert!(nomad.is_eligible());
}
