//! `wait-safe` of etcd: quorum and leadership, at real servers and at a stand-in that misbehaves.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::binary::{Binary, GENEROUS, step_of};
use crate::support::etcd::Cluster;
use crate::support::ports::ports;
use crate::support::stand_in_etcd::{Manner, StandInEtcd};
use crate::support::{Dir, Run, problems, step};
use farewell::config::facts::Facts;
use farewell::model::deadline::{Deadline, Reason};
use farewell::model::error::{ErrorKind, Failure};
use farewell::model::trigger::Trigger;
use farewell::step::{Outcome, StepSpec};
use farewell::sys::http::{Endpoint, Http, Request, TlsFiles};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const TIME: Duration = Duration::from_secs(60);

fn keys(url: &str, more: &str) -> String {
    format!("kind = \"wait-safe\"\ncluster = \"etcd\"\nurl = \"{url}\"\n{more}")
}

fn wait(url: &str) -> StepSpec {
    step(&keys(url, ""))
}

fn config(keys: &str, timeout: &str) -> String {
    format!(
        "[[step]]\nname = \"safe\"\ntimeout = \"{timeout}\"\nattempt-timeout = \"600ms\"\n{keys}\n"
    )
}

/// Where everybody is: terms and revisions, which reading does not change.
fn state(etcd: &Cluster) -> Value {
    let all = etcd.urls.join(",");
    let text = etcd.ctl(&["endpoint", "status", "-w", "json", "--endpoints", &all]);
    let members: Value = serde_json::from_str(&text).expect("JSON");
    let members = members.as_array().expect("a list").iter();
    let of = |it: &Value| {
        let status = &it["Status"];
        json!([
            status["leader"],
            status["raftTerm"],
            status["header"]["revision"]
        ])
    };
    members.map(of).collect()
}

#[test]
fn the_address_is_the_member_s_own() {
    let list = problems(
        "kind = \"wait-safe\"\ncluster = \"etcd\"\nurl = [\"http://a:1\", \"http://b:1\"]",
    );
    assert!(list.contains("no list"), "{list}");
    assert_eq!(problems(&keys("http://a:1", "")), "");
    assert!(problems(&keys("http://a:1", "member = \"n1\"")).contains("unknown key"));
}

#[test]
#[ignore = "needs etcd; tests/run has it"]
fn nothing_survives_the_only_member_and_of_two_the_other_one_survives() {
    let mut run = Run::new();
    let one = Cluster::start("safe-one", 1);
    let failure = run
        .attempt(&wait(&one.urls[0]), TIME)
        .expect_err("the only one");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Refused, false),
        "{failure}"
    );
    assert!(
        failure
            .cause
            .contains("n1: it is the cluster's only voting member"),
        "{failure}"
    );
    let said = Binary::new("safe-one-rehearse", &config(&keys(&one.urls[0], ""), "20s"))
        .verb(&["rehearse"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stdout.contains("only voting member"), "{said:?}");

    let two = Cluster::start("safe-two", 2);
    assert_eq!(run.attempt(&wait(&two.urls[0]), TIME), Ok(Outcome::Done));
    assert!(run.remarks()[0].contains("n1 must be removed from the cluster before it is stopped"));
    assert_eq!(two.leader(), 1);
    // A machine that comes back stays a member.
    run.facts = Facts::new(Trigger::Reboot, "run-1");
    let failure = run
        .attempt(&wait(&two.urls[0]), TIME)
        .expect_err("no quorum meanwhile");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Refused, false),
        "{failure}"
    );
    assert!(
        failure.cause.contains("needs both for its quorum"),
        "{failure}"
    );
}

