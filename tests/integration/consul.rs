//! `deregister` from a real Consul agent.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::binary::{Binary, GENEROUS, step_of, wait_until};
use crate::support::case::{Case, all_hold};
use crate::support::consul::Consul;
use crate::support::loopback::{Loopback, Middleman, Reply};
use crate::support::ports::ports;
use crate::support::servers::{Manner, Server, dead_url};
use crate::support::{Run, manual, network, problems, step};
use farewell::model::error::ErrorKind;
use farewell::step::{Outcome, StepSpec};
use nix::sys::signal::Signal::{SIGCONT, SIGSTOP};

const TIME: Duration = Duration::from_secs(20);

fn keys(url: &str, rest: &str) -> String {
    format!("kind = \"deregister\"\nregistry = \"consul\"\nurl = {url:?}\n{rest}")
}

fn leave(url: &str, rest: &str) -> StepSpec {
    step(&keys(url, rest))
}

fn whole(url: &str, rest: &str) -> String {
    format!("[[step]]\nname = \"leave\"\n{}\n", keys(url, rest))
}

#[test]
fn keys_are_checked() {
    let with = |rest: &str| problems(&keys("http://h:8500", rest));
    assert_eq!(with("service = \"s\""), "");
    assert!(with("").contains("\"service\": missing"), "{}", with(""));
    assert!(with("service = \"\"").contains("must not be empty"));
    let twice =
        "service = \"s\"\ntoken = \"s3cret-one\"\nheaders = { X-Consul-Token = \"s3cret-two\" }";
    assert!(with(twice).contains("cannot both be sent"));
    assert!(with("service = \"s\"\nservise = \"s\"").contains("unknown key"));
}

#[test]
#[ignore = "needs Consul; tests/run has it"]
fn a_service_leaves_the_agent_and_the_catalog_once() {
    let consul = Consul::start("consul-leaves");
    for (id, name) in [
        ("web-1", "web"),
        ("web 2/b", "web"),
        ("web\"3", "web"),
        ("kept", "web"),
    ] {
        consul.register(id, name);
    }
    let run = Run::new();
    for id in ["web-1", "web 2/b", "web\"3"] {
        let step = leave(&consul.url, &format!("service = {id:?}"));
        assert_eq!(run.attempt(&step, TIME), Ok(Outcome::Done), "{id}");
        assert!(!consul.lists(id, "web"), "{id} is in the catalog");
        assert_eq!(
            run.attempt(&step, TIME),
            Ok(Outcome::Done),
            "{id}, by the same step again"
        );
        let another = leave(&consul.url, &format!("service = {id:?}"));
        assert_eq!(
            run.attempt(&another, TIME),
            Ok(Outcome::AlreadyDone),
            "{id}"
        );
    }
    assert_eq!(consul.services(), ["kept"]);
    assert!(run.remarks().is_empty(), "{:?}", run.remarks());
    let never = leave(&consul.url, "service = \"never-there\"");
    assert_eq!(run.attempt(&never, TIME), Ok(Outcome::AlreadyDone));
}

#[test]
#[ignore = "needs Consul; tests/run has it"]
fn a_token_is_needed_where_there_are_acls() {
    let consul = Consul::start_with_acls("consul-acls");
    let (narrow, full) = (
        "11111111-2222-3333-4444-555555555555",
        "66666666-2222-3333-4444-555555555555",
    );
    consul.token(narrow, "service \"web\" { policy = \"write\" }");
    let policy = &manual::blocks("deregister-consul", "sh")[0];
    let rules = policy.split('\'').nth(1).expect("rules in quotes");
    consul.token(full, rules);
    consul.register("web-1", "web");
    consul.register("web-2", "web");
    let run = Run::new();
    for token in ["", "token = \"s3cret-unknown\""] {
        let step = leave(&consul.url, &format!("service = \"web-1\"\n{token}"));
        let failure = run.attempt(&step, TIME).expect_err("refused");
        assert_eq!(
            (failure.kind, failure.retryable),
            (ErrorKind::Refused, false),
            "{failure}"
        );
        assert!(!failure.to_string().contains("s3cret"), "{failure}");
        let asked = run.rehearse(&step, TIME).expect_err("refused");
        assert_eq!(asked.kind, ErrorKind::Refused, "{asked}");
    }
    assert_eq!(consul.services().len(), 2);
    // Who may take it out and know nothing else is told what was not seen.
    let with =
        |id: &str, token: &str| leave(&consul.url, &format!("service = {id:?}\ntoken = {token:?}"));
    assert_eq!(run.attempt(&with("web-1", narrow), TIME), Ok(Outcome::Done));
    assert!(
        run.remarks()[0].contains("only the agent was asked"),
        "{:?}",
        run.remarks()
    );
    let run = Run::new();
    let step = with("web-2", full);
    let told = run.rehearse(&step, TIME).expect("known there");
    assert!(told.contains("the catalog lists it on n1"), "{told}");
    assert_eq!(run.attempt(&step, TIME), Ok(Outcome::Done));
    assert!(run.remarks().is_empty(), "{:?}", run.remarks());
    assert!(!consul.lists("web-2", "web"));
}

