//! `deregister` from real etcd servers.

use std::time::{Duration, Instant};

use crate::support::binary::{Binary, step_of, wait_until};
use crate::support::etcd::Cluster;
use crate::support::loopback::{Held, Middleman};
use crate::support::servers::{Server, dead_url};
use crate::support::{Run, problems, step};
use crate::support::{manual, network};
use farewell::model::error::ErrorKind;
use farewell::model::secrets;
use farewell::step::{Outcome, StepSpec};
use nix::sys::signal::Signal;

const TIME: Duration = Duration::from_secs(60);

fn leave(url: &str, keys: &str) -> StepSpec {
    let head = "kind = \"deregister\"\nregistry = \"etcd\"";
    step(&format!("{head}\nurl = {url}\n{keys}"))
}

fn one(url: &str, keys: &str) -> StepSpec {
    leave(&format!("{url:?}"), keys)
}

#[test]
fn what_to_leave_is_said_exactly_once() {
    let head = "kind = \"deregister\"\nregistry = \"etcd\"\nurl = \"http://h:2379\"\n";
    let with = |keys: &str| problems(&format!("{head}{keys}"));
    assert_eq!(with("key = \"k\""), "");
    assert!(with("").contains("is needed"), "{}", with(""));
    assert!(with("key = \"k\"\nmember = \"n\"").contains("only one of `key`, `member`"));
    for key in ["key", "prefix", "member"] {
        assert!(
            with(&format!("{key} = \"\"")).contains("everything"),
            "{key}"
        );
    }
    assert!(with("lease = \"xyz\"").contains("not a lease ID"));
    assert!(with("key = \"k\"\nuser = \"u\"").contains("`password`"));
    assert!(with("key = \"k\"\nleese = \"1\"").contains("did you mean `lease`?"));
}

#[test]
#[ignore = "needs etcd; tests/run has it"]
fn keys_and_leases_leave_and_are_gone_afterwards() {
    let etcd = Cluster::start("keys", 1);
    let run = Run::new();
    for key in ["/app/a", "/app/b", "/app", "/apq"] {
        etcd.ctl(&["put", key, "v"]);
    }
    let key = one(&etcd.urls[0], "key = \"/app/a\"");
    assert_eq!(run.attempt(&key, TIME), Ok(Outcome::Done));
    assert_eq!(run.attempt(&key, TIME), Ok(Outcome::AlreadyDone));
    assert_eq!(
        etcd.ctl(&["get", "", "--prefix", "--keys-only"]),
        "/app\n\n/app/b\n\n/apq"
    );

    let prefix = one(&etcd.urls[0], "prefix = \"/app\"");
    assert_eq!(run.attempt(&prefix, TIME), Ok(Outcome::Done));
    assert_eq!(run.attempt(&prefix, TIME), Ok(Outcome::AlreadyDone));
    assert_eq!(etcd.ctl(&["get", "", "--prefix", "--keys-only"]), "/apq");

    let id = etcd.lease(600);
    etcd.ctl(&["put", "/leased", "v", "--lease", &id]);
    let lease = one(&etcd.urls[0], &format!("lease = {id:?}"));
    assert_eq!(run.attempt(&lease, TIME), Ok(Outcome::Done));
    assert_eq!(run.attempt(&lease, TIME), Ok(Outcome::AlreadyDone));
    assert_eq!(etcd.ctl(&["get", "/leased"]), "");
    assert!(etcd.ctl(&["lease", "list"]).starts_with("found 0 leases"));

    // The only member cannot leave, and one that is not there has left.
    let failure = run
        .attempt(&one(&etcd.urls[0], "member = \"n1\""), TIME)
        .expect_err("the only member");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Refused, false)
    );
    assert!(failure.cause.contains("only voting member"), "{failure}");
    let gone = one(&etcd.urls[0], "member = \"n7\"");
    assert_eq!(run.attempt(&gone, TIME), Ok(Outcome::AlreadyDone));
    assert_eq!(run.remarks(), ["no n7 among the members n1"]);
}