#[test]
#[ignore = "needs etcd; tests/run has it"]
fn a_member_of_three_is_spared_and_the_leader_hands_over_first() {
    let etcd = Cluster::start("safe-three", 3);
    let run = Run::new();
    let leader = etcd.leader();
    let follower = (leader + 1) % 3;
    let (before, config) = (state(&etcd), config(&keys(&etcd.urls[leader], ""), "20s"));
    let said = Binary::new("safe-three-rehearse", &config).verb(&["rehearse"]);
    assert_eq!(said.code, 0, "{said:?}");
    let (own, of) = (
        format!("member n{}", leader + 1),
        "one of 3 that vote, and leads; enough",
    );
    assert!(
        said.stdout.contains(&own) && said.stdout.contains(of),
        "{said:?}"
    );
    assert_eq!(
        run.attempt(&wait(&etcd.urls[follower]), TIME),
        Ok(Outcome::Done)
    );
    assert_eq!(
        state(&etcd),
        before,
        "a rehearsal and a follower change nothing"
    );

    let step = wait(&etcd.urls[leader]);
    assert_eq!(run.attempt(&step, TIME), Ok(Outcome::Done));
    assert_ne!(etcd.leader(), leader);
    let after = state(&etcd);
    // Again, as after a reply that was lost.
    assert_eq!(run.attempt(&step, TIME), Ok(Outcome::Done));
    assert_eq!(
        run.attempt(&wait(&etcd.urls[leader]), TIME),
        Ok(Outcome::Done)
    );
    assert_eq!(state(&etcd), after);
    assert!(run.recorder.intents().is_empty(), "nothing sticks");
}

#[test]
#[ignore = "needs etcd; tests/run has it"]
fn without_a_quorum_of_the_others_it_waits_and_names_who_is_missing() {
    let mut etcd = Cluster::start("safe-lost", 3);
    let leader = etcd.leader();
    let (own, still) = ((leader + 1) % 3, (leader + 2) % 3);
    let name = format!("n{}", still + 1);
    let run = Run::new();
    let step = wait(&etcd.urls[own]);
    etcd.signal(still, Signal::SIGSTOP);
    let time = Duration::from_secs(4);
    let begun = Instant::now();
    let failure = run.attempt(&step, time).expect_err("no quorum");
    assert!(begun.elapsed() < time + crate::support::case::SLACK);
    assert_eq!(failure.kind, ErrorKind::TimedOut, "{failure}");
    let told = format!("2 of the 2 others must be well, and 1 is: {name} does not answer");
    assert!(failure.cause.contains(&told), "{failure}");
    assert!(
        run.waiting().iter().any(|it| it.contains(&told)),
        "{:?}",
        run.waiting()
    );
    // A cluster that is not safe at the moment is no failure of a rehearsal.
    let said = Binary::new(
        "safe-lost-rehearse",
        &config(&keys(&etcd.urls[own], ""), "20s"),
    )
    .verb(&["rehearse"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.stdout.contains("not safe at the moment") && said.stdout.contains(&name),
        "{said:?}"
    );

    let run = Run::new();
    std::thread::scope(|threads| {
        let waits = threads.spawn(|| run.attempt(&step, TIME));
        until(|| !run.waiting().is_empty());
        etcd.signal(still, Signal::SIGCONT);
        assert_eq!(waits.join().expect("no panic"), Ok(Outcome::Done));
    });

    // The member itself dies between two attempts, and the others go on without it.
    let run = Run::new();
    etcd.signal(still, Signal::SIGSTOP);
    let failure = run.attempt(&step, Duration::from_millis(500));
    assert_eq!(failure.expect_err("no quorum").kind, ErrorKind::TimedOut);
    etcd.signal(own, Signal::SIGKILL);
    etcd.signal(still, Signal::SIGCONT);
    assert_eq!(run.retry(&step, TIME), Ok(Outcome::Done));
    assert!(
        run.remarks()[0].contains("does not answer any more"),
        "{:?}",
        run.remarks()
    );
    etcd.wait_for_end(own);
    // Who asks for the first time cannot know that.
    let failure = Run::new()
        .attempt(&wait(&etcd.urls[own]), TIME)
        .expect_err("dead");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Unreachable, true),
        "{failure}"
    );
}

