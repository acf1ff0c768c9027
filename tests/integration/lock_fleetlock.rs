//! `lock` over stand-ins for the two FleetLock servers.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::binary::{Binary, GENEROUS, step_of, wait_until};
use crate::support::case::SLACK;
use crate::support::fleetlock_stand_in::{FleetLock, Make, Trouble};
use crate::support::locks::{Member, config, die_holding, undo};
use crate::support::servers::{Manner, Server, dead_url};
use crate::support::{manual, network, problems};
use farewell::model::error::ErrorKind;
use farewell::model::trigger::Trigger;
use farewell::step::Outcome;
use nix::sys::signal::Signal::SIGTERM;

const TIME: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(1500);
const MAKES: [Make; 2] = [Make::Airlock, Make::Poseidon];
/// What a start says that has nothing to do.
const NOTHING: &str = "farewell start: nothing is to be undone\n";

fn keys(url: &str, id: &str) -> String {
    format!("via = \"fleetlock\"\nurl = {url:?}\nid = {id:?}")
}

fn member(server: &FleetLock, id: &str) -> Member {
    Member::new("run-1", &keys(&server.url, id))
}

/// The requests so far: who asked for what, and the status.
fn heard(server: &FleetLock) -> Vec<String> {
    let heard = server.heard().into_iter();
    let what = |is_release| if is_release { "gives" } else { "asks" };
    heard
        .map(|it| format!("{} {} {}", it.id, what(it.is_release), it.status))
        .collect()
}

#[test]
fn keys_are_checked() {
    let with = |more: &str| {
        problems(&format!(
            "kind = \"lock\"\nvia = \"fleetlock\"\nurl = \"http://h:1\"\n{more}"
        ))
    };
    assert_eq!(with(""), "");
    assert_eq!(with("group = \"a.B-9\"\nid = \"x\""), "");
    for group in ["", "a b", "a/b", "ä", "a_b"] {
        assert!(
            with(&format!("group = {group:?}")).contains("is not a group"),
            "{group}"
        );
    }
    assert!(with("id = \"\"").contains("must not be empty"));
    assert!(with("ttl = \"30s\"").contains("unknown key"));
}

#[test]
fn one_has_the_slot_and_the_next_one_waits_for_it() {
    for make in MAKES {
        let server = FleetLock::start(make);
        let first = member(&server, "a");
        assert_eq!(first.take(TIME), Ok(Outcome::Done));
        assert_eq!(first.take(TIME), Ok(Outcome::AlreadyDone));
        let second = member(&server, "b");
        let failure = second.waits_in_vain(|| ());
        assert_eq!(
            (failure.kind, failure.retryable),
            (ErrorKind::TimedOut, false)
        );
        let words = match make {
            Make::Airlock => "it says: all 1 semaphore slots currently locked",
            Make::Poseidon => "it says: reboot lease lock unavailable, held by a",
        };
        assert!(failure.cause.contains(words), "{failure}");
        assert!(
            second.run.waiting()[0].contains(words),
            "{:?}",
            second.run.waiting()
        );
        // It was told that it has nothing, so that nothing is to be given back.
        assert!(second.pending().is_empty());
        assert_eq!(second.close(TIME), Ok(Outcome::AlreadyDone));
        assert_eq!(server.holder("default").as_deref(), Some("a"));
        thread::scope(|threads| {
            let third = member(&server, "c");
            let taking = threads.spawn(move || (third.take(LONG), third));
            wait_until("it asks", || {
                heard(&server).iter().any(|it| it.starts_with("c asks"))
            });
            assert_eq!(first.close(TIME), Ok(Outcome::Done));
            let (taken, third) = taking.join().expect("no panic");
            assert_eq!(taken, Ok(Outcome::Done));
            assert_eq!(server.holder("default").as_deref(), Some("c"));
            assert_eq!(third.close(TIME), Ok(Outcome::Done));
        });
        assert_eq!(server.holder("default"), None);
        assert_eq!(first.close(TIME), Ok(Outcome::AlreadyDone));
        assert!(first.pending().is_empty());
    }
}