#[test]
#[ignore = "needs etcd; tests/run has it"]
fn a_user_gets_a_token_and_others_are_refused() {
    let etcd = Cluster::start("auth", 1);
    etcd.ctl(&["put", "/k", "v"]);
    let early = "key = \"/none\"\nuser = \"root\"\npassword = \"s3cret-root\"";
    let run = Run::new();
    assert_eq!(
        run.attempt(&one(&etcd.urls[0], early), TIME),
        Ok(Outcome::AlreadyDone)
    );
    assert!(
        run.remarks()[0].contains("turned off"),
        "{:?}",
        run.remarks()
    );

    let etcd = etcd.with_auth();
    let refused = |keys: &str| {
        let step = one(&etcd.urls[0], &format!("key = \"/k\"\n{keys}"));
        let failure = run.attempt(&step, TIME).expect_err("refused");
        assert_eq!(
            (failure.kind, failure.retryable),
            (ErrorKind::Refused, false),
            "{failure}"
        );
        assert!(!failure.to_string().contains("s3cret"), "{failure}");
        failure.cause
    };
    assert!(refused("").contains("`user` and `password`"));
    assert!(
        refused("user = \"root\"\npassword = \"s3cret-wrong\"").contains("authentication failed")
    );
    assert!(
        refused("user = \"reader\"\npassword = \"s3cret-reader\"").contains("permission denied")
    );

    let key = one(
        &etcd.urls[0],
        "key = \"/k\"\nuser = \"root\"\npassword = \"s3cret-root\"",
    );
    assert_eq!(run.attempt(&key, TIME), Ok(Outcome::Done));
    assert_eq!(run.attempt(&key, TIME), Ok(Outcome::AlreadyDone));
}

#[test]
fn a_token_is_hidden() {
    let server = Server::answers(&[
        "200 {\"token\":\"tok-hidden.7\"}",
        "403 {\"code\":7,\"message\":\"not tok-hidden.7\"}",
    ]);
    let step = one(
        &server.url(),
        "key = \"k\"\nuser = \"u-tok\"\npassword = \"s3cret-tok\"",
    );
    let failure = Run::new().attempt(&step, TIME).expect_err("refused");
    assert_eq!(failure.cause, "not ********");
    assert_eq!(
        secrets::mask("tok-hidden.7 s3cret-tok"),
        "******** ********"
    );
    let requests = server.requests();
    assert!(requests[0].starts_with("POST /v3/auth/authenticate HTTP/1.1\r\n"));
    assert!(!requests[0].to_lowercase().contains("authorization"));
    assert!(
        requests[1]
            .to_lowercase()
            .contains("authorization: tok-hidden.7\r\n"),
        "{}",
        requests[1]
    );
}

#[test]
#[ignore = "needs etcd; tests/run has it"]
fn a_member_that_removed_itself_is_verified_at_the_others() {
    let mut etcd = Cluster::start("three", 3);
    let run = Run::new();
    // Only its own address is configured, which vanishes with it.
    let step = one(&etcd.urls[0], "member = \"n1\"");
    assert_eq!(run.retry(&step, TIME), Ok(Outcome::Done));
    // Each member answers from what it knows itself, and the one that is asked here may be behind.
    wait_until("the last one knows", || {
        etcd.ctl(&["member", "list"]).lines().count() == 2
    });
    let list = etcd.ctl(&["member", "list"]);
    assert!(!list.contains("n1"), "{list}");
    // Another attempt: the own address is dead, and the others are known.
    etcd.wait_for_end(0);
    assert_eq!(run.retry(&step, TIME), Ok(Outcome::Done));
    // Who comes later has nothing to remove.
    let late = one(&etcd.urls[1], "member = \"n1\"");
    assert_eq!(run.retry(&late, TIME), Ok(Outcome::AlreadyDone));
    // By its ID, at the address of another member.
    let line = list.lines().find(|line| line.contains("n2")).expect("n2");
    let id = line.split(',').next().expect("an ID");
    let step = leave(
        &format!("[{:?}, {:?}]", dead_url(), etcd.urls[2]),
        &format!("member = {id:?}"),
    );
    assert_eq!(run.retry(&step, TIME), Ok(Outcome::Done));
    wait_until("the last one is alone", || {
        !etcd.ctl(&["member", "list"]).contains(id)
    });
}

