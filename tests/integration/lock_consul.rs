//! `lock` over a real Consul agent.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::binary::{Binary, GENEROUS, step_of, wait_until};
use crate::support::case::SLACK;
use crate::support::consul::Consul;
use crate::support::locks::{Member, config, die_holding, undo};
use crate::support::loopback::{Loopback, Middleman, Reply};
use crate::support::servers::{Server, dead_url};
use crate::support::{manual, network, problems};
use farewell::model::error::ErrorKind;
use farewell::step::Outcome;
use nix::sys::signal::Signal::{SIGCONT, SIGSTOP, SIGTERM};
use serde_json::Value;

const TIME: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(1200);
/// What a start says that has nothing to do.
const NOTHING: &str = "farewell start: nothing is to be undone\n";

fn keys(url: &str, more: &str) -> String {
    format!("via = \"consul\"\nurl = {url:?}\nkey = \"l\"\n{more}")
}

fn json(consul: &Consul, request: &str, body: &str) -> Value {
    serde_json::from_str(&consul.ask(request, body).1).unwrap_or_default()
}

/// How many stand in the queue.
fn queue(consul: &Consul) -> usize {
    let keys = json(consul, "GET /v1/kv/l/?keys", "");
    keys.as_array().map_or(0, Vec::len)
}

/// The session that has the lock; empty where none has.
fn holder(consul: &Consul) -> String {
    let key = json(consul, "GET /v1/kv/l", "");
    key[0]["Session"].as_str().unwrap_or_default().to_owned()
}

fn sessions(consul: &Consul) -> Vec<Value> {
    let sessions = json(consul, "GET /v1/session/list", "");
    sessions.as_array().cloned().unwrap_or_default()
}

/// A session of somebody else's, as `curl` makes one.
fn session(consul: &Consul, body: &str) -> String {
    let session = json(consul, "PUT /v1/session/create", body);
    session["ID"].as_str().expect("an ID").to_owned()
}

fn acquire(consul: &Consul, session: &str) -> String {
    let said = consul.ask(&format!("PUT /v1/kv/l?acquire={session}"), "").1;
    said.trim_end().to_owned()
}

fn address(url: &str) -> std::net::SocketAddr {
    let address = url.strip_prefix("http://").expect("a URL");
    address.parse().expect("an address")
}

#[test]
fn keys_are_checked() {
    let with = |more: &str| problems(&format!("kind = \"lock\"\n{}", keys("http://h:1", more)));
    assert_eq!(with(""), "");
    assert_eq!(with("ttl = \"10s\"\nhold = \"24h\""), "");
    for wrong in ["ttl = \"9s\"", "ttl = \"10500ms\"", "hold = \"5s\""] {
        assert!(with(wrong).contains("from 10s to 24h"), "{wrong}");
    }
    for key in ["", "/l", "l/"] {
        let text = problems(&format!("kind = \"lock\"\nvia = \"consul\"\nkey = {key:?}"));
        assert!(text.contains("key of Consul"), "{key}: {text}");
    }
    assert!(with("token = \"s3cret-plain\"").contains("${credential:NAME}"));
}

#[test]
#[ignore = "needs Consul; tests/run has it"]
fn one_has_it_at_a_time_in_the_order_in_which_they_came() {
    let consul = Consul::start("lock-consul-order");
    let keys = keys(&consul.url, "");
    let first = Member::new("run-1", &keys);
    assert_eq!(first.take(TIME), Ok(Outcome::Done));
    assert_eq!(first.take(TIME), Ok(Outcome::AlreadyDone));
    assert_eq!((queue(&consul), sessions(&consul).len()), (1, 1));
    let made = &sessions(&consul)[0];
    assert_eq!(
        (&made["LockDelay"], &made["TTL"]),
        (&0.into(), &"30s".into())
    );
    assert_eq!(first.renew(TIME), Ok(Outcome::Done));

    let late = Member::new("run-late", &keys);
    let failure = late.waits_in_vain(|| drop(first.renew(LONG)));
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::TimedOut, false)
    );
    assert!(
        failure.cause.contains("(run run-1), 1 before this one"),
        "{failure}"
    );
    assert_eq!((queue(&consul), sessions(&consul).len()), (1, 1));
    assert!(late.pending().is_empty());
    assert_eq!(late.close(TIME), Ok(Outcome::AlreadyDone));

    let others: Vec<_> = (2..5)
        .map(|it| Member::new(&format!("run-{it}"), &keys))
        .collect();
    let order = std::sync::Mutex::new(Vec::new());
    thread::scope(|threads| {
        for (at, member) in others.iter().enumerate() {
            let order = &order;
            threads.spawn(move || {
                assert_eq!(member.take(LONG), Ok(Outcome::Done));
                order.lock().expect("no panic").push(at);
                assert_eq!(member.close(TIME), Ok(Outcome::Done));
            });
            wait_until("it is in the queue", || queue(&consul) == at + 2);
            member.waits_for(&format!("{} before this one", at + 1));
        }
        assert_eq!(first.close(TIME), Ok(Outcome::Done));
    });
    assert_eq!(*order.lock().expect("no panic"), [0, 1, 2]);
    assert_eq!(first.close(TIME), Ok(Outcome::AlreadyDone));
    assert!(first.pending().is_empty() && sessions(&consul).is_empty());
    assert_eq!((queue(&consul), holder(&consul)), (0, String::new()));
}