#[test]
#[ignore = "needs Consul; tests/run has it"]
fn what_the_agent_cannot_take_out_of_the_catalog_is_taken_out_there() {
    let consul = Consul::start_with_acls("consul-catalog");
    let (full, reader) = (
        "66666666-2222-3333-4444-555555555555",
        "88888888-2222-3333-4444-555555555555",
    );
    let policy = &manual::blocks("deregister-consul", "sh")[0];
    let rules = policy.split('\'').nth(1).expect("rules in quotes");
    consul.token(full, rules);
    consul.token(reader, &rules.replace("write", "read"));
    let with =
        |id: &str, token: &str| leave(&consul.url, &format!("service = {id:?}\ntoken = {token:?}"));
    consul.register_and_forget("web-1", "web", "91111111-2222-3333-4444-555555555555");
    let run = Run::new();
    assert_eq!(run.attempt(&with("web-1", full), TIME), Ok(Outcome::Done));
    assert!(!consul.lists("web-1", "web"));
    assert_eq!(
        run.attempt(&with("web-1", full), TIME),
        Ok(Outcome::AlreadyDone)
    );

    // Somebody else has taken it out of the agent, as a run before this one would have.
    consul.register_and_forget("web-2", "web", "92222222-2222-3333-4444-555555555555");
    let (status, said) = consul.ask("PUT /v1/agent/service/deregister/web-2", "");
    assert_eq!(status, 200, "{said}");
    assert!(consul.services().is_empty() && consul.lists("web-2", "web"));
    let failure = run
        .attempt(&with("web-2", reader), TIME)
        .expect_err("it is listed");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Refused, false),
        "{failure}"
    );
    let call = format!(
        "PUT {}/v1/catalog/deregister with the body {{\"Node\":\"n1\",\"ServiceID\":\"web-2\"}}",
        consul.url
    );
    assert!(failure.cause.contains(&call), "{failure}");
    let told = run.rehearse(&with("web-2", reader), TIME).expect("listed");
    assert!(
        told.contains("not there, and the catalog lists it on n1"),
        "{told}"
    );
    assert!(consul.lists("web-2", "web"));
    assert_eq!(run.attempt(&with("web-2", full), TIME), Ok(Outcome::Done));
    assert!(!consul.lists("web-2", "web"));
}

#[test]
#[ignore = "needs Consul; tests/run has it"]
fn a_name_in_place_of_an_id_is_a_mistake() {
    let consul = Consul::start("consul-name");
    consul.register("web-1", "web");
    let (run, step) = (Run::new(), leave(&consul.url, "service = \"web\""));
    for failure in [
        run.attempt(&step, TIME).expect_err("a name"),
        run.rehearse(&step, TIME).expect_err("a name"),
    ] {
        assert_eq!(
            (failure.kind, failure.retryable),
            (ErrorKind::Config, false),
            "{failure}"
        );
        assert!(
            failure
                .cause
                .contains("the name of web-1: set `service` to the ID"),
            "{failure}"
        );
    }
    assert!(consul.lists("web-1", "web"));
    // Registered without an ID, the name is the ID.
    consul.register("web", "web");
    assert_eq!(run.attempt(&step, TIME), Ok(Outcome::Done));
    assert!(!consul.lists("web", "web") && consul.lists("web-1", "web"));
}

#[test]
#[ignore = "needs Consul; tests/run has it"]
fn a_rehearsal_says_what_is_there_and_changes_nothing() {
    let consul = Consul::start("consul-rehearse");
    consul.register("web-1", "web");
    let run = Run::new();
    let told = run.rehearse(&leave(&consul.url, "service = \"web-1\""), TIME);
    let told = told.expect("there");
    assert!(
        told.contains("there, as web, and the catalog lists it on n1"),
        "{told}"
    );
    let told = run.rehearse(&leave(&consul.url, "service = \"nope\""), TIME);
    assert!(
        told.expect("an answer")
            .contains("not there, and the catalog does not list it on n1")
    );
    assert!(run.remarks()[0].contains("service nope does not exist"));
    assert_eq!(consul.services(), ["web-1"]);
    let failure = run.rehearse(&leave(&dead_url(), "service = \"web-1\""), TIME);
    assert_eq!(failure.expect_err("nobody").kind, ErrorKind::Unreachable);
}