#[test]
#[ignore = "needs etcd; tests/run has it"]
fn a_removal_whose_answer_is_lost_is_done() {
    let etcd = Cluster::start("lost", 3);
    etcd.wait_for_changes();
    let address = etcd.urls[0].strip_prefix("http://").expect("a URL");
    let between = Middleman::before(address.parse().expect("an address"));
    between.hold("/v3/cluster/member/remove", Held::Answer);
    let step = one(&between.url(), "member = \"n1\"");
    assert_eq!(Run::new().retry(&step, TIME), Ok(Outcome::Done));
    between.wait();
}

#[test]
#[ignore = "needs etcd; tests/run has it"]
fn a_server_that_stands_still_costs_the_deadline_and_no_more() {
    let etcd = Cluster::start("stopped", 1);
    let run = Run::new();
    let step = one(&etcd.urls[0], "key = \"/k\"");
    assert_eq!(run.attempt(&step, TIME), Ok(Outcome::AlreadyDone));
    etcd.signal(0, Signal::SIGSTOP);
    let begun = Instant::now();
    let failure = run
        .attempt(&step, Duration::from_millis(700))
        .expect_err("no answer");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::TimedOut, true),
        "{failure}"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "{:?}",
        begun.elapsed()
    );
    etcd.signal(0, Signal::SIGCONT);
    assert_eq!(run.retry(&step, TIME), Ok(Outcome::AlreadyDone));
}

#[test]
fn a_key_that_comes_back_and_broken_json_are_failures_that_pass() {
    let back = Server::answers(&[
        "200 {\"header\":{},\"deleted\":\"1\"}",
        "200 {\"header\":{},\"count\":\"1\"}",
    ]);
    let failure = Run::new()
        .attempt(&one(&back.url(), "key = \"k\""), TIME)
        .expect_err("it is there again");
    assert!(
        failure.retryable && failure.cause.contains("writes them again"),
        "{failure}"
    );
    for text in ["200 {\"deleted\":", "200 []", "200", "200 {}"] {
        let broken = Server::answers(&[text]);
        let failure = Run::new()
            .attempt(&one(&broken.url(), "key = \"k\""), TIME)
            .expect_err("broken");
        assert_eq!(
            (failure.kind, failure.retryable),
            (ErrorKind::Protocol, true),
            "{failure}"
        );
    }
}

#[test]
fn what_is_no_gateway_is_a_status_and_an_unhealthy_cluster_passes() {
    let wrong = Server::answers(&["404 page not found"]);
    let failure = Run::new()
        .attempt(&one(&wrong.url(), "lease = \"1\""), TIME)
        .expect_err("no gateway");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Status, false),
        "{failure}"
    );
    let unhealthy =
        Server::answers(&["503 {\"error\":\"etcdserver: unhealthy cluster\",\"code\":14}"]);
    let failure = Run::new()
        .attempt(&one(&unhealthy.url(), "key = \"k\""), TIME)
        .expect_err("unhealthy");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Status, true),
        "{failure}"
    );
    assert!(failure.cause.contains("unhealthy cluster"));
}

#[test]
#[ignore = "needs root and etcd; tests/run has it"]
fn the_example_of_the_manual_leaves_with_what_the_manual_grants() {
    network::own();
    let etcd = Cluster::start_at("manual-etcd", &[2379, 2380]);
    let own = format!(
        "members/{}",
        farewell::sys::host::hostname().expect("a name")
    );
    etcd.ctl(&["put", &own, "10.0.0.1:80"]);
    etcd.ctl(&["put", "kept", "x"]);
    let grants = manual::blocks("deregister-etcd", "sh");
    for line in grants.iter().flat_map(|it| it.lines()) {
        let line = line.replace("user add farewell", "user add farewell:s3cret-manual");
        let arguments: Vec<_> = line.split(' ').skip(1).collect();
        etcd.ctl(&arguments);
    }
    let _etcd = etcd.with_auth();
    let place = Binary::new("manual-etcd-run", &manual::example("deregister-etcd"));
    place.dir.credential("etcd-password", "s3cret-manual\n");
    for state in ["done", "already-done"] {
        let output = place
            .command(&["run"])
            .env("CREDENTIALS_DIRECTORY", &place.dir.0)
            .output()
            .expect("it starts");
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{told}");
        assert_eq!(
            step_of(&place.report(), "leave-etcd")["state"],
            state,
            "{told}"
        );
    }
}
