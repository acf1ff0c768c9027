//! `deregister` from a real Eureka server.

use std::time::Duration;

use crate::support::binary::{Binary, GENEROUS, Running, step_of, wait_until};
use crate::support::case::{Case, all_hold};
use crate::support::eureka::{Eureka, eureka};
use crate::support::loopback::{Loopback, Middleman, Reply};
use crate::support::servers::{Manner, Server, dead_url};
use crate::support::{Run, manual, network, problems, step};
use farewell::model::error::ErrorKind;
use farewell::step::{Outcome, StepSpec};

const TIME: Duration = Duration::from_secs(60);

/// The only instance of an application. Eureka keeps a status that was set by the instance's ID alone, whatever its
/// application is, and all tests have one server: no ID is another test's.
fn id(app: &str) -> String {
    format!("h:{app}:8080")
}

fn keys(url: &str, app: &str, rest: &str) -> String {
    let id = id(app);
    format!(
        "kind = \"deregister\"\nregistry = \"eureka\"\nurl = {url:?}\napp = {app:?}\ninstance = {id:?}\n{rest}"
    )
}

fn leave(url: &str, app: &str, rest: &str) -> StepSpec {
    step(&keys(url, app, rest))
}

fn whole(url: &str, app: &str, rest: &str) -> String {
    format!("[[step]]\nname = \"leave\"\n{}\n", keys(url, app, rest))
}

#[test]
fn keys_are_checked() {
    let with = |rest: &str| problems(&keys("http://h:8761/eureka", "WEB", rest));
    assert_eq!(with("out-of-service = \"20s\""), "");
    let long = with("out-of-service = \"30s\"");
    assert!(
        long.contains("must be shorter than the step's timeout, 30s"),
        "{long}"
    );
    // The step's own time is told of where it is read.
    let longer = with("out-of-service = \"30s\"\ntimeout = \"40s\"");
    assert!(!longer.contains("must be shorter"), "{longer}");
    assert!(with("out-of-service = 5").contains("expected a duration"));
    let empty = keys("http://h/eureka", "", "");
    assert!(problems(&empty).contains("must not be empty"));
}

#[test]
#[ignore = "needs Eureka; tests/run has it"]
fn an_instance_leaves_and_others_stay() {
    let (eureka, run) = (eureka(), Run::new());
    for id in [&id("LEAVES"), "other"] {
        eureka.register("LEAVES", id);
    }
    let step = leave(&eureka.url(), "LEAVES", "");
    assert_eq!(run.attempt(&step, TIME), Ok(Outcome::Done));
    assert_eq!(eureka.status("LEAVES", &id("LEAVES")), "");
    assert_eq!(eureka.status("LEAVES", "other"), "UP");
    let again = leave(&eureka.url(), "LEAVES", "");
    assert_eq!(run.attempt(&again, TIME), Ok(Outcome::AlreadyDone));
    assert_eq!(run.attempt(&again, TIME), Ok(Outcome::AlreadyDone));
    assert!(run.recorder.intents().is_empty());
}

#[test]
#[ignore = "needs Eureka; tests/run has it"]
fn a_wrong_address_is_not_taken_for_gone() {
    let (eureka, run) = (eureka(), Run::new());
    let bare = format!("http://{}", eureka.address);
    let wrong = Server::answers(&["404 page not found"]);
    for url in [bare.as_str(), &wrong.url()] {
        let failure = run.attempt(&leave(url, "NEVER", ""), TIME);
        let failure = failure.expect_err("no Eureka there");
        assert_eq!(
            (failure.kind, failure.retryable),
            (ErrorKind::Status, false),
            "{failure}"
        );
        assert!(failure.cause.contains("with its context path"), "{failure}");
    }
}

