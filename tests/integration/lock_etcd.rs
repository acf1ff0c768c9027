//! `lock` over real etcd servers.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::binary::{Binary, GENEROUS, step_of, wait_until};
use crate::support::case::SLACK;
use crate::support::etcd::Cluster;
use crate::support::locks::{Member, config, die_holding, undo};
use crate::support::loopback::{Middleman, ask};
use crate::support::ports::ports;
use crate::support::servers::{Server, dead_url};
use crate::support::{manual, network, problems};
use farewell::model::error::ErrorKind;
use farewell::step::Outcome;
use nix::sys::signal::Signal::{SIGCONT, SIGINT, SIGSTOP, SIGTERM};

const TIME: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(60);
/// What a start says that has nothing to do.
const NOTHING: &str = "farewell start: nothing is to be undone\n";
const SHORT: Duration = Duration::from_millis(1200);

fn keys(url: &str, more: &str) -> String {
    format!("via = \"etcd\"\nurl = {url:?}\nkey = \"l\"\n{more}")
}

/// The keys of the queue.
fn queue(etcd: &Cluster) -> Vec<String> {
    let text = etcd.ctl(&["get", "l/", "--prefix", "--keys-only"]);
    text.split_whitespace().map(str::to_owned).collect()
}

fn address(url: &str) -> std::net::SocketAddr {
    let address = url.strip_prefix("http://").expect("a URL");
    address.parse().expect("an address")
}

/// `etcdctl lock`, killed at the end.
struct Ctl(Child);

impl Ctl {
    /// A process that holds the lock for as long as it lives, once it has it.
    fn lock(etcd: &Cluster) -> Ctl {
        let mut command = Command::new("/usr/bin/etcdctl");
        command
            .env_clear()
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &etcd.urls[0], "lock", "l", "--ttl", "2"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Ctl(command.spawn().expect("etcdctl"))
    }

    fn give_back(mut self) {
        let pid = i32::try_from(self.0.id()).expect("a pid");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), SIGINT).expect("signalled");
        self.0.wait().expect("waited for");
    }
}