#[test]
#[ignore = "needs Consul; tests/run has it"]
fn it_waits_for_whoever_has_acquired_the_key() {
    let consul = Consul::start("lock-consul-foreign");
    let other = session(&consul, "{\"TTL\":\"60s\"}");
    assert_eq!(acquire(&consul, &other), "true");
    let member = Member::new("run-1", &keys(&consul.url, ""));
    thread::scope(|threads| {
        let taking = threads.spawn(|| member.take(LONG));
        member.waits_for(&format!("held by the session {other}"));
        consul.ask(&format!("PUT /v1/kv/l?release={other}"), "");
        assert_eq!(taking.join().expect("no panic"), Ok(Outcome::Done));
    });
    // And the other one waits for it.
    assert_eq!(acquire(&consul, &other), "false");
    assert_eq!(member.close(TIME), Ok(Outcome::Done));
    assert_eq!(acquire(&consul, &other), "true");
    // Destroyed alone, with Consul's own lock delay, the key is kept back for a while.
    let next = Member::new("run-2", &keys(&consul.url, ""));
    thread::scope(|threads| {
        let taking = threads.spawn(|| next.take(LONG));
        next.waits_for("held by the session");
        consul.ask(&format!("PUT /v1/session/destroy/{other}"), "");
        next.waits_for("not held, but delayed by Consul");
        assert_eq!(taking.join().expect("no panic"), Ok(Outcome::Done));
    });
}

#[test]
#[ignore = "needs Consul; tests/run has it"]
fn who_may_not_write_is_refused_and_leaves_nothing() {
    let consul = Consul::start_with_acls("lock-consul-acls");
    let (reads, sessions_alone) = (
        "11111111-2222-3333-4444-555555555555",
        "66666666-2222-3333-4444-555555555555",
    );
    consul.token(reads, "key_prefix \"\" { policy = \"read\" }");
    consul.token(
        sessions_alone,
        "session_prefix \"\" { policy = \"write\" }\nkey_prefix \"\" { policy = \"read\" }",
    );
    for token in [
        "",
        "token = \"s3cret-unknown\"",
        &format!("token = {reads:?}"),
        &format!("token = {sessions_alone:?}"),
    ] {
        let member = Member::new("run-1", &keys(&consul.url, token));
        let failure = member.take(TIME).expect_err("refused");
        assert_eq!(
            (failure.kind, failure.retryable),
            (ErrorKind::Refused, false),
            "{token}: {failure}"
        );
        assert!(!failure.to_string().contains("s3cret"), "{failure}");
        assert!(member.pending().is_empty());
        let asked = member.rehearse(TIME).expect_err("refused");
        assert_eq!(asked.kind, ErrorKind::Refused, "{token}: {asked}");
    }
    assert!(sessions(&consul).is_empty() && queue(&consul) == 0);
}

#[test]
#[ignore = "needs Consul; tests/run has it"]
fn a_rehearsal_says_who_has_it_and_changes_nothing() {
    let consul = Consul::start("lock-consul-rehearse");
    let member = Member::new("run-1", &keys(&consul.url, ""));
    let told = member.rehearse(TIME).expect("allowed");
    assert!(told.contains("not held"), "{told}");
    let there = json(&consul, "GET /v1/kv/?keys", "");
    assert_eq!(there.as_array().map(Vec::len), Some(0), "{there}");
    assert!(sessions(&consul).is_empty());
    assert_eq!(member.take(TIME), Ok(Outcome::Done));
    let told = Member::new("run-2", &keys(&consul.url, "")).rehearse(TIME);
    assert!(told.expect("allowed").contains("(run run-1)"));
    let nobody = Member::new("run-1", &keys(&dead_url(), ""));
    assert_eq!(
        nobody.rehearse(TIME).expect_err("nobody").kind,
        ErrorKind::Unreachable
    );
}

