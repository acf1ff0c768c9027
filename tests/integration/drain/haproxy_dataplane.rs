//! `balancer = "haproxy-dataplane"`, by a stand-in for the Data Plane API before a real HAProxy.

use std::time::{Duration, Instant};

use farewell::model::error::ErrorKind;
use farewell::step::{Outcome, StepSpec};

use super::app::{App, Asking, ask};
use super::haproxy::{DRAIN, Haproxy, MAINT, READY, tells_of_one_session};
use super::{TIME, intents, undo};
use crate::support::binary::{Binary, wait_until};
use crate::support::dataplane_stand_in::{DataPlaneStandIn, PASSWORD, USER, Version};
use crate::support::servers::Server;
use crate::support::{Run, manual, network, problems, step_with_warnings};

fn keys(url: &str, rest: &str) -> String {
    format!(
        "kind = \"drain\"\nbalancer = \"haproxy-dataplane\"\nurl = {url:?}\nbackend = \"web\"\nserver = \"s1\"\n\
         user = {USER:?}\npassword = {PASSWORD:?}\n{rest}"
    )
}

fn leave(api: &DataPlaneStandIn) -> StepSpec {
    step_with_warnings(&keys(&api.url, ""))
}

/// A HAProxy with one server for each application, and a Data Plane API before it.
fn both(name: &str, apps: &[&App], version: Version) -> (Haproxy, DataPlaneStandIn) {
    let haproxy = Haproxy::start(&format!("dataplane-{name}"), apps);
    let api = DataPlaneStandIn::start(&haproxy.admin(), version);
    (haproxy, api)
}

#[test]
fn keys_are_checked() {
    let good = keys("https://lb-1:5555", "").replace(PASSWORD, "${credential:dataplane}");
    assert_eq!(problems(&good), "");
    let list = good.replace(
        "\"https://lb-1:5555\"",
        "[\"https://lb-1:5555\", \"https://lb-2:5555\"]",
    );
    assert_eq!(problems(&list), "");
    let injected = good.replace("\"s1\"", "\"s1;shutdown\"");
    assert!(problems(&injected).contains("no name of HAProxy's"));
    let half = good.replace("user = \"farewell\"\n", "");
    assert!(problems(&half).contains("user"), "{}", problems(&half));
    // What is left must be undone without the configuration.
    let plain = problems(&keys("https://lb-1:5555", ""));
    assert!(
        plain.contains("password") && plain.contains("warning"),
        "{plain}"
    );
}

#[test]
#[ignore = "needs haproxy; tests/run has it"]
fn an_idle_server_is_drained_at_once_and_is_back_after_the_undo() {
    for version in [Version::V2, Version::V3] {
        let apps = [App::start("one"), App::start("two")];
        let (haproxy, api) = both(&format!("idle-{version:?}"), &[&apps[0], &apps[1]], version);
        let run = Run::new();
        let said = run.rehearse(&leave(&api), TIME).expect("ready");
        let is = format!(
            "web/s1 at {}/ (Data Plane API {}): ready, 0 sessions and 0 queued;",
            api.url,
            format!("{version:?}").to_lowercase()
        );
        assert!(said.starts_with(&is), "{said}");
        assert_eq!(run.attempt(&leave(&api), TIME), Ok(Outcome::Done));
        assert_eq!((haproxy.state("s1"), haproxy.state("s2")), (DRAIN, READY));
        for _ in 0..8 {
            assert_eq!(ask(haproxy.port, "/").as_deref(), Ok("two"));
        }
        assert_eq!(run.attempt(&leave(&api), TIME), Ok(Outcome::AlreadyDone));
        let left = intents(&run);
        assert_eq!(left.len(), 1);
        // The password stood in the configuration itself, and is kept nowhere.
        let chain = farewell::model::intent::Chain::new(left[0].clone());
        let undone = (farewell::steps::drain::KIND.undo.expect("an undo"))(&chain);
        assert!(undone.err().expect("no password").contains("password"));
    }
}

#[test]
#[ignore = "needs haproxy; tests/run has it"]
fn sessions_and_the_queue_are_waited_for() {
    let app = App::start("one");
    let haproxy = Haproxy::start_with("dataplane-queue", &[&app], "maxconn 1 cookie s1");
    let api = DataPlaneStandIn::start(&haproxy.admin(), Version::V3);
    let asking = [(); 2].map(|()| Asking::start(haproxy.port, "/hold"));
    wait_until("one is held and one is queued", || {
        app.held() == 1 && haproxy.says("show stat web 4 -1").contains("web,s1,1,1,1,")
    });
    let run = Run::new();
    let ended = std::thread::scope(|threads| {
        let (step, run) = (leave(&api), &run);
        let draining = threads.spawn(move || run.attempt(&step, TIME));
        wait_until("it waits", || !run.waiting().is_empty());
        assert_eq!(haproxy.state("s1"), DRAIN);
        app.release();
        draining.join().expect("no panic")
    });
    assert_eq!(ended, Ok(Outcome::Done));
    let said = format!("1 session and 1 queued of web/s1 at {}/", api.url);
    assert_eq!(run.waiting()[0], said);
    for it in asking {
        assert_eq!(it.end().as_deref(), Ok("one"));
    }
}