impl Drop for Ctl {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn keys_are_checked() {
    let with = |more: &str| problems(&format!("kind = \"lock\"\n{}", keys("http://h:1", more)));
    assert_eq!(with(""), "");
    assert_eq!(with("ttl = \"2s\"\nhold = \"1h\""), "");
    for wrong in [
        "ttl = \"1s\"",
        "ttl = \"2500ms\"",
        "hold = \"0s\"",
        "ttl = 30",
    ] {
        assert!(!with(wrong).is_empty(), "{wrong}");
    }
    assert!(with("hodl = \"1h\"").contains("did you mean `hold`"));
    let empty = problems("kind = \"lock\"\nvia = \"etcd\"\nurl = \"http://h:1\"\nkey = \"\"");
    assert!(empty.contains("must not be empty"), "{empty}");
    let plain = with("user = \"u\"\npassword = \"s3cret-etcd-plain\"");
    assert!(
        plain.contains("${credential:NAME}") && !plain.contains("s3cret"),
        "{plain}"
    );
}

#[test]
#[ignore = "needs etcd; tests/run has it"]
fn one_has_it_at_a_time_in_the_order_in_which_they_came() {
    let etcd = Cluster::start("lock-etcd-order", 1);
    let keys = keys(&etcd.urls[0], "");
    let first = Member::new("run-1", &keys);
    assert_eq!(first.take(TIME), Ok(Outcome::Done));
    assert_eq!(first.take(TIME), Ok(Outcome::AlreadyDone));
    assert_eq!(queue(&etcd).len(), 1);
    // Who waits says for whom, and leaves the queue when its time is over.
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
    assert!(
        late.run.waiting()[0].contains("the lock l, held by "),
        "{:?}",
        late.run.waiting()
    );
    assert_eq!((queue(&etcd).len(), late.pending().len()), (1, 0));
    assert_eq!(late.close(TIME), Ok(Outcome::AlreadyDone));

    let others: Vec<_> = (2..5)
        .map(|it| Member::new(&format!("run-{it}"), &keys))
        .collect();
    let order = std::sync::Mutex::new(Vec::new());
    thread::scope(|threads| {
        for (at, member) in others.iter().enumerate() {
            let order = &order;
            threads.spawn(move || {
                assert_eq!(member.take(Duration::from_secs(60)), Ok(Outcome::Done));
                order.lock().expect("no panic").push(at);
                assert_eq!(member.close(TIME), Ok(Outcome::Done));
            });
            wait_until("it is in the queue", || queue(&etcd).len() == at + 2);
            member.waits_for(&format!("{} before this one", at + 1));
        }
        assert_eq!(first.close(TIME), Ok(Outcome::Done));
    });
    assert_eq!(*order.lock().expect("no panic"), [0, 1, 2]);
    assert_eq!(first.close(TIME), Ok(Outcome::AlreadyDone));
    assert!(queue(&etcd).is_empty() && first.pending().is_empty());
    assert!(etcd.ctl(&["lease", "list"]).starts_with("found 0 leases"));
}

#[test]
#[ignore = "needs etcd; tests/run has it"]
fn it_is_the_lock_that_etcdctl_takes() {
    let etcd = Cluster::start("lock-etcd-ctl", 1);
    let member = Member::new("run-1", &keys(&etcd.urls[0], ""));
    let ctl = Ctl::lock(&etcd);
    wait_until("etcdctl has it", || queue(&etcd).len() == 1);
    thread::scope(|threads| {
        let taking = threads.spawn(|| member.take(LONG));
        member.waits_for("held by the key l/");
        let ctl_next = Ctl::lock(&etcd);
        wait_until("another one waits", || queue(&etcd).len() == 3);
        ctl.give_back();
        assert_eq!(taking.join().expect("no panic"), Ok(Outcome::Done));
        // The other one waits for it: the oldest key is the member's.
        let oldest = || {
            etcd.ctl(&[
                "get",
                "l/",
                "--prefix",
                "--sort-by=CREATE",
                "--limit",
                "1",
                "--print-value-only",
            ])
        };
        assert!(oldest().ends_with("(run run-1)"), "{}", oldest());
        assert_eq!(member.close(TIME), Ok(Outcome::Done));
        assert_eq!(queue(&etcd).len(), 1);
        let third = Member::new("run-3", &keys(&etcd.urls[0], ""));
        let next = threads.spawn(move || third.take(Duration::from_secs(60)));
        wait_until("it waits", || queue(&etcd).len() == 2);
        ctl_next.give_back();
        assert_eq!(next.join().expect("no panic"), Ok(Outcome::Done));
    });
}

#[test]
#[ignore = "needs etcd; tests/run has it"]
fn who_may_not_write_is_refused_and_leaves_nothing() {
    let etcd = Cluster::start("lock-etcd-auth", 1).with_auth();
    let with = |user: &str| {
        let account = format!("user = {user:?}\npassword = \"s3cret-{user}\"");
        Member::new("run-1", &keys(&etcd.urls[0], &account))
    };
    for member in [
        with("reader"),
        with("nobody"),
        Member::new("run-1", &keys(&etcd.urls[0], "")),
    ] {
        let failure = member.take(TIME).expect_err("refused");
        assert_eq!(
            (failure.kind, failure.retryable),
            (ErrorKind::Refused, false),
            "{failure}"
        );
        assert!(!failure.to_string().contains("s3cret"), "{failure}");
        assert!(member.pending().is_empty(), "{:?}", member.pending());
        assert_eq!(
            member.rehearse(TIME).expect_err("refused").kind,
            ErrorKind::Refused
        );
    }
    let root = with("root");
    let told = root.rehearse(TIME).expect("allowed");
    assert!(told.contains("not held"), "{told}");
    assert_eq!(root.take(TIME), Ok(Outcome::Done));
    let told = with("root").rehearse(TIME).expect("allowed");
    assert!(told.contains("(run run-1)"), "{told}");
    let what = format!("{:?}", root.pending().remove(0));
    assert!(!what.contains("s3cret-root"), "{what}");
    assert_eq!(root.renew(TIME), Ok(Outcome::Done));
    assert_eq!(root.close(TIME), Ok(Outcome::Done));
}

#[test]
#[ignore = "needs etcd; tests/run has it"]
fn a_rehearsal_changes_nothing() {
    let etcd = Cluster::start("lock-etcd-rehearse", 1);
    let member = Member::new("run-1", &keys(&etcd.urls[0], ""));
    let revision = || {
        let status = etcd.ctl(&["get", "x", "-w", "json"]);
        let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
        status["header"]["revision"].clone()
    };
    let before = revision();
    assert!(member.rehearse(TIME).expect("allowed").contains("not held"));
    assert_eq!(revision(), before);
    assert!(queue(&etcd).is_empty());
    assert!(etcd.ctl(&["lease", "list"]).starts_with("found 0 leases"));
    let nobody = Member::new("run-1", &keys(&dead_url(), ""));
    assert_eq!(
        nobody.rehearse(TIME).expect_err("nobody").kind,
        ErrorKind::Unreachable
    );
}

#[test]
#[ignore = "needs etcd; tests/run has it"]
fn a_server_that_stands_still_costs_the_timeout_and_one_that_comes_back_nothing() {
    let etcd = Cluster::start("lock-etcd-still", 1);
    let member = Member::new("run-1", &keys(&etcd.urls[0], ""));
    etcd.signal(0, SIGSTOP);
    let begun = Instant::now();
    let failure = member.take(SHORT).expect_err("no answer");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::TimedOut, true),
        "{failure}"
    );
    assert!(begun.elapsed() < SHORT + SLACK);
    etcd.signal(0, SIGCONT);
    assert_eq!(member.take_again(TIME), Ok(Outcome::Done));
    assert_eq!(queue(&etcd).len(), 1);
    // While it waits, too.
    let next = Member::new("run-2", &keys(&etcd.urls[0], ""));
    thread::scope(|threads| {
        let taking = threads.spawn(|| next.take_again(Duration::from_secs(60)));
        next.waits_for("1 before this one");
        etcd.signal(0, SIGSTOP);
        assert_eq!(
            member.close(SHORT).expect_err("no answer").kind,
            ErrorKind::TimedOut
        );
        assert_eq!(member.pending().len(), 1);
        etcd.signal(0, SIGCONT);
        assert!(member.close(TIME).is_ok());
        assert_eq!(taking.join().expect("no panic"), Ok(Outcome::Done));
    });
    assert!(member.pending().is_empty());
}

