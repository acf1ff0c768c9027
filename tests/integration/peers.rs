//! Whole runs against servers that misbehave, and against etcd: each step has its right end, and the next one runs.

use std::time::Duration;

use crate::support::binary::{Binary, GENEROUS, step_of, wait_until};
use crate::support::case::{Case, SLACK, TIMEOUT, all_hold, http, leave, urls};
use crate::support::etcd::Cluster;
use crate::support::fuse::Hanging;
use crate::support::ports::ports;
use crate::support::servers::{Manner, Server, TlsServer, answer, dead_url, make_certificates};
use nix::sys::signal::Signal;
use serde_json::Value;

#[test]
#[ignore = "needs root and openssl; tests/run has it"]
fn connections_that_come_to_nothing_cost_their_time_and_no_more() {
    let silent = Server::start(Manner::Silent);
    let drips = Server::start(Manner::Drips);
    let breaks = |text: &str| Server::start(Manner::Breaks(text.to_owned()));
    let half_head = breaks("HTTP/1.1 200 OK\r\nContent-Le");
    let half_body = breaks("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    let no_http = breaks("SSH-2.0-OpenSSH_9.2\r\n\r\n");
    let certificates = crate::support::Dir::new("peers-tls");
    make_certificates(&certificates);
    let tls = TlsServer::start(&certificates, "named", false);
    let ca = format!("ca-file = {:?}", certificates.file("ca.crt"));
    // A file on a mount that is dead: whoever opens it waits for ever.
    let dead = certificates.0.join("dead");
    std::fs::create_dir(&dead).expect("made");
    let _hanging = Hanging::mount(&dead, false);
    let never = certificates.file("dead/never.crt");
    let never = format!("ca-file = {never:?}");
    let unreachable = ("failed", "unreachable", 3, 20);
    let timed_out = ("timed-out", "timed-out", 2, 4);
    all_hold(&[
        http("refused", &dead_url(), "", unreachable),
        http(
            "no name",
            "http://no-such-host.invalid/",
            "",
            ("failed", "unreachable", 1, 20),
        ),
        http("silent", &silent.url(), "", timed_out),
        http("dripping", &drips.url(), "", timed_out),
        http("half a head", &half_head.url(), "", unreachable),
        http(
            "half a body",
            &half_body.url(),
            "",
            ("failed", "protocol", 3, 20),
        ),
        http("no HTTP", &no_http.url(), "", ("failed", "protocol", 1, 1)),
        http(
            "wrong name",
            &format!("https://{}/", tls.address),
            &ca,
            ("failed", "tls", 1, 1),
        ),
        http(
            "dead certificates",
            &format!("https://{}/", tls.address),
            &never,
            timed_out,
        ),
        http(
            "told attempts",
            &dead_url(),
            "attempts = 2",
            ("failed", "unreachable", 2, 2),
        ),
    ]);
    assert_eq!(tls.requests().len(), 0);
}

#[test]
fn answers_are_judged_and_what_passes_is_asked_again() {
    let flood = Server::start(Manner::Floods);
    let answers = Server::answers;
    let other = answers(&["200"]);
    let location = format!("Location: {}/\r\n", other.url());
    let redirect = Server::start(Manner::Answers(vec![answer("302 Found", &location, "")]));
    let (broken, wrong) = (answers(&["200 {\"a\":"]), answers(&["200 {\"a\":1}"]));
    let recovers = answers(&["500", "500", "200"]);
    let busy = answers(&["429", "200"]);
    let until = "every = \"50ms\"\nuntil = { pointer = \"/a\", equals = 2 }";
    let refused = ("failed", "refused", 1, 1);
    all_hold(&[
        http("flood", &flood.url(), "", ("done", "", 1, 1)),
        http("redirect", &redirect.url(), "", ("failed", "status", 1, 1)),
        http(
            "broken JSON",
            &broken.url(),
            until,
            ("timed-out", "timed-out", 1, 1),
        ),
        http(
            "wrong value",
            &wrong.url(),
            until,
            ("timed-out", "timed-out", 1, 1),
        ),
        http("500 500 200", &recovers.url(), "", ("done", "", 3, 3)),
        http("429 200", &busy.url(), "", ("done", "", 2, 2)),
        http(
            "only 500",
            &answers(&["500"]).url(),
            "",
            ("failed", "status", 3, 20),
        ),
        http("401", &answers(&["401"]).url(), "", refused),
        http("403", &answers(&["403"]).url(), "", refused),
        http(
            "404",
            &answers(&["404"]).url(),
            "",
            ("failed", "status", 1, 1),
        ),
        Case {
            name: "etcd with broken JSON",
            keys: leave(&broken.url(), "key = \"k\""),
            end: ("failed", "protocol", 3, 20),
        },
        Case {
            name: "etcd with nothing to say",
            keys: leave(&answers(&["200 {}"]).url(), "key = \"k\""),
            end: ("failed", "protocol", 3, 20),
        },
    ]);
    assert_eq!(other.connections(), 0, "the redirect was followed");
    assert_eq!((recovers.requests().len(), busy.requests().len()), (3, 2));
    assert!(flood.sent() < 1 << 30, "{} bytes", flood.sent());
}

#[test]
fn of_several_endpoints_one_that_works_is_enough() {
    let good = Server::answers(&["200"]);
    let sick = Server::answers(&["503"]);
    let silent = Server::start(Manner::Silent);
    let no_http = Server::start(Manner::Breaks("SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned()));
    let (dead, nameless) = (dead_url(), "http://no-such-host.invalid/");
    let done = ("done", "", 1, 1);
    all_hold(&[
        urls("dead first", &[&dead, &good.url()], "", done),
        urls("silent first", &[&silent.url(), &good.url()], "", done),
        urls("sick first", &[&sick.url(), &good.url()], "", done),
        urls(
            "all but one",
            &[&dead, &sick.url(), &silent.url(), &good.url()],
            "",
            done,
        ),
        urls(
            "no name first",
            &[nameless, &good.url()],
            "",
            ("done", "", 1, 3),
        ),
        urls("no HTTP first", &[&no_http.url(), &good.url()], "", done),
        // What one of them used up is not all the time there is.
        urls(
            "silent and dead",
            &[&silent.url(), &dead],
            "attempt-timeout = \"4500ms\"",
            ("timed-out", "timed-out", 2, 6),
        ),
        urls(
            "dead and silent",
            &[&dead, &silent.url()],
            "",
            ("timed-out", "timed-out", 2, 4),
        ),
        urls(
            "dead and sick",
            &[&dead, &sick.url()],
            "",
            ("failed", "status", 3, 20),
        ),
    ]);
    assert_eq!(good.requests().len(), 6);
}

fn step(name: &str, timeout: &str, keys: &str) -> String {
    format!(
        "[[step]]\nname = {name:?}\ntimeout = {timeout:?}\nattempt-timeout = \"700ms\"\n{keys}\n"
    )
}

#[test]
#[ignore = "needs etcd; tests/run has it"]
fn a_registry_is_left_once_and_refuses_who_may_not() {
    let etcd = Cluster::start("peers-leaves", 1);
    for key in ["/one", "/many/a", "/many/b", "/kept"] {
        etcd.ctl(&["put", key, "v"]);
    }
    let leased = || {
        let lease = etcd.lease(600);
        etcd.ctl(&["put", "/leased", "v", "--lease", &lease]);
        lease
    };
    let config = |lease: &str, account: &str| {
        let step = |name: &str, keys: &str| {
            let keys = leave(&etcd.urls[0], &format!("{keys}\n{account}"));
            step(name, "20s", &keys)
        };
        [
            step("key", "key = \"/one\""),
            step("prefix", "prefix = \"/many/\""),
            step("lease", &format!("lease = {lease:?}")),
            step("member", "member = \"n7\""),
        ]
        .concat()
    };
    let binary = Binary::new("peers-leave", &config(&leased(), ""));
    let run = || {
        let ended = binary.verb(&["run"]);
        let report = binary.report();
        let states = ["key", "prefix", "lease", "member"].map(|name| {
            let step = step_of(&report, name);
            let word = step["error"]["word"].as_str().unwrap_or_default();
            format!("{} {word}", step["state"].as_str().unwrap_or_default())
        });
        (ended.code, states, ended.took)
    };
    let (code, states, _) = run();
    assert_eq!(states, ["done ", "done ", "done ", "already-done "]);
    assert_eq!(code, 0);
    assert_eq!(etcd.ctl(&["get", "", "--prefix", "--keys-only"]), "/kept");
    let (code, states, _) = run();
    assert_eq!((code, states), (0, ["already-done "; 4].map(str::to_owned)));

    let lease = leased();
    let account = "user = \"root\"\npassword = \"s3cret-root\"\n";
    let (without, with) = (config(&lease, ""), config(&lease, account));
    let _etcd = etcd.with_auth();
    binary.configure(&without);
    let (code, states, took) = run();
    // Who the members are may be asked without an account.
    assert_eq!(
        states,
        [
            "failed refused",
            "failed refused",
            "failed refused",
            "already-done "
        ]
    );
    assert!(
        took < SLACK,
        "refusals leave their time to the others: {took:?}"
    );
    assert_eq!(code, 1);
    binary.configure(&with);
    let (code, states, _) = run();
    assert_eq!(
        states,
        ["already-done ", "already-done ", "done ", "already-done "]
    );
    assert_eq!(code, 0);
}

#[test]
#[ignore = "needs etcd; tests/run has it"]
fn a_member_leaves_its_cluster_and_is_verified() {
    let etcd = Cluster::start("peers-member", 3);
    let member = step("leave", "60s", &leave(&etcd.urls[0], "member = \"n1\""));
    let binary = Binary::new("peers-member-run", &member);
    let run = binary.verb(&["run"]);
    let report = binary.report();
    assert_eq!(run.code, 0, "{report:#}");
    let leave = step_of(&report, "leave");
    // A busy cluster may take the member out and still answer that it ran out of time: the next attempt finds it gone.
    let ends: &[&str] = match leave["attempts"].as_u64() {
        Some(1) => &["done"],
        _ => &["done", "already-done"],
    };
    assert!(ends.iter().any(|it| leave["state"] == *it), "{report:#}");
    let list = etcd.ctl(&["member", "list"]);
    assert!(list.lines().count() == 2 && !list.contains("n1"), "{list}");
}

#[test]
#[ignore = "needs etcd; tests/run has it"]
fn a_registry_that_stands_still_costs_a_deadline_and_one_that_goes_on_in_time_nothing() {
    let etcd = Cluster::start("peers-still", 1);
    for key in ["/a", "/b", "/c"] {
        etcd.ctl(&["put", key, "v"]);
    }
    let key = |name: &str, timeout: &str| {
        let key = leave(&etcd.urls[0], &format!("key = \"/{name}\""));
        step(name, timeout, &key)
    };
    let hold = "[[step]]\nname = \"hold\"\nkind = \"command\"\nargv = [\"/bin/sh\", \"-c\", \"while ! test -e GO; do sleep 0.05; done\"]\n";
    let config = [
        key("a", "20s"),
        hold.to_owned(),
        key("b", "4500ms"),
        key("c", "40s"),
    ]
    .concat();
    let binary = Binary::new("peers-still-run", "");
    let go = binary.dir.file("go");
    binary.configure(&config.replace("GO", &go));
    let run = binary.start(&["run"]);
    binary.wait_for("hold", "running");
    etcd.signal(0, Signal::SIGSTOP);
    std::fs::write(&go, "").expect("written");
    binary.wait_for("c", "running");
    let report = binary.report();
    let b = step_of(&report, "b");
    assert_eq!(
        (&b["state"], &b["error"]["word"]),
        (&"timed-out".into(), &"timed-out".into()),
        "{report:#}"
    );
    let took = Duration::from_micros(b["duration_usec"].as_u64().expect("a number"));
    // What is too short for another attempt is not waited for.
    let least = TIMEOUT - Duration::from_millis(100);
    assert!((least..TIMEOUT + SLACK).contains(&took), "{took:?}");
    wait_until("an attempt has failed", || {
        step_of(&binary.report(), "c")["attempts"].as_u64() >= Some(2)
    });
    etcd.signal(0, Signal::SIGCONT);
    assert_eq!(run.end(GENEROUS).code, 1);
    let report = binary.report();
    let c = step_of(&report, "c");
    assert_eq!(step_of(&report, "a")["state"], "done", "{report:#}");
    // The attempt that nobody waited for may have deleted it when the server went on.
    assert!(
        ["done", "already-done"]
            .map(Value::from)
            .contains(&c["state"]),
        "{report:#}"
    );
    assert!(c["attempts"].as_u64() >= Some(2), "{report:#}");
    assert_eq!(etcd.ctl(&["get", "/c"]), "");
}

#[test]
#[ignore = "needs etcd; tests/run has it"]
fn a_registry_that_comes_back_is_left() {
    let ports = ports(2);
    let url = format!("http://127.0.0.1:{}", ports[0]);
    let keys = leave(&url, "key = \"/late\"");
    let binary = Binary::new("peers-late", &step("leave", "80s", &keys));
    let run = binary.start(&["run"]);
    binary.wait_for("leave", "running");
    wait_until("an attempt has failed", || {
        step_of(&binary.report(), "leave")["attempts"].as_u64() >= Some(2)
    });
    let _etcd = Cluster::start_at("peers-late-etcd", &ports);
    assert_eq!(run.end(GENEROUS).code, 0);
    let report = binary.report();
    let step = step_of(&report, "leave");
    assert_eq!(step["state"], "already-done", "{report:#}");
    assert!(step["attempts"].as_u64() >= Some(2), "{report:#}");
}