#[test]
#[ignore = "needs systemd-id128; tests/run has it"]
fn the_id_is_zincati_s_unless_another_one_is_given() {
    let server = FleetLock::start(Make::Poseidon);
    let member = Member::new(
        "run-1",
        &format!("via = \"fleetlock\"\nurl = {:?}", server.url),
    );
    assert_eq!(member.take(TIME), Ok(Outcome::Done));
    let systemd = Command::new("systemd-id128")
        .args([
            "machine-id",
            "--app-specific=de35106b6ec24688b63afddaa156679b",
        ])
        .output()
        .expect("systemd-id128 (apt install systemd)");
    let id = String::from_utf8(systemd.stdout).expect("UTF-8");
    assert_eq!(server.holder("default").as_deref(), Some(id.trim_end()));
}

#[test]
fn a_refusal_is_final_and_leaves_nothing() {
    for (make, group, words) in [
        (Make::Airlock, "other", "unknown_group: unknown group"),
        (Make::Airlock, "default", "status 401"),
        (Make::Poseidon, "default", "status 401"),
    ] {
        let server = FleetLock::start(make);
        if words == "status 401" {
            server.trouble(
                "pre-reboot",
                Trouble::Says("401 Unauthorized", String::new()),
            );
        }
        let member = Member::new(
            "run-1",
            &format!("{}\ngroup = {group:?}", keys(&server.url, "a")),
        );
        let failure = member.take(TIME).expect_err("refused");
        assert_eq!(
            (failure.kind, failure.retryable),
            (ErrorKind::Refused, false),
            "{failure}"
        );
        assert!(failure.cause.contains(words), "{failure}");
        assert!(member.pending().is_empty());
        assert_eq!(member.close(TIME), Ok(Outcome::AlreadyDone));
        assert!(!heard(&server).iter().any(|it| it.contains("gives")));
    }
}

#[test]
fn other_errors_pass_and_cost_no_more_than_a_request_a_second() {
    let server = FleetLock::start(Make::Airlock);
    for body in [
        "{\"kind\":\"failed_sem_init\",\"value\":\"etcd is away\"}",
        "<html>",
        "",
    ] {
        server.trouble(
            "pre-reboot",
            Trouble::Says("500 Internal Server Error", body.to_owned()),
        );
    }
    let conflict =
        "{\"kind\":\"failed_lock\",\"value\":\"conflict on semaphore detected, aborting\"}";
    server.trouble(
        "pre-reboot",
        Trouble::Says("500 Internal Server Error", conflict.to_owned()),
    );
    let member = member(&server, "a");
    assert_eq!(member.take_again(LONG), Ok(Outcome::Done));
    let at: Vec<_> = server.heard().into_iter().map(|it| it.at).collect();
    assert_eq!(at.len(), 5);
    assert!(
        at[4] - at[0] >= Duration::from_millis(3900),
        "{:?}",
        at[4] - at[0]
    );
    // Two that meet when they give back are no release, either.
    server.trouble(
        "steady-state",
        Trouble::Says("500 Internal Server Error", conflict.to_owned()),
    );
    assert!(member.close(TIME).expect_err("a conflict").retryable);
    assert_eq!(member.pending().len(), 1);
    assert_eq!(member.close(TIME), Ok(Outcome::Done));
}

#[test]
fn what_has_no_answer_may_be_held_and_is_given_back() {
    // It is held, and nobody was told.
    let server = FleetLock::start(Make::Poseidon);
    server.trouble("pre-reboot", Trouble::Mute(Duration::ZERO));
    let mut member = member(&server, "a");
    member.run.attempt_timeout = Duration::from_millis(300);
    let failure = member.take(TIME).expect_err("no answer");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::TimedOut, true),
        "{failure}"
    );
    assert_eq!(server.holder("default").as_deref(), Some("a"));
    assert_eq!(member.pending().len(), 1);
    assert_eq!(member.close(TIME), Ok(Outcome::Done));
    assert_eq!(server.holder("default"), None);
    assert!(member.pending().is_empty());
    // Taken by the next attempt, it was held all the time.
    let mut again = self::member(&server, "b");
    server.trouble("pre-reboot", Trouble::Mute(Duration::ZERO));
    again.run.attempt_timeout = Duration::from_millis(300);
    assert_eq!(again.take_again(TIME), Ok(Outcome::Done));
    // The answer to the release is missing: it is asked for again, and until then nothing is taken for granted.
    server.trouble("steady-state", Trouble::Mute(Duration::ZERO));
    assert!(again.close(TIME).expect_err("no answer").retryable);
    assert_eq!(again.pending().len(), 1);
    assert_eq!(again.close(TIME), Ok(Outcome::Done));
    assert!(again.pending().is_empty());
}