#[test]
#[ignore = "needs etcd; tests/run has it"]
fn a_server_that_dies_before_it_is_verified_is_asked_again() {
    let etcd = Cluster::start("lock-etcd-dies", 1);
    let between = Middleman::before(address(&etcd.urls[0]));
    let member = Member::new("run-1", &keys(&between.url(), ""));
    // The place is there, and nobody could look at it.
    between.die_after("POST /v3/kv/txn");
    let failure = member.take(TIME).expect_err("nobody");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Unreachable, true)
    );
    assert_eq!((queue(&etcd).len(), member.pending().len()), (1, 1));
    between.come_back();
    assert_eq!(member.take(TIME), Ok(Outcome::Done));
    assert_eq!(
        (queue(&etcd).len(), member.pending().len()),
        (1, 1),
        "its old place"
    );
    between.die_after("POST /v3/kv/txn");
    assert!(member.close(TIME).expect_err("nobody").retryable);
    assert_eq!((queue(&etcd).len(), member.pending().len()), (0, 1));
    between.come_back();
    assert_eq!(member.close(TIME), Ok(Outcome::Done));
    assert!(member.pending().is_empty());
    // What is no etcd's answer is no lock.
    for unexpected_answer in [
        "200 {}",
        "200 []",
        "200 {\"header\":{}}",
        "200 {\"header\":{},\"ID\":\"x\"}",
    ] {
        let server = Server::answers(&[unexpected_answer]);
        let failure = Member::new("run-1", &keys(&server.url(), ""))
            .take(TIME)
            .expect_err("strange");
        assert_eq!(
            failure.kind,
            ErrorKind::Protocol,
            "{unexpected_answer}: {failure}"
        );
    }
}

