//! What a reload of nginx comes to: under load, where nginx hangs or is killed, and where the command fails.

use std::time::Duration;

use farewell::model::error::ErrorKind;
use farewell::step::Outcome;
use farewell::sys::process_titles::Titled;
use nix::sys::signal::Signal;

use super::app::{App, Asking};
use super::haproxy::pair;
use super::load::{End, load};
use super::nginx::{Nginx, upstream};
use super::{TIME, intents, undo};
use crate::support::binary::{Binary, wait_until};
use crate::support::{Run, step};

#[test]
#[ignore = "needs nginx; tests/run has it"]
fn one_that_hangs_is_waited_for_and_one_that_is_killed_has_nothing_in_flight() {
    let apps = [App::start("one"), App::start("two")];
    let mut nginx = Nginx::start("hangs", &[&apps[0], &apps[1]]);
    nginx.process.signal(Signal::SIGSTOP);
    let run = Run::new();
    std::thread::scope(|threads| {
        let (step, run) = (nginx.leave(&apps[0]), &run);
        let draining = threads.spawn(move || run.attempt(&step, TIME));
        wait_until("it waits", || {
            let waiting = run.waiting();
            waiting.last().is_some_and(|it| {
                it.starts_with("2 old workers") && it.contains("not told to end yet")
            })
        });
        nginx.process.signal(Signal::SIGCONT);
        assert_eq!(draining.join().expect("no panic"), Ok(Outcome::Done));
    });
    let asking = Asking::start(nginx.port, "/hold");
    wait_until("it is held", || apps[1].held() == 1);
    std::thread::scope(|threads| {
        let (step, run) = (nginx.leave(&apps[1]), &run);
        let draining = threads.spawn(move || run.attempt(&step, TIME));
        wait_until("it waits for the request", || {
            let waiting = run.waiting();
            waiting
                .last()
                .is_some_and(|it| it.contains("with requests in flight"))
        });
        nginx.kill();
        assert_eq!(draining.join().expect("no panic"), Ok(Outcome::Done));
    });
    assert!(asking.end().is_err(), "its nginx was killed");
    apps[1].release();
    // Where it does not run the undo is the file alone.
    let left = intents(&run);
    for intent in &left {
        let undo = undo(std::slice::from_ref(intent));
        assert_eq!(run.attempt(&undo, TIME), Ok(Outcome::Done));
    }
    assert_eq!(nginx.text(), upstream(&[&apps[0], &apps[1]]));
    assert!(
        run.remarks()
            .last()
            .is_some_and(|it| it.starts_with("nginx is not running"))
    );
}

#[test]
#[ignore = "needs nginx; tests/run has it"]
fn a_reload_that_fails_is_made_again_by_the_next_attempt() {
    let apps = [App::start("one"), App::start("two")];
    let nginx = Nginx::start("reload", &[&apps[0], &apps[1]]);
    let good = nginx.keys(&apps[0].address(), "");
    let reload = good
        .lines()
        .find(|it| it.starts_with("reload"))
        .expect("a line");
    let mut test = nginx.argv().to_vec();
    test.push("-t".to_owned());
    let with =
        |argv: &str| step(&good.replace(reload, &format!("reload = {argv}\ntest = {test:?}")));
    let run = Run::new();
    let failure = run.attempt(&with(r#"["/bin/sh", "-c", "echo no; exit 3"]"#), TIME);
    let failure = failure.expect_err("it fails");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::ExitStatus, true)
    );
    assert_eq!(
        failure.to_string(),
        "/bin/sh -c echo no; exit 3: exited with 3: no"
    );
    // One that says it did, and did not, is told at the deadline.
    let failure = run
        .attempt(&with(r#"["true"]"#), Duration::from_secs(2))
        .expect_err("nothing happened");
    assert_eq!(failure.kind, ErrorKind::TimedOut);
    assert!(
        failure.subject.contains("2 old workers")
            && failure.subject.contains("not told to end yet"),
        "{failure}"
    );
    assert_eq!(intents(&run).len(), 1);
    let ended = run.attempt(&nginx.leave(&apps[0]), TIME);
    assert_eq!(ended, Ok(Outcome::AlreadyDone));
    assert!(nginx.answers().iter().all(|it| it == "two"));
    let failure = run
        .rehearse(&with(r#"["/no/such/program"]"#), TIME)
        .expect_err("no program");
    assert_eq!(
        (failure.kind, failure.subject.as_str()),
        (ErrorKind::Io, "/no/such/program")
    );
}

#[test]
#[ignore = "needs nginx; tests/run has it"]
fn no_request_fails_while_one_server_says_its_farewell_and_stops() {
    let apps = pair();
    let nginx = Nginx::start("load", &[&apps[0], &apps[1]]);
    let config = format!(
        "[farewell]\nbudget = \"170s\"\n[[step]]\nname = \"leave\"\ntimeout = \"160s\"\n{}\
         [[step]]\nname = \"stop\"\nkind = \"http\"\nurl = \"http://{}/stop\"\n",
        nginx.keys(&apps[0].address(), ""),
        apps[0].address()
    );
    let binary = Binary::new("drain-nginx-run-load", &config);
    let before = nginx.workers();
    let is_out = || {
        let now = nginx.workers();
        let is_old = |it: &Titled| before.iter().any(|old| old.pid == it.pid);
        let is_new = |it: &Titled| !is_old(it);
        let ends = |it: &Titled| it.title.ends_with("shutting down");
        now.iter().any(is_new) && now.iter().filter(|it| is_old(it)).all(ends)
    };
    let tally = load(nginx.port, &apps[0], End::Farewell(&binary, &is_out));
    println!("nginx, one of two servers taken down and stopped: {tally:?}");
    assert_eq!(tally.failed.into_inner(), 0);
}

#[test]
#[ignore = "needs nginx; tests/run has it"]
fn requests_fail_where_the_application_is_killed_without_a_farewell() {
    let apps = pair();
    let nginx = Nginx::start("killed", &[&apps[0], &apps[1]]);
    let tally = load(nginx.port, &apps[0], End::Killed);
    println!("nginx, one of two servers killed: {tally:?}");
    assert!(tally.failed.into_inner() > 0);
}