#[test]
fn a_release_does_not_overtake_the_request_that_is_under_way() {
    let server = FleetLock::start(Make::Airlock);
    let mut member = member(&server, "a");
    // Taken late, and the answer is lost: the thread is left behind meanwhile.
    server.trouble("pre-reboot", Trouble::Mute(Duration::from_millis(700)));
    member.run.attempt_timeout = Duration::from_millis(1200);
    thread::scope(|threads| {
        let taking = threads.spawn(|| member.take(TIME));
        wait_until("it is under way", || !server.heard().is_empty());
        assert_eq!(member.close(TIME), Ok(Outcome::Done));
        assert_eq!(server.holder("default"), None);
        assert!(taking.join().expect("no panic").is_err());
    });
    assert_eq!(server.holder("default"), None);
    assert_eq!(heard(&server).last().expect("a request"), "a gives 200");
    assert!(member.pending().is_empty());
    // One that has less time sends it all the same, and does not say that it is done.
    let member = self::member(&server, "b");
    server.trouble("pre-reboot", Trouble::Silent);
    thread::scope(|threads| {
        let taking = threads.spawn(|| member.take(Duration::from_secs(5)));
        wait_until("it is under way", || {
            heard(&server).iter().any(|it| it == "b asks 0")
        });
        let failure = member.close(Duration::from_secs(1)).expect_err("under way");
        assert!(
            failure.retryable && failure.cause.contains("still in progress"),
            "{failure}"
        );
        assert_eq!(heard(&server).last().expect("a request"), "b gives 200");
        assert_eq!(member.pending().len(), 1);
        assert!(taking.join().expect("no panic").is_err());
    });
}

#[test]
fn a_server_that_hangs_costs_the_timeout_and_one_that_comes_back_nothing() {
    let silent = Server::start(Manner::Silent);
    let begun = Instant::now();
    let failure = Member::new("run-1", &keys(&silent.url(), "a"))
        .take(SHORT)
        .expect_err("no answer");
    assert_eq!(failure.kind, ErrorKind::TimedOut, "{failure}");
    assert!(begun.elapsed() < SHORT + SLACK);
    let server = FleetLock::start(Make::Airlock);
    server.trouble("pre-reboot", Trouble::Silent);
    let mut member = member(&server, "a");
    member.run.attempt_timeout = Duration::from_millis(300);
    assert_eq!(member.take_again(TIME), Ok(Outcome::Done));
}

#[test]
fn poseidon_s_refusal_to_let_go_is_told() {
    let server = FleetLock::start(Make::Poseidon);
    let member = member(&server, "a");
    assert_eq!(member.take(TIME), Ok(Outcome::Done));
    let said = "{\"kind\":\"internal_error\",\"value\":\"error uncordoning node\"}";
    server.trouble(
        "steady-state",
        Trouble::Says("500 Internal Server Error", said.to_owned()),
    );
    let failure = member.close(TIME).expect_err("not let go");
    assert_eq!((failure.kind, failure.retryable), (ErrorKind::Status, true));
    assert!(
        failure.cause.contains("no Kubernetes node has this id"),
        "{failure}"
    );
    assert_eq!(member.pending().len(), 1);
    // An administrator gave it to another one meanwhile.
    server.give("default", "b");
    assert_eq!(member.close(TIME), Ok(Outcome::AlreadyDone));
    assert!(
        member.run.remarks()[0].contains("held by b"),
        "{:?}",
        member.run.remarks()
    );
    assert_eq!(server.holder("default").as_deref(), Some("b"));
}

#[test]
fn a_rehearsal_takes_nothing() {
    for make in MAKES {
        let server = FleetLock::start(make);
        let told = member(&server, "a").rehearse(TIME).expect("an answer");
        assert!(
            told.contains("a FleetLock server answers; a would ask"),
            "{told}"
        );
        assert!(server.holder("default").is_none() && server.heard().is_empty());
    }
    let other = |server: &Server| {
        Member::new("run-1", &keys(&server.url(), "a"))
            .rehearse(TIME)
            .expect_err("another server")
    };
    assert_eq!(
        other(&Server::answers(&["200 hello"])).kind,
        ErrorKind::Protocol
    );
    assert_eq!(
        other(&Server::answers(&["404 page not found"])).kind,
        ErrorKind::Status
    );
    assert_eq!(other(&Server::answers(&["401"])).kind, ErrorKind::Refused);
    let nobody = Member::new("run-1", &keys(&dead_url(), "a"));
    assert_eq!(
        nobody.rehearse(TIME).expect_err("nobody").kind,
        ErrorKind::Unreachable
    );
}