#[test]
#[ignore = "needs etcd; tests/run has it"]
fn a_place_that_has_expired_is_taken_again_and_a_lock_that_has_is_lost() {
    let etcd = Cluster::start("lock-etcd-lost", 1);
    let holder = Member::new("run-1", &keys(&etcd.urls[0], "ttl = \"4s\""));
    assert_eq!(holder.take(TIME), Ok(Outcome::Done));
    assert_eq!(holder.renew(TIME), Ok(Outcome::Done));
    let waiter = Member::new("run-2", &keys(&etcd.urls[0], "ttl = \"4s\""));
    let lease = |key: &str| key.strip_prefix("l/").expect("a key").to_owned();
    let own = queue(&etcd).remove(0);
    thread::scope(|threads| {
        let taking = threads.spawn(|| waiter.take(Duration::from_secs(60)));
        waiter.waits_for("1 before this one");
        let theirs = queue(&etcd)
            .into_iter()
            .find(|it| *it != own)
            .expect("a place");
        etcd.ctl(&["lease", "revoke", &lease(&theirs)]);
        wait_until("it joins again", || {
            queue(&etcd).iter().any(|it| *it != own && *it != theirs)
        });
        assert!(
            waiter.run.remarks()[0].contains("had expired"),
            "{:?}",
            waiter.run.remarks()
        );
        etcd.ctl(&["lease", "revoke", &lease(&own)]);
        assert_eq!(taking.join().expect("no panic"), Ok(Outcome::Done));
    });
    let lost = holder.renew(TIME).expect_err("lost");
    assert!(!lost.retryable && lost.cause.contains("is lost"), "{lost}");
    let lost = holder.close(TIME).expect_err("lost");
    assert!(!lost.retryable && lost.cause.contains("is lost"), "{lost}");
    assert_eq!(holder.pending(), []);
    // The other one's is as it was.
    assert_eq!(queue(&etcd).len(), 1);
    assert_eq!(waiter.pending().len(), 1);
}

#[test]
#[ignore = "needs etcd; tests/run has it"]
fn a_lock_that_is_given_up_while_it_is_waited_for_is_not_had_afterwards() {
    let etcd = Cluster::start("lock-etcd-left", 1);
    let holder = Member::new("run-1", &keys(&etcd.urls[0], ""));
    assert_eq!(holder.take(TIME), Ok(Outcome::Done));
    let left = Member::new("run-2", &keys(&etcd.urls[0], ""));
    thread::scope(|threads| {
        let taking = threads.spawn(|| left.take(Duration::from_secs(60)));
        left.waits_for("1 before this one");
        assert_eq!(left.close(TIME), Ok(Outcome::Done));
        assert_eq!(queue(&etcd).len(), 1);
        assert_eq!(holder.close(TIME), Ok(Outcome::Done));
        assert!(taking.join().expect("no panic").is_err());
    });
    assert!(queue(&etcd).is_empty() && left.pending().is_empty());
    // Told to stop, it leaves by itself.
    assert_eq!(
        Member::new("run-3", &keys(&etcd.urls[0], "")).take(TIME),
        Ok(Outcome::Done)
    );
    let told = Member::new("run-4", &keys(&etcd.urls[0], ""));
    thread::scope(|threads| {
        let taking = threads.spawn(|| told.take(Duration::from_secs(60)));
        told.waits_for("1 before this one");
        told.run.cancel.cancel(Duration::ZERO);
        let failure = taking.join().expect("no panic").expect_err("told to stop");
        assert!(failure.cause.contains("told to stop"), "{failure}");
    });
    assert_eq!((queue(&etcd).len(), told.pending().len()), (1, 0));
}