#[test]
#[ignore = "needs Consul; tests/run has it"]
fn an_agent_that_stands_still_costs_the_timeout_and_one_that_goes_on_in_time_nothing() {
    let consul = Consul::start("consul-still");
    consul.register("web-1", "web");
    consul.signal(SIGSTOP);
    Case {
        name: "consul stopped",
        keys: keys(&consul.url, "service = \"web-1\""),
        end: ("timed-out", "timed-out", 2, 4),
    }
    .holds();
    let binary = Binary::new(
        "consul-goes-on",
        &whole(
            &consul.url,
            "service = \"web-1\"\ntimeout = \"50s\"\nattempt-timeout = \"700ms\"",
        ),
    );
    let run = binary.start(&["run"]);
    wait_until("an attempt has failed", || {
        step_of(&binary.report(), "leave")["attempts"].as_u64() >= Some(2)
    });
    consul.signal(SIGCONT);
    assert_eq!(run.end(GENEROUS).code, 0, "{:#}", binary.report());
    assert!(consul.services().is_empty());
}

#[test]
#[ignore = "needs Consul; tests/run has it"]
fn an_agent_that_dies_after_the_request_is_asked_again_when_it_is_back() {
    let consul = Consul::start("consul-dies");
    let upstream = consul.url.strip_prefix("http://").expect("a URL");
    let before = Middleman::before(upstream.parse().expect("an address"));
    for (id, comes_back) in [("web-1", true), ("web-2", false)] {
        consul.register(id, "web");
        before.come_back();
        before.die_after("PUT /v1/agent/service/deregister/");
        let (missed, timeout) = (before.missed(), if comes_back { "50s" } else { "2s" });
        let rest = format!("service = {id:?}\ntimeout = {timeout:?}");
        let binary = Binary::new(&format!("consul-dies-{id}"), &whole(&before.url(), &rest));
        let run = binary.start(&["run"]);
        wait_until("nobody was there", || before.missed() > missed);
        if comes_back {
            before.come_back();
        }
        let code = run.end(GENEROUS).code;
        let report = binary.report();
        let step = step_of(&report, "leave");
        if comes_back {
            assert_eq!(
                (code, step["state"].as_str()),
                (0, Some("done")),
                "{report:#}"
            );
        } else {
            // It is gone, and nobody has seen that: nobody is there, or the time ended while a connection was made.
            assert_eq!(code, 1, "{report:#}");
            let word = step["error"]["word"].as_str();
            assert!(
                matches!(word, Some("unreachable" | "timed-out")),
                "{report:#}"
            );
        }
        assert!(!consul.lists(id, "web"));
    }
    let puts = before
        .heard()
        .into_iter()
        .filter(|it| it.starts_with("PUT"));
    assert_eq!(puts.count(), 2, "each was asked to leave once");
}

#[test]
#[ignore = "needs Consul; tests/run has it"]
fn an_agent_that_comes_late_is_left() {
    let port = ports(1)[0];
    let rest = "service = \"web-1\"\ntimeout = \"80s\"";
    let binary = Binary::new(
        "consul-late",
        &whole(&format!("http://127.0.0.1:{port}"), rest),
    );
    let run = binary.start(&["run"]);
    wait_until("an attempt has failed", || {
        step_of(&binary.report(), "leave")["attempts"].as_u64() >= Some(2)
    });
    let _consul = Consul::start_at("consul-late-agent", port, false);
    assert_eq!(run.end(GENEROUS).code, 0);
    assert_eq!(step_of(&binary.report(), "leave")["state"], "already-done");
}

/// A stand-in for an agent that takes the service out, and yet keeps what `kept` says.
fn keeper(kept: &'static str) -> Loopback {
    let taken_out = AtomicBool::new(false);
    Loopback::start(move |asked| {
        let gone = taken_out.load(Ordering::SeqCst);
        match asked.path.as_str() {
            "/v1/agent/self" => Reply::text("200 OK", r#"{"Config":{"NodeName":"n1"}}"#),
            "/v1/agent/service/web-1" if gone && kept != "agent" => {
                Reply::text("404 Not Found", "unknown service ID: web-1")
            }
            "/v1/agent/service/web-1" => Reply::text("200 OK", r#"{"ID":"web-1","Service":"web"}"#),
            "/v1/catalog/node/n1" => Reply::text(
                "200 OK",
                r#"{"Node":{"Node":"n1"},"Services":{"web-1":{"ID":"web-1","Service":"web"}}}"#,
            ),
            "/v1/catalog/service/web" => {
                Reply::text("200 OK", r#"[{"Node":"n1","ServiceID":"web-1"}]"#)
            }
            _ => {
                taken_out.store(true, Ordering::SeqCst);
                Reply::text("200 OK", "")
            }
        }
    })
}

#[test]
fn a_200_is_no_proof() {
    let run = Run::new();
    let step = |agent: &Loopback| leave(&agent.url(), "service = \"web-1\"");
    let failure = run
        .attempt(&step(&keeper("agent")), TIME)
        .expect_err("there again");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Protocol, true),
        "{failure}"
    );
    assert!(failure.cause.contains("has it again"), "{failure}");
    let time = Duration::from_millis(900);
    let failure = run
        .attempt(&step(&keeper("catalog")), time)
        .expect_err("listed");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::TimedOut, true),
        "{failure}"
    );
    assert!(
        failure.cause.contains("the catalog still lists it on n1"),
        "{failure}"
    );
    assert!(run.waiting()[0].contains("the catalog to take web-1 on n1 out"));
}