#[test]
#[ignore = "needs Consul; tests/run has it"]
fn a_server_that_stands_still_costs_the_timeout_and_one_that_comes_back_nothing() {
    let consul = Consul::start("lock-consul-still");
    let member = Member::new("run-1", &keys(&consul.url, ""));
    consul.signal(SIGSTOP);
    let begun = Instant::now();
    let failure = member.take(SHORT).expect_err("no answer");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::TimedOut, true),
        "{failure}"
    );
    assert!(begun.elapsed() < SHORT + SLACK);
    consul.signal(SIGCONT);
    assert_eq!(member.take_again(TIME), Ok(Outcome::Done));
    let next = Member::new("run-2", &keys(&consul.url, ""));
    thread::scope(|threads| {
        let taking = threads.spawn(|| next.take_again(LONG));
        next.waits_for("1 before this one");
        consul.signal(SIGSTOP);
        assert_eq!(
            member.close(SHORT).expect_err("no answer").kind,
            ErrorKind::TimedOut
        );
        assert_eq!(member.pending().len(), 1);
        consul.signal(SIGCONT);
        assert!(member.close(TIME).is_ok());
        assert_eq!(taking.join().expect("no panic"), Ok(Outcome::Done));
    });
    assert!(member.pending().is_empty());
}

#[test]
#[ignore = "needs Consul; tests/run has it"]
fn a_server_that_dies_before_it_is_verified_is_asked_again() {
    let consul = Consul::start("lock-consul-dies");
    let between = Middleman::before(address(&consul.url));
    let member = Member::new("run-1", &keys(&between.url(), ""));
    between.die_after("PUT /v1/kv/l/");
    let failure = member.take(TIME).expect_err("nobody");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Unreachable, true)
    );
    assert_eq!((queue(&consul), member.pending().len()), (1, 1));
    between.come_back();
    assert_eq!(member.take(TIME), Ok(Outcome::Done));
    assert_eq!(
        (queue(&consul), member.pending().len()),
        (1, 1),
        "its old place"
    );
    between.die_after("PUT /v1/session/destroy/");
    assert!(member.close(TIME).expect_err("nobody").retryable);
    assert_eq!(
        (holder(&consul), member.pending().len()),
        (String::new(), 1)
    );
    between.come_back();
    assert_eq!(member.close(TIME), Ok(Outcome::Done));
    assert!(member.pending().is_empty());
    // Answers that Consul does not give.
    for unexpected_answer in [
        "200 {}",
        "200 []",
        "200 {\"ID\":\"../x\"}",
        "200 {\"ID\":7}",
    ] {
        let server = Server::answers(&[unexpected_answer]);
        let failure = Member::new("run-1", &keys(&server.url(), ""))
            .take(TIME)
            .expect_err("strange");
        assert_eq!(
            (failure.kind, failure.retryable),
            (ErrorKind::Protocol, true),
            "{unexpected_answer}: {failure}"
        );
    }
    let wrong = Server::answers(&["404 page not found"]);
    let failure = Member::new("run-1", &keys(&wrong.url(), ""))
        .take(TIME)
        .expect_err("no Consul");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Status, false),
        "{failure}"
    );
}

/// A stand-in whose blocking queries do not block, as behind a proxy that drops the query.
#[test]
fn a_query_that_does_not_block_makes_no_storm() {
    let queries = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = queries.clone();
    let own = "b3cd18dd-9c7d-715b-fcea-94ce880b0eac";
    let other = "00000000-9c7d-715b-fcea-94ce880b0eac";
    let key = move |session: &str, index: u32| {
        format!(
            "{{\"Key\":\"l/{session}\",\"Session\":\"{session}\",\"Value\":null,\"CreateIndex\":{index},\"ModifyIndex\":{index}}}"
        )
    };
    let stand_in = Loopback::start(move |asked| {
        if asked.value("index").is_some() {
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            return Reply::text("200 OK", &format!("[{}]", key(other, 1)));
        }
        match asked.path.as_str() {
            "/v1/session/create" => Reply::text("200 OK", &format!("{{\"ID\":\"{own}\"}}")),
            "/v1/kv/l/" => Reply::text("200 OK", &format!("[{},{}]", key(other, 1), key(own, 2))),
            path if path.starts_with("/v1/kv/l") && asked.method == "GET" => Reply::Answer(
                "404 Not Found",
                "X-Consul-Index: 3\r\n".to_owned(),
                String::new(),
            ),
            _ => Reply::text("200 OK", "true"),
        }
    });
    let member = Member::new("run-1", &keys(&stand_in.url(), ""));
    let failure = member.take(Duration::from_secs(3)).expect_err("held");
    assert!(failure.cause.contains("1 before this one"), "{failure}");
    assert!(queries.load(std::sync::atomic::Ordering::SeqCst) <= 4);
}