#[test]
#[ignore = "needs etcd; tests/run has it"]
fn a_machine_that_comes_back_keeps_its_lock_and_its_next_start_gives_it_back() {
    let etcd = Cluster::start("lock-etcd-hold", 1);
    let keys = keys(&etcd.urls[0], "ttl = \"2s\"\nhold = \"50s\"");
    let place = Binary::new("lock-etcd-hold-run", &config(&keys, "30s", "true"));
    let run = place.verb(&["run", "--trigger", "reboot"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let report = place.report();
    let release = step_of(&report, "release lock");
    assert_eq!(release["state"], "done");
    let kept = "kept while this machine comes back, for 50s at most: `farewell start` releases it";
    assert_eq!(release["reason"], kept);
    let key = queue(&etcd).remove(0);
    let found = etcd.ctl(&["get", &key, "-w", "json"]);
    let found: serde_json::Value = serde_json::from_str(&found).expect("JSON");
    let lease = found["kvs"][0]["lease"].as_i64().expect("a lease");
    let told = etcd.ctl(&["lease", "timetolive", &format!("{lease:x}")]);
    assert!(told.contains("TTL(50s)"), "{told}");
    assert!(
        etcd.ctl(&["lease", "list"]).starts_with("found 1 leases"),
        "the first one is gone"
    );
    // Nobody gets it until the machine is back; a start with nothing else to do gives it back, once.
    let next = Member::new("run-next", &keys);
    thread::scope(|threads| {
        let taking = threads.spawn(|| next.take(Duration::from_secs(60)));
        next.waits_for("1 before this one");
        assert_eq!(queue(&etcd).len(), 2);
        let start = place.verb(&["start", "--undo-only"]);
        assert_eq!(start.code, 0, "{}", start.stderr);
        assert!(
            start.stdout.contains("the lock l (key l/"),
            "{}",
            start.stdout
        );
        assert_eq!(taking.join().expect("no panic"), Ok(Outcome::Done));
    });
    assert_eq!(queue(&etcd).len(), 1);
    let again = place.verb(&["start", "--undo-only"]);
    assert_eq!((again.code, again.stdout.as_str()), (0, NOTHING));
    // The intent of one whose key has another value by now, or none, undoes nothing.
    let intent = next.pending().remove(0);
    let own = intent.what["own"].text().expect("a key").into_owned();
    etcd.ctl(&["put", &own, "somebody else's"]);
    assert_eq!(next.undo(&intent, TIME), Ok(Outcome::AlreadyDone));
    assert_eq!(queue(&etcd), std::slice::from_ref(&own));
    etcd.ctl(&["del", &own]);
    assert_eq!(next.undo(&intent, TIME), Ok(Outcome::AlreadyDone));
    assert!(
        undo(&intent)
            .rehearse(&next.context(TIME))
            .expect("asked")
            .contains("not there")
    );
}

#[test]
#[ignore = "needs etcd; tests/run has it"]
fn a_lock_is_renewed_while_it_is_held_and_a_holder_that_is_killed_blocks_nobody_for_longer_than_its_ttl()
 {
    let etcd = Cluster::start("lock-etcd-killed", 1);
    let keys = keys(&etcd.urls[0], "ttl = \"6s\"");
    let inside = Binary::new("lock-etcd-renewed", "");
    let flag = inside.dir.file("inside");
    let script = format!("mkdir {flag} && sleep 14 && rmdir {flag}");
    inside.configure(&config(&keys, "30s", &script));
    let next = Binary::new(
        "lock-etcd-next",
        &config(&keys, "60s", &format!("mkdir {flag}")),
    );
    let run = inside.start(&["run", "--trigger", "poweroff"]);
    wait_until("it is inside", || std::path::Path::new(&flag).exists());
    assert_eq!(
        next.verb(&["run", "--trigger", "poweroff"]).code,
        0,
        "two were inside"
    );
    assert!(run.end(GENEROUS).code == 0);

    let dead = die_holding("lock-etcd-dead", &keys);
    let begun = Instant::now();
    let next = Binary::new("lock-etcd-after", &config(&keys, "60s", "true"));
    assert_eq!(next.verb(&["run", "--trigger", "poweroff"]).code, 0);
    assert!(
        begun.elapsed() < Duration::from_secs(6) + SLACK,
        "{:?}",
        begun.elapsed()
    );
    let start = dead.verb(&["start", "--undo-only"]);
    assert_eq!(start.code, 0, "{}", start.stderr);
    assert!(start.stdout.contains("already-done"), "{}", start.stdout);
}

#[test]
#[ignore = "needs etcd; tests/run has it"]
fn a_run_that_is_told_to_stop_leaves_the_queue() {
    let etcd = Cluster::start("lock-etcd-term", 1);
    let keys = keys(&etcd.urls[0], "");
    let holder = Member::new("run-1", &keys);
    assert_eq!(holder.take(TIME), Ok(Outcome::Done));
    let place = Binary::new("lock-etcd-term-run", &config(&keys, "60s", "true"));
    let run = place.start(&["run", "--trigger", "poweroff"]);
    wait_until("it waits", || queue(&etcd).len() == 2);
    let pid = i32::try_from(run.pid).expect("a pid");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), SIGTERM).expect("signalled");
    assert_eq!(run.end(GENEROUS).code, 75);
    assert_eq!(queue(&etcd).len(), 1);
    // Whoever of the two comes first has left the queue: the step that waits, when it is cancelled, or the release.
    let report = place.report();
    let release = step_of(&report, "release lock");
    let state = release["state"].as_str();
    assert!(matches!(state, Some("done" | "already-done")), "{report:#}");
    assert_eq!(place.verb(&["start", "--undo-only"]).stdout, NOTHING);
}