#[test]
#[ignore = "needs Eureka; tests/run has it"]
fn clients_get_their_time_while_it_is_out_of_service() {
    let eureka = eureka();
    eureka.register("SLOWLY", &id("SLOWLY"));
    let rest = "out-of-service = \"2s\"\ntimeout = \"50s\"";
    let binary = Binary::new("eureka-slowly", &whole(&eureka.url(), "SLOWLY", rest));
    let run = binary.start(&["run"]);
    wait_until("it is out of service", || {
        eureka.status("SLOWLY", &id("SLOWLY")) == "OUT_OF_SERVICE"
    });
    assert_eq!(run.end(GENEROUS).code, 0);
    let report = binary.report();
    let step = step_of(&report, "leave");
    assert_eq!(
        (&step["state"], &step["attempts"]),
        (&"done".into(), &1.into()),
        "{report:#}"
    );
    assert!(
        step["duration_usec"].as_u64() >= Some(2_000_000),
        "{report:#}"
    );
    assert_eq!(eureka.status("SLOWLY", &id("SLOWLY")), "");
    // What was removed took its status with it: nothing is pending.
    let undo = binary.verb(&["start", "--undo-only"]);
    assert_eq!(
        (undo.code, undo.stdout.contains("pending")),
        (0, false),
        "{}",
        undo.stdout
    );
    eureka.register("SLOWLY", &id("SLOWLY"));
    assert_eq!(eureka.status("SLOWLY", &id("SLOWLY")), "UP");
}

#[test]
#[ignore = "needs Eureka; tests/run has it"]
fn the_removal_is_not_missed_for_want_of_time() {
    let eureka = eureka();
    eureka.register("SHORT", &id("SHORT"));
    let rest = "out-of-service = \"25s\"\ntimeout = \"30s\"";
    let config = format!(
        "[farewell]\nbudget = \"20s\"\n{}",
        whole(&eureka.url(), "SHORT", rest)
    );
    let binary = Binary::new("eureka-short", &config);
    let run = binary.verb(&["run"]);
    let report = binary.report();
    assert_eq!(step_of(&report, "leave")["state"], "done", "{report:#}");
    assert!(
        run.stdout.contains("clients had less than 25s")
            || run.stderr.contains("clients had less than 25s"),
        "{}{}",
        run.stdout,
        run.stderr
    );
    assert_eq!(eureka.status("SHORT", &id("SHORT")), "");
}

#[test]
#[ignore = "needs Eureka; tests/run has it"]
fn a_run_that_is_killed_while_it_is_out_of_service_is_undone_after_the_boot() {
    let eureka = eureka();
    eureka.register("KILLED", &id("KILLED"));
    let rest = "out-of-service = \"50s\"\ntimeout = \"55s\"";
    let binary = Binary::new("eureka-killed", &whole(&eureka.url(), "KILLED", rest));
    let run = Running::spawn(&mut binary.command(&["run"]));
    wait_until("it is out of service", || {
        eureka.status("KILLED", &id("KILLED")) == "OUT_OF_SERVICE"
    });
    run.signal(nix::sys::signal::Signal::SIGKILL);
    assert_eq!(run.end(crate::support::binary::GENEROUS).code, -9);
    // The application registers anew as it starts, and would get no requests.
    eureka.register("KILLED", &id("KILLED"));
    assert_eq!(eureka.status("KILLED", &id("KILLED")), "OUT_OF_SERVICE");
    let undo = binary.verb(&["start", "--undo-only"]);
    assert_eq!(undo.code, 0, "{}{}", undo.stdout, undo.stderr);
    assert!(
        undo.stdout
            .contains("the status OUT_OF_SERVICE of KILLED/h:KILLED:8080"),
        "{}",
        undo.stdout
    );
    assert_eq!(eureka.status("KILLED", &id("KILLED")), "UP");
    assert_eq!(binary.verb(&["start", "--undo-only"]).code, 0);
    assert_eq!(eureka.status("KILLED", &id("KILLED")), "UP");
}

/// Why `instance` must name one instance of the whole registry.
#[test]
#[ignore = "needs Eureka; tests/run has it"]
fn a_status_belongs_to_the_id_whatever_its_application_is() {
    let eureka = eureka();
    let shared = "h:shared:8080";
    eureka.register("SHARES-A", shared);
    let path = format!("PUT /eureka/apps/SHARES-A/{shared}/status?value=OUT_OF_SERVICE");
    assert_eq!(eureka.ask(&path, "").0, 200);
    eureka.register("SHARES-B", shared);
    assert_eq!(eureka.status("SHARES-B", shared), "OUT_OF_SERVICE");
}