#[test]
#[ignore = "needs Consul; tests/run has it"]
fn a_place_that_has_expired_is_taken_again_and_a_lock_that_has_is_lost() {
    let consul = Consul::start("lock-consul-lost");
    let held = Member::new("run-1", &keys(&consul.url, "ttl = \"10s\""));
    assert_eq!(held.take(TIME), Ok(Outcome::Done));
    let own = holder(&consul);
    let waiter = Member::new("run-2", &keys(&consul.url, "ttl = \"10s\""));
    thread::scope(|threads| {
        let taking = threads.spawn(|| waiter.take(LONG));
        waiter.waits_for("1 before this one");
        let others = || -> Vec<String> {
            let ids = sessions(&consul).into_iter();
            let ids = ids.filter_map(|it| it["ID"].as_str().map(str::to_owned));
            ids.filter(|it| *it != own).collect()
        };
        let theirs = others().remove(0);
        consul.ask(&format!("PUT /v1/session/destroy/{theirs}"), "");
        wait_until("it joins again", || others().iter().any(|it| *it != theirs));
        assert!(
            waiter.run.remarks()[0].contains("had expired"),
            "{:?}",
            waiter.run.remarks()
        );
        consul.ask(&format!("PUT /v1/session/destroy/{own}"), "");
        assert_eq!(taking.join().expect("no panic"), Ok(Outcome::Done));
    });
    let lost = held.renew(TIME).expect_err("lost");
    assert!(!lost.retryable && lost.cause.contains("is lost"), "{lost}");
    let lost = held.close(TIME).expect_err("lost");
    assert!(!lost.retryable && lost.cause.contains("is lost"), "{lost}");
    assert_eq!(held.pending(), []);
    // The other one's is as it was.
    assert_eq!((queue(&consul), holder(&consul).is_empty()), (1, false));
    assert_eq!(waiter.close(TIME), Ok(Outcome::Done));
}

#[test]
#[ignore = "needs Consul; tests/run has it"]
fn a_lock_that_is_given_up_while_it_is_waited_for_is_not_had_afterwards() {
    let consul = Consul::start("lock-consul-left");
    let held = Member::new("run-1", &keys(&consul.url, ""));
    assert_eq!(held.take(TIME), Ok(Outcome::Done));
    let left = Member::new("run-2", &keys(&consul.url, ""));
    thread::scope(|threads| {
        let taking = threads.spawn(|| left.take(LONG));
        left.waits_for("1 before this one");
        assert_eq!(left.close(TIME), Ok(Outcome::Done));
        assert_eq!(queue(&consul), 1);
        assert_eq!(held.close(TIME), Ok(Outcome::Done));
        assert!(taking.join().expect("no panic").is_err());
    });
    assert_eq!((queue(&consul), sessions(&consul).len()), (0, 0));
    assert!(left.pending().is_empty());
    // A run that is told to stop leaves the queue, too.
    assert_eq!(
        Member::new("run-3", &keys(&consul.url, "")).take(TIME),
        Ok(Outcome::Done)
    );
    let place = Binary::new(
        "lock-consul-term-run",
        &config(&keys(&consul.url, ""), "60s", "true"),
    );
    let run = place.start(&["run", "--trigger", "poweroff"]);
    wait_until("it waits", || queue(&consul) == 2);
    let pid = i32::try_from(run.pid).expect("a pid");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), SIGTERM).expect("signalled");
    assert_eq!(run.end(GENEROUS).code, 75);
    assert_eq!((queue(&consul), sessions(&consul).len()), (1, 1));
    assert_eq!(place.verb(&["start", "--undo-only"]).stdout, NOTHING);
}