/// The requests that etcd has begun to answer so far.
fn requests(url: &str) -> u64 {
    let text = ask(url, "GET /metrics", "", "").1;
    let counts = text
        .lines()
        .filter(|it| it.starts_with("grpc_server_started_total"));
    let counts = counts.filter_map(|it| it.rsplit(' ').next()?.parse::<f64>().ok());
    counts.sum::<f64>() as u64
}

#[test]
#[ignore = "needs etcd; tests/run has it"]
fn who_waits_asks_at_most_once_a_second() {
    let etcd = Cluster::start("lock-etcd-pace", 1);
    let url = &etcd.urls[0];
    let holder = Member::new("run-1", &keys(url, ""));
    assert_eq!(holder.take(TIME), Ok(Outcome::Done));
    let waiters: Vec<_> = (0..10)
        .map(|_| Member::new("run-2", &keys(url, "")))
        .collect();
    thread::scope(|threads| {
        for waiter in &waiters {
            threads.spawn(|| assert!(waiter.take(Duration::from_secs(13)).is_err()));
        }
        wait_until("all are in the queue", || queue(&etcd).len() == 11);
        let (begun, before) = (Instant::now(), requests(url));
        thread::sleep(Duration::from_secs(9));
        let (asked, time) = (requests(url) - before, begun.elapsed().as_secs_f64());
        println!("{asked} requests of 10 members in {time} s");
        assert!(
            (asked as f64) < 10.0 * time && asked > 0,
            "{asked} in {time} s"
        );
    });
    assert_eq!(queue(&etcd).len(), 1);
}