fn until(condition: impl Fn() -> bool) {
    let end = Instant::now() + TIME;
    while !condition() {
        assert!(Instant::now() < end, "not so after 60 s");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
#[ignore = "needs etcd; tests/run has it"]
fn a_member_that_hangs_costs_the_timeout_and_one_that_comes_back_nothing() {
    let ports = ports(6);
    let url = format!("http://127.0.0.1:{}", ports[0]);
    let binary = Binary::new("safe-hangs", &config(&keys(&url, ""), "80s"));
    let run = binary.start(&["run"]);
    binary.wait_for("safe", "running");
    let etcd = Cluster::start_at("safe-late", &ports);
    assert_eq!(run.end(GENEROUS).code, 0, "{:#}", binary.report());
    etcd.signal(0, Signal::SIGSTOP);
    binary.configure(&config(&keys(&url, ""), "1500ms"));
    let ended = binary.verb(&["run"]);
    let report = binary.report();
    assert_eq!(step_of(&report, "safe")["state"], "timed-out", "{report:#}");
    assert!(
        ended.took < crate::support::case::TIMEOUT + 2 * crate::support::case::SLACK,
        "{:?}",
        ended.took
    );
}

#[test]
#[ignore = "needs etcd; tests/run has it"]
fn who_may_not_is_refused() {
    let etcd = Cluster::start("safe-auth", 3).with_auth();
    let leader = etcd.leader();
    let url = &etcd.urls[leader];
    let run = Run::new();
    let wrong = step(&keys(url, "user = \"root\"\npassword = \"s3cret-wrong\""));
    let failure = run.attempt(&wrong, TIME).expect_err("refused");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Refused, false),
        "{failure}"
    );
    assert!(!failure.to_string().contains("s3cret"), "{failure}");
    let said = Binary::new(
        "safe-auth-rehearse",
        &config(
            &keys(url, "user = \"root\"\npassword = \"s3cret-wrong\""),
            "20s",
        ),
    );
    assert_eq!(said.verb(&["rehearse"]).code, 1);
    assert_eq!(etcd.ctl(&["--user", "root:s3cret-root", "get", "k"]), "");
    let right = step(&keys(url, "user = \"root\"\npassword = \"s3cret-root\""));
    assert_eq!(run.retry(&right, TIME), Ok(Outcome::Done));
    assert_ne!(etcd.leader(), leader);
}

#[test]
#[ignore = "needs etcd; tests/run has it"]
fn an_account_that_cannot_be_proved_without_a_quorum_does_not_hide_who_is_missing() {
    let etcd = Cluster::start("safe-unproven", 3).with_auth();
    let leader = etcd.leader();
    let mut run = Run::new();
    run.attempt_timeout = Duration::from_secs(1);
    let keys = keys(
        &etcd.urls[leader],
        "user = \"root\"\npassword = \"s3cret-root\"",
    );
    let step = step(&keys);
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    others
        .iter()
        .for_each(|it| etcd.signal(*it, Signal::SIGSTOP));
    let failure = run
        .attempt(&step, Duration::from_secs(30))
        .expect_err("no quorum");
    assert!(failure.retryable, "{failure}");
    for other in others {
        let told = format!("n{} does not answer", other + 1);
        assert!(failure.cause.contains(&told), "{failure}");
        assert!(
            run.waiting().iter().any(|it| it.contains(&told)),
            "{:?}",
            run.waiting()
        );
    }
    others
        .iter()
        .for_each(|it| etcd.signal(*it, Signal::SIGCONT));
    assert_eq!(run.retry(&step, TIME), Ok(Outcome::Done));
    assert_ne!(etcd.leader(), leader);
}

fn at_stand_in(manner: Manner, time: Duration) -> (Result<Outcome, Failure>, StandInEtcd, Run) {
    let etcd = StandInEtcd::start(manner);
    let run = Run::new();
    let ended = run.attempt(&wait(&etcd.url()), time);
    (ended, etcd, run)
}