#[test]
fn a_machine_that_comes_back_keeps_its_slot_and_its_next_start_gives_it_back() {
    let server = FleetLock::start(Make::Airlock);
    let place = Binary::new(
        "lock-fleetlock-hold",
        &config(&keys(&server.url, "a"), "30s", "true"),
    );
    let run = place.verb(&["run", "--trigger", "reboot"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let report = place.report();
    let release = step_of(&report, "release lock");
    assert_eq!(release["state"], "done");
    let kept = "kept while this machine comes back: `farewell start` releases it";
    assert_eq!(release["reason"], kept);
    assert_eq!(server.holder("default").as_deref(), Some("a"));
    let start = place.verb(&["start", "--undo-only"]);
    assert_eq!(start.code, 0, "{}", start.stderr);
    assert_eq!(server.holder("default"), None);
    assert_eq!(place.verb(&["start", "--undo-only"]).stdout, NOTHING);
    // What is not held is not held over, either.
    server.give("default", "b");
    let waits = Member::on(Trigger::Reboot, "run-2", &keys(&server.url, "a"));
    assert!(waits.take(SHORT).is_err());
    assert_eq!(waits.close(TIME), Ok(Outcome::AlreadyDone));
    assert!(waits.pending().is_empty());
}

#[test]
fn a_holder_that_is_killed_keeps_the_slot_until_its_next_start() {
    let server = FleetLock::start(Make::Airlock);
    let dead = die_holding("lock-fleetlock-dead", &keys(&server.url, "a"));
    assert_eq!(server.holder("default").as_deref(), Some("a"));
    let next = member(&server, "b");
    assert!(next.take(Duration::from_secs(4)).is_err());
    thread::scope(|threads| {
        let next = member(&server, "c");
        let taking = threads.spawn(move || next.take(LONG));
        wait_until("it asks", || {
            heard(&server).iter().any(|it| it.starts_with("c asks"))
        });
        let start = dead.verb(&["start", "--undo-only"]);
        assert_eq!(start.code, 0, "{}", start.stderr);
        assert_eq!(taking.join().expect("no panic"), Ok(Outcome::Done));
    });
    assert_eq!(dead.verb(&["start", "--undo-only"]).stdout, NOTHING);
    assert_eq!(server.holder("default").as_deref(), Some("c"));
    // By the id alone, the slot of another one is not given back.
    let intent = {
        let lost = member(&server, "c");
        assert_eq!(lost.take(TIME), Ok(Outcome::Done));
        lost.pending().remove(0)
    };
    server.give("default", "d");
    assert!(undo(&intent).attempt(&next.context(TIME)).is_ok());
    assert_eq!(server.holder("default").as_deref(), Some("d"));
}

#[test]
fn a_run_that_is_told_to_stop_asks_no_more() {
    let server = FleetLock::start(Make::Airlock);
    server.give("default", "b");
    let place = Binary::new(
        "lock-fleetlock-term",
        &config(&keys(&server.url, "a"), "60s", "true"),
    );
    let run = place.start(&["run", "--trigger", "poweroff"]);
    wait_until("it waits", || !server.heard().is_empty());
    let pid = i32::try_from(run.pid).expect("a pid");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), SIGTERM).expect("signalled");
    assert_eq!(run.end(GENEROUS).code, 75);
    assert_eq!(place.verb(&["start", "--undo-only"]).stdout, NOTHING);
    assert_eq!(server.holder("default").as_deref(), Some("b"));
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn the_manual_s_example_works_as_it_stands() {
    network::own();
    let server = FleetLock::at(3333, Make::Airlock, &["workers"]);
    let place = Binary::new("lock-fleetlock-manual", &manual::example("lock-fleetlock"));
    for verb in [
        &["run", "--trigger", "poweroff"][..],
        &["run", "--trigger", "reboot"],
        &["start", "--undo-only"],
        &["rehearse"],
    ] {
        let ended = place.verb(verb);
        assert_eq!(ended.code, 0, "{verb:?}: {} {}", ended.stdout, ended.stderr);
        let is_held = verb.contains(&"reboot");
        assert_eq!(server.holder("workers").is_some(), is_held, "{verb:?}");
    }
}