#[test]
#[ignore = "needs etcd; tests/run has it"]
fn without_a_quorum_it_is_waited_for_and_had_when_there_is_one() {
    let etcd = Cluster::start("lock-etcd-quorum", 3);
    let urls = format!(
        "[{:?}, {:?}, {:?}]",
        etcd.urls[0], etcd.urls[1], etcd.urls[2]
    );
    let keys = format!("via = \"etcd\"\nurl = {urls}\nkey = \"l\"");
    let member = Member::new("run-1", &keys);
    assert_eq!(member.take_again(TIME), Ok(Outcome::Done));
    assert_eq!(member.close(TIME), Ok(Outcome::Done));
    etcd.signal(1, SIGSTOP);
    etcd.signal(2, SIGSTOP);
    let next = Member::new("run-2", &keys);
    let failure = next.take(Duration::from_secs(3)).expect_err("no quorum");
    assert!(failure.retryable, "{failure}");
    etcd.signal(1, SIGCONT);
    assert_eq!(next.take_again(Duration::from_secs(60)), Ok(Outcome::Done));
    etcd.signal(2, SIGCONT);
    assert_eq!(next.close(TIME), Ok(Outcome::Done));
}

#[test]
#[ignore = "needs etcd; tests/run has it"]
fn a_server_that_stops_while_it_is_watched_costs_nobody_the_place() {
    let etcd = Cluster::start("lock-etcd-watched", 3);
    let keys = |order: [usize; 3]| {
        let urls = order.map(|it| format!("{:?}", etcd.urls[it])).join(", ");
        format!("via = \"etcd\"\nurl = [{urls}]\nkey = \"l\"")
    };
    let holder = Member::new("run-1", &keys([2, 1, 0]));
    assert_eq!(holder.take_again(TIME), Ok(Outcome::Done));
    let mut waiter = Member::new("run-2", &keys([0, 1, 2]));
    waiter.run.attempt_timeout = Duration::from_secs(6);
    thread::scope(|threads| {
        let taking = threads.spawn(|| waiter.take_again(LONG));
        waiter.waits_for("1 before this one");
        etcd.signal(0, SIGSTOP);
        let begun = Instant::now();
        while holder.close(TIME).is_err() {
            assert!(begun.elapsed() < LONG, "it was not given back");
        }
        assert_eq!(taking.join().expect("no panic"), Ok(Outcome::Done));
    });
    assert_eq!(waiter.pending().len(), 1, "its first place");
    etcd.signal(0, SIGCONT);
}

#[test]
#[ignore = "needs root and etcd; tests/run has it"]
fn the_manual_s_example_works_as_it_stands() {
    network::own();
    let mut own = vec![2379];
    own.extend(ports(1));
    let etcd = Cluster::start_at("lock-etcd-manual", &own);
    for line in manual::blocks("lock-etcd", "sh")[0].lines() {
        let line = line.replace("user add farewell", "user add farewell:s3cret-manual-etcd");
        let arguments: Vec<_> = line.split(' ').skip(1).collect();
        etcd.ctl(&arguments);
    }
    let etcd = etcd.with_auth();
    let place = Binary::new("lock-etcd-manual-run", &manual::example("lock-etcd"));
    place
        .dir
        .credential("etcd-password", "s3cret-manual-etcd\n");
    for (verb, state) in [("poweroff", "done"), ("reboot", "done")] {
        let mut command = place.command(&["run", "--trigger", verb]);
        let output = command
            .env("CREDENTIALS_DIRECTORY", &place.dir.0)
            .output()
            .expect("it starts");
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{told}");
        let report = place.report();
        assert_eq!(step_of(&report, "one-at-a-time")["state"], state, "{told}");
        assert_eq!(
            step_of(&report, "release one-at-a-time")["state"],
            state,
            "{told}"
        );
    }
    // The account is read anew for the undo.
    let mut command = place.command(&["start", "--undo-only"]);
    let output = command
        .env("CREDENTIALS_DIRECTORY", &place.dir.0)
        .output()
        .expect("it starts");
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    let left = etcd.ctl(&[
        "--user",
        "root:s3cret-root",
        "get",
        "farewell/web/",
        "--prefix",
    ]);
    assert_eq!(left, "");
    for record in fs::read_dir(place.dir.0.join("state/runs"))
        .expect("records")
        .flatten()
    {
        let text = fs::read_to_string(record.path()).unwrap_or_default();
        assert!(!text.contains("s3cret-manual-etcd"), "{text}");
    }
}