#[test]
fn what_a_healthy_cluster_does_not_do() {
    // The leader changes between the question and the transfer.
    let (ended, etcd, _) = at_stand_in(Manner::LeaderChanges, TIME);
    assert_eq!((ended, etcd.transfers()), (Ok(Outcome::Done), 1));
    // The answer comes before the work is done; it is looked at no faster than five times a second.
    let (ended, etcd, run) = at_stand_in(Manner::AnswersEarly { after: 3 }, TIME);
    assert_eq!((ended, etcd.transfers()), (Ok(Outcome::Done), 3));
    assert!(
        run.waiting()
            .iter()
            .any(|it| it.contains("to take the lead"))
    );
    let (ended, etcd, _) = at_stand_in(
        Manner::AnswersEarly { after: u32::MAX },
        Duration::from_secs(2),
    );
    assert_eq!(ended.expect_err("it leads on").kind, ErrorKind::TimedOut);
    assert!(etcd.transfers() <= 12, "{}", etcd.transfers());
    // It is not allowed.
    let (ended, _, _) = at_stand_in(Manner::Forbids, TIME);
    let failure = ended.expect_err("forbidden");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Refused, false),
        "{failure}"
    );
    // The transfer is made, and the connection closed without an answer.
    let (ended, _, _) = at_stand_in(Manner::DiesAfterTransfer, TIME);
    assert_eq!(ended, Ok(Outcome::Done));
    // One of the others has told this member's address for its own, as the default of etcd is.
    let (ended, _, run) = at_stand_in(Manner::SameAddress, Duration::from_secs(5));
    assert!(
        ended
            .expect_err("nobody knows")
            .cause
            .contains("at which another member answers")
    );
    assert_eq!(run.remarks(), Vec::<String>::new());
    // The address is that of several members.
    let (ended, _, _) = at_stand_in(Manner::Wanders, TIME);
    let failure = ended.expect_err("another one");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Config, false),
        "{failure}"
    );
    // It is in the list of members no more.
    let (ended, _, run) = at_stand_in(Manner::Removed, TIME);
    assert_eq!(ended, Ok(Outcome::AlreadyDone));
    assert!(run.remarks()[0].contains("not in the cluster any more"));
    let (ended, _, run) = at_stand_in(Manner::Learner, TIME);
    assert_eq!(ended, Ok(Outcome::Done));
    assert!(run.remarks()[0].contains("learner"));
    for nonsense in [
        "",
        "{",
        "[]",
        "{}",
        "{\"header\":{}}",
        "{\"header\":{\"member_id\":7}}",
    ] {
        let (ended, _, _) = at_stand_in(Manner::Says(nonsense), TIME);
        let failure = ended.expect_err(nonsense);
        assert_eq!(
            (failure.kind, failure.retryable),
            (ErrorKind::Protocol, true),
            "{failure}"
        );
    }
}

/// Writes numbered keys one after another, each to one address after the other until it is acknowledged.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<(u64, u64)>,
    last: Arc<Mutex<u64>>,
}