#[test]
#[ignore = "needs haproxy; tests/run has it"]
fn a_session_that_never_ends_is_told_at_the_deadline() {
    let app = App::start("one");
    let (haproxy, api) = both("endless", &[&app], Version::V3);
    let asking = Asking::start(haproxy.port, "/hold");
    wait_until("it is held", || app.held() == 1);
    let limits = "timeout = \"3s\"\nattempt-timeout = \"2s\"\n";
    let binary = Binary::new(
        "drain-dataplane-endless",
        &format!("[[step]]\nname = \"leave\"\n{}", keys(&api.url, limits)),
    );
    tells_of_one_session(&binary, &format!("{}/", api.url));
    assert_eq!(haproxy.state("s1"), DRAIN);
    app.release();
    assert_eq!(asking.end().as_deref(), Ok("one"));
}

#[test]
#[ignore = "needs haproxy; tests/run has it"]
fn who_may_not_and_who_is_not_known_is_refused_at_once() {
    let app = App::start("one");
    for version in [Version::V2, Version::V3] {
        let (haproxy, api) = both(&format!("refused-{version:?}"), &[&app], version);
        let user = DataPlaneStandIn::start(&haproxy.dir.file("user.sock"), version);
        let good = keys(&api.url, "");
        for (keys, said) in [
            (keys(&user.url, ""), "Permission denied"),
            (good.replace(PASSWORD, "another-s3cret"), "status 401"),
            (
                good.replace("\"web\"", "\"nowhere\""),
                "HAProxy knows no backend nowhere with servers",
            ),
            (
                good.replace("\"s1\"", "\"s9\""),
                "HAProxy knows no server s9 in the backend web, only s1",
            ),
        ] {
            let run = Run::new();
            let begun = Instant::now();
            let failure = run.attempt(&step_with_warnings(&keys), TIME);
            let failure = failure.expect_err("refused");
            let is = (failure.kind, failure.retryable);
            assert_eq!(is, (ErrorKind::Refused, false), "{failure}");
            assert!(failure.cause.contains(said), "{failure}");
            assert!(!failure.to_string().contains("s3cret"), "{failure}");
            assert!(begun.elapsed() < TIME / 4);
            let withdrawn = run.recorder.withdrawn().len();
            assert_eq!(intents(&run).len(), withdrawn);
        }
        assert_eq!(haproxy.state("s1"), READY);
    }
}

#[test]
#[ignore = "needs haproxy; tests/run has it"]
fn maintenance_and_drain_of_an_administrator_stay() {
    let app = App::start("one");
    let (haproxy, api) = both("before", &[&app], Version::V3);
    let run = Run::new();
    for (state, bits) in [("maint", MAINT), ("drain", DRAIN)] {
        haproxy.set("s1", "ready");
        haproxy.set("s1", state);
        assert_eq!(run.attempt(&leave(&api), TIME), Ok(Outcome::AlreadyDone));
        assert!(intents(&run).is_empty());
        assert_eq!(haproxy.state("s1"), bits);
    }
}

#[test]
#[ignore = "needs haproxy; tests/run has it"]
fn a_balancer_that_hangs_or_restarts_in_the_middle_drains_it_again() {
    let app = App::start("one");
    let (mut haproxy, api) = both("restart", &[&app], Version::V3);
    let first = Asking::start(haproxy.port, "/hold");
    wait_until("it is held", || app.held() == 1);
    let mut run = Run::new();
    run.attempt_timeout = Duration::from_millis(500);
    let ended = std::thread::scope(|threads| {
        let (step, run) = (leave(&api), &run);
        let draining = threads.spawn(move || run.attempt(&step, TIME));
        wait_until("it waits", || !run.waiting().is_empty());
        let is_told = |words: &[&str]| {
            let waiting = run.waiting();
            waiting
                .last()
                .is_some_and(|it| words.iter().all(|word| it.contains(word)))
        };
        api.be_silent(true);
        wait_until("it is missed", || is_told(&["seen last: 1 session"]));
        api.be_silent(false);
        wait_until("it answers", || !is_told(&["seen last"]));
        api.be_gone(true);
        wait_until("it is missed", || is_told(&["seen last: 1 session"]));
        api.be_gone(false);
        // The API answers, and HAProxy behind it does not.
        haproxy.process.kill();
        wait_until("it is missed", || {
            is_told(&["status 500", "seen last: 1 session"])
        });
        haproxy.process.restart();
        haproxy.wait();
        wait_until("it is drained again", || haproxy.state("s1") == DRAIN);
        draining.join().expect("no panic")
    });
    assert_eq!(ended, Ok(Outcome::Done));
    let remarks = run.remarks();
    let said = format!(
        "web/s1 at {}/ was no longer drained: HAProxy was restarted",
        api.url
    );
    assert!(remarks[0].starts_with(&said), "{remarks:?}");
    app.release();
    assert!(first.end().is_err(), "its balancer was killed");
}