#[test]
#[ignore = "needs Consul; tests/run has it"]
fn a_machine_that_comes_back_keeps_its_lock_and_its_next_start_gives_it_back() {
    let consul = Consul::start("lock-consul-hold");
    let keys = keys(&consul.url, "hold = \"50s\"");
    let place = Binary::new("lock-consul-hold-run", &config(&keys, "30s", "true"));
    let run = place.verb(&["run", "--trigger", "reboot"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let report = place.report();
    let release = step_of(&report, "release lock");
    assert_eq!(release["state"], "done");
    let kept = "kept while this machine comes back, for 50s at most: `farewell start` releases it";
    assert_eq!(release["reason"], kept);
    let held = sessions(&consul);
    assert_eq!((held.len(), &held[0]["TTL"]), (1, &"50s".into()));
    assert_eq!(
        (queue(&consul), holder(&consul)),
        (0, held[0]["ID"].as_str().expect("an ID").to_owned())
    );
    let next = Member::new("run-next", &keys);
    thread::scope(|threads| {
        let taking = threads.spawn(|| next.take(LONG));
        next.waits_for("held by ");
        assert!(!holder(&consul).is_empty() && queue(&consul) == 1);
        let start = place.verb(&["start", "--undo-only"]);
        assert_eq!(start.code, 0, "{}", start.stderr);
        assert!(
            start.stdout.contains("the lock l (session "),
            "{}",
            start.stdout
        );
        assert_eq!(taking.join().expect("no panic"), Ok(Outcome::Done));
    });
    let again = place.verb(&["start", "--undo-only"]);
    assert_eq!((again.code, again.stdout.as_str()), (0, NOTHING));
    // What others have left since stays.
    let intent = next.pending().remove(0);
    assert_eq!(next.close(TIME), Ok(Outcome::Done));
    let other = Member::new("run-other", &keys);
    assert_eq!(other.take(TIME), Ok(Outcome::Done));
    assert_eq!(next.undo(&intent, TIME), Ok(Outcome::AlreadyDone));
    assert!(
        undo(&intent)
            .rehearse(&next.context(TIME))
            .expect("asked")
            .contains("not held by")
    );
    assert_eq!((queue(&consul), holder(&consul).is_empty()), (1, false));
}

#[test]
#[ignore = "needs Consul; tests/run has it"]
fn a_holder_that_is_killed_blocks_nobody_for_longer_than_twice_its_ttl() {
    let consul = Consul::start("lock-consul-killed");
    let keys = keys(&consul.url, "ttl = \"10s\"");
    let dead = die_holding("lock-consul-dead", &keys);
    let begun = Instant::now();
    let next = Binary::new("lock-consul-after", &config(&keys, "60s", "true"));
    assert_eq!(next.verb(&["run", "--trigger", "poweroff"]).code, 0);
    assert!(
        begun.elapsed() < Duration::from_secs(20) + SLACK,
        "{:?}",
        begun.elapsed()
    );
    let start = dead.verb(&["start", "--undo-only"]);
    assert_eq!(start.code, 0, "{}", start.stderr);
    assert!(start.stdout.contains("already-done"), "{}", start.stdout);
}

#[test]
#[ignore = "needs Consul; tests/run has it"]
fn a_dead_holder_s_next_start_gives_it_back_at_once() {
    let consul = Consul::start("lock-consul-undone");
    let keys = keys(&consul.url, "ttl = \"1h\"");
    let dead = die_holding("lock-consul-undone-dead", &keys);
    assert!(!holder(&consul).is_empty());
    assert_eq!(dead.verb(&["start", "--undo-only"]).code, 0);
    assert_eq!(
        (holder(&consul), sessions(&consul).len()),
        (String::new(), 0)
    );
}

#[test]
#[ignore = "needs root and Consul; tests/run has it"]
fn the_manual_s_example_works_as_it_stands() {
    network::own();
    let consul = Consul::start_at("lock-consul-manual", 8500, true);
    let token = "77777777-2222-3333-4444-555555555555";
    let policy = &manual::blocks("lock-consul", "sh")[0];
    consul.token(token, policy.split('\'').nth(1).expect("rules in quotes"));
    let place = Binary::new("lock-consul-manual-run", &manual::example("lock-consul"));
    place.dir.credential("consul-token", token);
    for verb in [
        &["run", "--trigger", "poweroff"][..],
        &["run", "--trigger", "reboot"],
        &["start", "--undo-only"],
        &["rehearse"],
    ] {
        let mut command = place.command(verb);
        let output = command
            .env("CREDENTIALS_DIRECTORY", &place.dir.0)
            .output()
            .expect("it starts");
        let told = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(output.status.code(), Some(0), "{verb:?}: {told}");
        assert!(!told.contains(token), "{told}");
    }
    assert!(sessions(&consul).is_empty());
    for record in fs::read_dir(place.dir.0.join("state/runs"))
        .expect("records")
        .flatten()
    {
        let text = fs::read_to_string(record.path()).unwrap_or_default();
        assert!(!text.contains(token), "{text}");
    }
}