impl Writer {
    fn start(urls: &[String]) -> Writer {
        let urls: Vec<_> = urls
            .iter()
            .map(|it| Endpoint::parse_base(it).expect("a URL"))
            .collect();
        let (stop, last) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(0)));
        let (stopped, acknowledged) = (stop.clone(), last.clone());
        let thread = std::thread::spawn(move || {
            let (http, mut at, mut number, mut failures) = (Http::new(), 0, 0, 0);
            while !stopped.load(Ordering::SeqCst) {
                number += 1;
                let text = base64(&format!("{number:08}"));
                let put = Request::json("POST", "/v3/kv/put", &json!({"key": text, "value": text}));
                loop {
                    let deadline = Deadline::after(Duration::from_secs(3), Reason::Attempt);
                    match http.send(&urls[at], &TlsFiles::default(), &put, deadline) {
                        Ok(answer) if answer.is_success() => break,
                        _ => {
                            failures += 1;
                            at = (at + 1) % urls.len();
                            std::thread::sleep(Duration::from_millis(5));
                        }
                    }
                }
                *acknowledged.lock().expect("no panic") = number;
            }
            (number, failures)
        });
        Writer { stop, thread, last }
    }

    /// Waits until another fifty writes are acknowledged.
    fn goes_on(&self) {
        let now = *self.last.lock().expect("no panic");
        until(|| *self.last.lock().expect("no panic") >= now + 50);
    }

    /// How many writes were acknowledged, and how many attempts failed.
    fn finish(self) -> (u64, u64) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("no panic")
    }
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[test]
#[ignore = "needs etcd; tests/run has it"]
fn a_cluster_shrinks_to_one_and_no_write_is_lost() {
    let mut etcd = Cluster::start("safe-shrinks", 3);
    let writer = Writer::start(&etcd.urls);
    let mut left: Vec<usize> = vec![0, 1, 2];
    while left.len() > 1 {
        writer.goes_on();
        // The leader first, which is the hardest.
        let leader = etcd.leader();
        let (url, name, pid) = (
            &etcd.urls[leader],
            format!("n{}", leader + 1),
            etcd.pid(leader),
        );
        let config = format!(
            "[farewell]\nbudget = \"100s\"\n\
             [[step]]\nname = \"safe\"\nkind = \"wait-safe\"\ncluster = \"etcd\"\nurl = \"{url}\"\n\
             [[step]]\nname = \"leave\"\nkind = \"deregister\"\nregistry = \"etcd\"\nurl = \"{url}\"\nmember = \"{name}\"\n\
             on-failure = \"stop\"\n\
             [[step]]\nname = \"stop\"\nkind = \"command\"\nargv = [\"/bin/kill\", \"{pid}\"]\n"
        );
        let binary = Binary::new(&format!("safe-shrinks-{name}"), &config);
        let ended = binary.verb(&["run"]);
        let report = binary.report();
        assert_eq!(ended.code, 0, "{report:#}");
        assert_eq!(step_of(&report, "safe")["state"], "done", "{report:#}");
        etcd.wait_for_end(leader);
        left.retain(|it| *it != leader);
        writer.goes_on();
    }
    let (written, failures) = writer.finish();
    println!("{written} writes acknowledged, {failures} attempts failed and were made again");
    let last = &etcd.urls[left[0]];
    let all = etcd.ctl(&["--endpoints", last, "get", "0", "9", "--print-value-only"]);
    let kept: Vec<u64> = all
        .lines()
        .map(|it| it.parse().expect("a number"))
        .collect();
    assert_eq!(kept, (1..=written).collect::<Vec<_>>());
    assert_eq!(
        etcd.ctl(&["--endpoints", last, "member", "list"])
            .lines()
            .count(),
        1
    );
}

#[test]
#[ignore = "needs root and etcd; tests/run has it"]
fn the_manual_s_example_runs_as_it_stands() {
    // In a thread of its own, which alone is in the other network.
    let test = || {
        crate::support::network::own();
        let ports = [2379, 12379, 22379, 2380, 12380, 22380];
        let etcd = Cluster::start_at("safe-manual", &ports).with_auth();
        let credentials = Dir::new("safe-manual-credentials");
        credentials.credential("etcd-password", "s3cret-root");
        let binary = Binary::new(
            "safe-manual-run",
            &crate::support::manual::example("wait-safe-etcd"),
        );
        for verb in ["check", "rehearse", "run"] {
            let mut command = binary.command(&[verb]);
            let output = command
                .env("CREDENTIALS_DIRECTORY", &credentials.0)
                .output()
                .expect("it starts");
            let told = format!("{output:?}");
            // A rehearsal also asks whether systemd would run it, which it does not here.
            assert!(verb == "rehearse" || output.status.success(), "{told}");
            assert!(
                verb != "rehearse" || told.contains("one of 3 that vote"),
                "{told}"
            );
        }
        assert_ne!(etcd.leader(), 0);
        let report = binary.report();
        assert_eq!(report["steps"][0]["state"], "done", "{report:#}");
    };
    std::thread::spawn(test).join().expect("no panic");
}