#[test]
fn an_answer_that_is_not_of_the_data_plane_api_is_told() {
    for (answers, kind, retryable) in [
        (&["404 page not found"][..], ErrorKind::Status, false),
        (&["200 <html>"][..], ErrorKind::Protocol, true),
        (&["200 {\"status\":\"ok\"}"][..], ErrorKind::Protocol, true),
        (&["200 []"][..], ErrorKind::Protocol, true),
    ] {
        let server = Server::answers(answers);
        let leave = step_with_warnings(&keys(&server.url(), ""));
        let failure = Run::new().attempt(&leave, Duration::from_secs(1));
        let failure = failure.expect_err("no such API");
        assert_eq!(
            (failure.kind, failure.retryable),
            (kind, retryable),
            "{failure}"
        );
    }
}

#[test]
#[ignore = "needs haproxy; tests/run has it"]
fn every_balancer_of_a_list_is_drained_and_reported() {
    let app = App::start("one");
    let all = ["list-a", "list-b"].map(|name| both(name, &[&app], Version::V3));
    let list = format!("[{:?}, {:?}]", all[0].1.url, all[1].1.url);
    let leave = keys(&all[0].1.url, "").replace(&format!("{:?}", all[0].1.url), &list);
    let run = Run::new();
    assert_eq!(
        run.attempt(&step_with_warnings(&leave), TIME),
        Ok(Outcome::Done)
    );
    assert_eq!(all.each_ref().map(|it| it.0.state("s1")), [DRAIN; 2]);
    let left = intents(&run);
    let url = |at: usize| left[at].what["url"].to_string();
    assert_eq!(left.len(), 2);
    for at in 0..2 {
        assert!(url(at).contains(&all[at].1.url) && !url(at).contains(&all[1 - at].1.url));
    }
}

#[test]
#[ignore = "needs haproxy; tests/run has it"]
fn the_manual_s_example_works_as_it_stands() {
    network::own();
    let hostname = farewell::sys::host::hostname().expect("a name");
    let apps = [App::start("one"), App::start("two")];
    let servers = [hostname.as_str(), "other"].into_iter().zip(&apps);
    let servers: String = servers
        .map(|(name, app)| format!("    server {name} {}\n", app.address()))
        .collect();
    let haproxy = Haproxy::start_at("dataplane-manual", "127.0.0.1:9999", &servers);
    let _api = DataPlaneStandIn::start_at(5555, &haproxy.admin(), Version::V3);
    let binary = Binary::new(
        "drain-dataplane-manual",
        &manual::example("drain-haproxy-dataplane"),
    );
    binary.dir.credential("dataplane-password", PASSWORD);
    let verb = |verb: &[&str]| {
        let mut command = binary.command(verb);
        command.env("CREDENTIALS_DIRECTORY", &binary.dir.0);
        let output = command.output().expect("it starts");
        let told =
            [output.stdout, output.stderr].map(|it| String::from_utf8_lossy(&it).into_owned());
        (output.status.code(), told.concat())
    };
    let (code, told) = verb(&["run"]);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(haproxy.state(&hostname), DRAIN);
    let kept = binary.dir.file("state");
    let found = std::process::Command::new("grep")
        .args(["-rq", PASSWORD, &kept])
        .status();
    assert_eq!(
        found.expect("grep").code(),
        Some(1),
        "the record has the password"
    );
    // Undone by the password as it is then, read anew.
    let (code, told) = verb(&["start", "--undo-only"]);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(haproxy.state(&hostname), READY);
}

#[test]
#[ignore = "needs haproxy; tests/run has it"]
fn who_sets_it_to_maintenance_after_the_drain_has_the_last_word() {
    let app = App::start("one");
    let (haproxy, api) = both("after", &[&app], Version::V3);
    let dir = crate::support::Dir::new("drain-dataplane-after");
    let file = dir.file("password");
    std::fs::write(&file, PASSWORD).expect("written");
    let secret = keys(&api.url, "").replace(PASSWORD, &format!("${{file:{file}}}"));
    let leave = step_with_warnings(&secret);
    let run = Run::new();
    assert_eq!(run.attempt(&leave, TIME), Ok(Outcome::Done));
    let left = intents(&run);
    haproxy.set("s1", "maint");
    assert_eq!(run.attempt(&undo(&left), TIME), Ok(Outcome::AlreadyDone));
    assert_eq!(haproxy.state("s1"), MAINT);
    assert!(run.remarks()[0].contains("set it to maint since"));
    haproxy.set("s1", "ready");
    assert_eq!(run.attempt(&undo(&left), TIME), Ok(Outcome::AlreadyDone));
    haproxy.set("s1", "drain");
    assert_eq!(run.attempt(&undo(&left), TIME), Ok(Outcome::Done));
    assert_eq!(haproxy.state("s1"), READY);
}