#[test]
fn a_catalog_that_does_not_answer_keeps_nobody_from_leaving_the_agent() {
    // A stand-in for an agent whose servers are gone: RPCs hang, or fail.
    for hangs in [true, false] {
        let puts = Arc::new(AtomicUsize::new(0));
        let counted = puts.clone();
        let agent = Loopback::start(move |asked| match asked.path.as_str() {
            "/v1/agent/self" => Reply::text("200 OK", r#"{"Config":{"NodeName":"n1"}}"#),
            "/v1/catalog/node/n1" if hangs => Reply::Silence,
            "/v1/catalog/node/n1" => {
                Reply::text("500 Internal Server Error", "No known Consul servers")
            }
            "/v1/agent/service/web-1" if counted.load(Ordering::SeqCst) == 0 => {
                Reply::text("200 OK", r#"{"ID":"web-1","Service":"web"}"#)
            }
            "/v1/agent/service/web-1" => Reply::text("404 Not Found", "unknown service ID: web-1"),
            _ => {
                counted.fetch_add(1, Ordering::SeqCst);
                Reply::text("200 OK", "")
            }
        });
        let (state, word) = match hangs {
            true => ("timed-out", "timed-out"),
            false => ("failed", "status"),
        };
        Case {
            name: if hangs {
                "consul catalog hangs"
            } else {
                "consul catalog fails"
            },
            keys: keys(&agent.url(), "service = \"web-1\""),
            end: (state, word, 2, 20),
        }
        .holds();
        assert_eq!(puts.load(Ordering::SeqCst), 1, "hangs: {hangs}");
    }
}

#[test]
fn answers_that_are_no_agent_s_are_failures() {
    for (answer, word, retryable) in [
        ("404 page not found", ErrorKind::Status, false),
        ("200 no JSON", ErrorKind::Protocol, true),
        ("200 {\"Service\":", ErrorKind::Protocol, true),
        ("200 {}", ErrorKind::Protocol, true),
        ("200 [1]", ErrorKind::Protocol, true),
        ("429", ErrorKind::Status, true),
        ("500 No cluster leader", ErrorKind::Status, true),
        ("302", ErrorKind::Status, false),
    ] {
        let server = Server::answers(&[answer]);
        let step = leave(&server.url(), "service = \"web-1\"");
        let failure = Run::new().attempt(&step, TIME).expect_err(answer);
        assert_eq!(
            (failure.kind, failure.retryable),
            (word, retryable),
            "{answer}: {failure}"
        );
        assert!(
            server.requests().iter().all(|it| it.starts_with("GET ")),
            "{answer}"
        );
    }
    let (silent, flood) = (Server::start(Manner::Silent), Server::start(Manner::Floods));
    let case = |name, server: &Server, end| Case {
        name,
        keys: keys(&server.url(), "service = \"web-1\""),
        end,
    };
    all_hold(&[
        case("consul silent", &silent, ("timed-out", "timed-out", 2, 4)),
        case("consul floods", &flood, ("failed", "protocol", 2, 20)),
    ]);
}

#[test]
#[ignore = "needs root and Consul; tests/run has it"]
fn the_manual_s_example_works_as_it_stands() {
    network::own();
    let consul = Consul::start_at("consul-manual", 8500, true);
    let token = "77777777-2222-3333-4444-555555555555";
    let policy = &manual::blocks("deregister-consul", "sh")[0];
    consul.token(token, policy.split('\'').nth(1).expect("rules in quotes"));
    consul.register("web-1", "web");
    let binary = Binary::new("consul-manual-run", &manual::example("deregister-consul"));
    binary.dir.credential("consul-token", token);
    for state in ["done", "already-done"] {
        let mut command = binary.command(&["run"]);
        let output = command.env("CREDENTIALS_DIRECTORY", &binary.dir.0).output();
        let output = output.expect("it starts");
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{told}");
        assert_eq!(
            step_of(&binary.report(), "leave-consul")["state"],
            state,
            "{told}"
        );
        assert!(consul.services().is_empty());
    }
    let records = fs::read_dir(binary.dir.0.join("state/runs")).expect("records");
    for record in records.flatten() {
        let text = fs::read_to_string(record.path()).unwrap_or_default();
        assert!(!text.contains(token), "{text}");
    }
}