#[test]
#[ignore = "needs Eureka; tests/run has it"]
fn an_undo_is_harmless_where_there_is_nothing_to_undo() {
    let eureka = eureka();
    for (app, then_registers) in [("UNDONE-GONE", false), ("UNDONE-UP", true)] {
        eureka.register(app, &id(app));
        let rest = "out-of-service = \"50s\"\ntimeout = \"55s\"";
        let binary = Binary::new(&format!("eureka-{app}"), &whole(&eureka.url(), app, rest));
        let run = Running::spawn(&mut binary.command(&["run"]));
        wait_until("it is out of service", || {
            eureka.status(app, &id(app)) == "OUT_OF_SERVICE"
        });
        run.signal(nix::sys::signal::Signal::SIGKILL);
        run.end(crate::support::binary::GENEROUS);
        let remove = leave(&eureka.url(), app, "");
        assert_eq!(Run::new().attempt(&remove, TIME), Ok(Outcome::Done));
        let expected = if then_registers {
            eureka.register(app, &id(app));
            "UP"
        } else {
            ""
        };
        let undo = binary.verb(&["start", "--undo-only"]);
        assert_eq!(undo.code, 0, "{}{}", undo.stdout, undo.stderr);
        assert_eq!(eureka.status(app, &id(app)), expected);
    }
}

#[test]
fn who_may_not_is_refused_and_leaves_nothing_pending() {
    // A stand-in with Spring's replies: 401 without a body.
    let server = Server::answers(&["401"]);
    let run = Run::new();
    let step = leave(&server.url(), "WEB", "");
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
    }
    // With protection against forged requests left on, reading is allowed and nothing else.
    let reader = Loopback::start(|asked| match asked.method.as_str() {
        "GET" => Reply::text("200 OK", r#"{"instance":{"status":"UP"}}"#),
        _ => Reply::text("401 Unauthorized", ""),
    });
    let binary = Binary::new(
        "eureka-refused",
        &whole(
            &reader.url(),
            "WEB",
            "out-of-service = \"5s\"\nuser = \"u\"\npassword = \"s3cret-eureka\"",
        ),
    );
    let run = binary.verb(&["run"]);
    let report = binary.report();
    let step = step_of(&report, "leave");
    assert_eq!(
        (run.code, &step["error"]["word"], &step["attempts"]),
        (1, &"refused".into(), &1.into()),
        "{report:#}"
    );
    assert!(!format!("{report}{}{}", run.stdout, run.stderr).contains("s3cret-eureka"));
    let undo = binary.verb(&["start", "--undo-only"]);
    assert_eq!(
        (undo.code, undo.stdout.contains("pending")),
        (0, false),
        "{}",
        undo.stdout
    );
}

#[test]
#[ignore = "needs Eureka; tests/run has it"]
fn what_a_heartbeat_brings_back_is_said() {
    let eureka = eureka();
    eureka.register("BEATS", &id("BEATS"));
    let before = Middleman::before(eureka.address);
    // The application's next heartbeat comes at once, and is told that it is not registered.
    before.after_each("DELETE ", || eureka.register("BEATS", &id("BEATS")));
    let url = format!("{}/eureka", before.url());
    let step = leave(&url, "BEATS", "");
    for attempt in 1..=2 {
        let failure = Run::new().attempt(&step, TIME);
        let failure = failure.expect_err("it is there again");
        let told = format!("attempt {attempt}: {failure}");
        assert_eq!(
            (failure.kind, failure.retryable),
            (ErrorKind::Protocol, true),
            "{told}"
        );
        assert!(
            failure.cause.contains("stop the application first"),
            "{told}"
        );
    }
    // The application is stopped.
    before.after_each("nothing", || {});
    assert_eq!(
        Run::new().attempt(&leave(&url, "BEATS", ""), TIME),
        Ok(Outcome::Done)
    );
}

#[test]
fn a_server_that_hangs_lies_or_babbles_costs_the_timeout_and_no_more() {
    let (silent, flood) = (Server::start(Manner::Silent), Server::start(Manner::Floods));
    let case = |name, url: &str, end| Case {
        name,
        keys: keys(url, "WEB", ""),
        end,
    };
    all_hold(&[
        case(
            "eureka silent",
            &silent.url(),
            ("timed-out", "timed-out", 2, 4),
        ),
        case("eureka floods", &flood.url(), ("failed", "protocol", 2, 20)),
        case("eureka dead", &dead_url(), ("failed", "unreachable", 2, 20)),
    ]);
    for answer in ["200 <xml/>", "200 {}", "200 {\"instance\":", "200 [2]"] {
        let server = Server::answers(&[answer]);
        let failure = Run::new().attempt(&leave(&server.url(), "WEB", ""), TIME);
        let failure = failure.expect_err(answer);
        assert_eq!(
            (failure.kind, failure.retryable),
            (ErrorKind::Protocol, true),
            "{failure}"
        );
        assert!(server.requests().iter().all(|it| it.starts_with("GET ")));
    }
}

#[test]
#[ignore = "needs Eureka; tests/run has it"]
fn a_server_that_dies_after_the_request_is_asked_again_when_it_is_back() {
    let eureka = eureka();
    let before = Middleman::before(eureka.address);
    let url = format!("{}/eureka", before.url());
    for (app, comes_back) in [("DIES-BACK", true), ("DIES-GONE", false)] {
        eureka.register(app, &id(app));
        before.come_back();
        before.die_after(&format!("DELETE /eureka/apps/{app}"));
        let missed = before.missed();
        let timeout = if comes_back { "50s" } else { "8s" };
        let config = whole(&url, app, &format!("timeout = {timeout:?}"));
        let binary = Binary::new(&format!("eureka-{app}"), &config);
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
            // Nobody is there, or the time ended while a connection was made.
            let word = step["error"]["word"].as_str();
            let is_silent = matches!(word, Some("unreachable" | "timed-out"));
            assert!(code == 1 && is_silent, "{report:#}");
        }
        assert_eq!(eureka.status(app, &id(app)), "");
    }
}

#[test]
#[ignore = "needs Eureka; tests/run has it"]
fn a_server_that_comes_late_is_left() {
    let eureka = eureka();
    eureka.register("LATE", &id("LATE"));
    let before = Middleman::before(eureka.address);
    before.go_down();
    let url = format!("{}/eureka", before.url());
    let binary = Binary::new("eureka-late", &whole(&url, "LATE", "timeout = \"50s\""));
    let run = binary.start(&["run"]);
    wait_until("nobody was there", || before.missed() > 1);
    before.come_back();
    assert_eq!(run.end(GENEROUS).code, 0);
    assert_eq!(step_of(&binary.report(), "leave")["state"], "done");
    assert_eq!(eureka.status("LATE", &id("LATE")), "");
}

#[test]
#[ignore = "needs root and Eureka; tests/run has it"]
fn a_rehearsal_says_what_is_there_and_changes_nothing() {
    let (eureka, run) = (eureka(), Run::new());
    eureka.register("REHEARSED", &id("REHEARSED"));
    let rest = "out-of-service = \"5s\"";
    let told = run.rehearse(&leave(&eureka.url(), "REHEARSED", rest), TIME);
    assert!(
        told.as_ref()
            .is_ok_and(|it| it.contains("there, with status UP")),
        "{told:?}"
    );
    assert_eq!(eureka.status("REHEARSED", &id("REHEARSED")), "UP");
    let told = run.rehearse(&leave(&eureka.url(), "NOBODY", rest), TIME);
    assert!(
        told.as_ref()
            .is_ok_and(|it| it.contains("not there, nothing to leave yet")),
        "{told:?}"
    );
    let bare = format!("http://{}", eureka.address);
    let failure = run.rehearse(&leave(&bare, "REHEARSED", rest), TIME);
    assert_eq!(failure.expect_err("no Eureka").kind, ErrorKind::Status);
}

#[test]
#[ignore = "needs root and Eureka; tests/run has it"]
fn the_manual_s_example_works_as_it_stands() {
    let eureka = eureka();
    // The server is in the machine's own network, and is reached in another one at its default port.
    let before = Middleman::at(eureka.address, || {
        network::own();
        8761
    });
    let eureka = Eureka {
        address: before.address,
    };
    let example = manual::example("deregister-eureka");
    let host = farewell::sys::host::hostname().expect("a name");
    let id = format!("{host}:web:8080");
    eureka.register("WEB", &id);
    let binary = Binary::new("eureka-manual", &example.replace("30s", "1s"));
    for state in ["done", "already-done"] {
        let run = binary.verb(&["run"]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert_eq!(step_of(&binary.report(), "leave-eureka")["state"], state);
        assert_eq!(eureka.status("WEB", &id), "");
    }
    assert!(
        before
            .heard()
            .iter()
            .any(|it| it.contains("value=OUT_OF_SERVICE"))
    );
    // And as it stands, word for word.
    binary.configure(&example);
    assert_eq!(binary.verb(&["check"]).code, 0);
    assert_eq!(binary.verb(&["run"]).code, 0);
}
