//! `deregister` from Nacos, by a stand-in for its server.

use std::time::Duration;

use crate::support::binary::{Binary, GENEROUS, step_of, wait_until};
use crate::support::case::{Case, all_hold};
use crate::support::loopback::{Loopback, Middleman, Reply};
use crate::support::nacos_stand_in::{ACCOUNT, NacosStandIn};
use crate::support::servers::{Manner, Server, dead_url};
use crate::support::{Run, manual, network, problems, step, step_with_warnings};
use farewell::model::error::ErrorKind;
use farewell::step::{Outcome, StepSpec};

const TIME: Duration = Duration::from_secs(20);

fn keys(url: &str, rest: &str) -> String {
    format!(
        "kind = \"deregister\"\nregistry = \"nacos\"\nurl = {url:?}\nservice = \"web\"\nip = \"127.0.0.1\"\nport = 80\n{rest}"
    )
}

/// Where the password stands in the configuration there is a warning: disabling is undone without it.
fn leave(url: &str, rest: &str) -> StepSpec {
    step_with_warnings(&keys(url, rest))
}

fn whole(url: &str, rest: &str) -> String {
    format!("[[step]]\nname = \"leave\"\n{}\n", keys(url, rest))
}

fn account(password: &str) -> String {
    format!("user = {:?}\npassword = {password:?}", ACCOUNT.0)
}

#[test]
fn keys_are_checked() {
    let head = "kind = \"deregister\"\nregistry = \"nacos\"\n";
    let missing = problems(head);
    for key in ["url", "service", "ip", "port"] {
        assert!(missing.contains(key), "{missing}");
    }
    let with = |rest: &str| problems(&keys("http://h:8848", rest));
    assert_eq!(
        with("namespace = \"n\"\ngroup = \"g\"\nephemeral = false"),
        ""
    );
    assert!(with("ephemeral = \"no\"").contains("expected true or false"));
    assert_eq!(with("cluster = \"c\""), "");
    assert!(
        with("user = \"u\"\npassword = \"s3cret-one\"").contains("cannot be undone after a reboot")
    );
    let port = keys("http://h", "").replace("port = 80", "port = 65536");
    assert!(problems(&port).contains("65536"));
}

#[test]
fn every_version_is_found_out_and_left() {
    for (version, base) in [
        (3, "/nacos/v3/client/ns/instance"),
        (2, "/nacos/v2/ns/instance"),
        (1, "/nacos/v1/ns/instance"),
    ] {
        let nacos = NacosStandIn::start(version);
        for (service, port) in [("web", 80), ("web", 81), ("other", 80)] {
            nacos.register(service, port, true);
        }
        let run = Run::new();
        let step = leave(&nacos.url, "");
        assert_eq!(run.attempt(&step, TIME), Ok(Outcome::Done), "{version}");
        assert_eq!(nacos.registered(), [81, 80], "{version}");
        let waiting = run.waiting();
        assert!(
            waiting[0].contains("instance 127.0.0.1:80 of web to vanish"),
            "{waiting:?}"
        );
        assert_eq!(
            run.attempt(&step, TIME),
            Ok(Outcome::Done),
            "{version}: by this run"
        );
        assert_eq!(
            run.attempt(&leave(&nacos.url, ""), TIME),
            Ok(Outcome::AlreadyDone),
            "{version}"
        );
        let heard = nacos.heard();
        let deletes = heard.iter().filter(|it| it.starts_with("DELETE"));
        let expected = format!("DELETE {base}?serviceName=web&ip=127.0.0.1&port=80&ephemeral=true");
        assert!(
            deletes.clone().all(|it| it.starts_with(&expected)),
            "{heard:?}"
        );
        assert_eq!(deletes.count(), 3);
        // With the context path, as well.
        nacos.register("web", 80, true);
        let step = leave(&format!("{}/nacos", nacos.url), "");
        assert_eq!(run.attempt(&step, TIME), Ok(Outcome::Done), "{version}");
    }
    let elsewhere = NacosStandIn::start_at(0, 2, "/registry", false);
    elsewhere.register("web", 80, true);
    let step = leave(&format!("{}/registry", elsewhere.url), "");
    assert_eq!(Run::new().attempt(&step, TIME), Ok(Outcome::Done));
    assert!(elsewhere.registered().is_empty());
}

#[test]
fn another_group_or_namespace_is_another_service() {
    let nacos = NacosStandIn::start(3);
    nacos.register("web", 80, true);
    nacos.register_in(("prod", "G &1", "web"), 80, true);
    let instances = |keys: &str| Run::new().attempt(&leave(&nacos.url, keys), TIME);
    assert_eq!(instances("namespace = \"nope\""), Ok(Outcome::AlreadyDone));
    assert_eq!(instances("group = \"nope\""), Ok(Outcome::AlreadyDone));
    assert_eq!(nacos.registered().len(), 2);
    // The stand-in compares what is in the query as it is, percent-encoded.
    nacos.register_in(("prod", "G%20%261", "web"), 80, true);
    assert_eq!(
        instances("namespace = \"prod\"\ngroup = \"G &1\""),
        Ok(Outcome::Done)
    );
    assert_eq!(nacos.registered().len(), 2);
}

#[test]
fn a_200_is_no_proof() {
    // The other kind of instance would stay, and DELETE would be 200.
    let nacos = NacosStandIn::start(2);
    nacos.register("web", 80, false);
    let run = Run::new();
    let step = leave(&nacos.url, "");
    for failure in [
        run.attempt(&step, TIME).map(drop),
        run.rehearse(&step, TIME).map(drop),
    ] {
        let failure = failure.expect_err("the other kind");
        assert_eq!(
            (failure.kind, failure.retryable),
            (ErrorKind::Config, false),
            "{failure}"
        );
        assert!(failure.cause.contains("ephemeral = false"), "{failure}");
    }
    assert!(nacos.heard().iter().all(|it| it.starts_with("GET")));
    assert_eq!(
        run.attempt(&leave(&nacos.url, "ephemeral = false"), TIME),
        Ok(Outcome::Done)
    );
    // What a heartbeat brings back is said.
    nacos.register("web", 80, true);
    nacos.set_beats(true);
    let failure = run
        .attempt(&step, Duration::from_millis(1200))
        .expect_err("it comes back");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Protocol, true),
        "{failure}"
    );
    assert!(
        failure.cause.contains("after it was removed") && !failure.cause.contains("registers"),
        "{failure}"
    );
    // Neither is what it is hidden by.
    assert_eq!(run.attempt(&step, TIME), Ok(Outcome::Done));
    assert_eq!(nacos.registered(), [80]);
    assert!(nacos.shown(80).is_some_and(|(enabled, ..)| !enabled));
    // A refusal inside.
    let refusing =
        Server::answers(&["200 {\"code\":10000,\"message\":\"not today\",\"data\":null}"]);
    let failure = run
        .attempt(&leave(&refusing.url(), ""), TIME)
        .expect_err("refused");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Refused, false),
        "{failure}"
    );
    assert!(failure.cause.contains("code 10000: not today"), "{failure}");
}

#[test]
fn an_instance_leaves_the_cluster_that_it_is_in() {
    for version in [3, 2, 1] {
        let nacos = NacosStandIn::start(version);
        nacos.register_in_cluster(80, "C-1");
        let run = Run::new();
        assert_eq!(run.attempt(&leave(&nacos.url, ""), TIME), Ok(Outcome::Done));
        assert!(nacos.registered().is_empty(), "{version}");
        nacos.register_in_cluster(80, "C1");
        nacos.register_in_cluster(80, "C2");
        let step = leave(&nacos.url, "");
        for failure in [
            run.attempt(&step, TIME).map(drop),
            run.rehearse(&step, TIME).map(drop),
        ] {
            let failure = failure.expect_err("in two clusters");
            assert_eq!(
                (failure.kind, failure.retryable),
                (ErrorKind::Config, false),
                "{failure}"
            );
            assert!(failure.cause.contains("C1 and C2") && failure.cause.contains("`cluster`"));
        }
        let step = leave(&nacos.url, "cluster = \"C1\"");
        assert_eq!(run.attempt(&step, TIME), Ok(Outcome::Done));
        let kept = leave(&nacos.url, "cluster = \"C2\"");
        assert!(
            run.rehearse(&kept, TIME)
                .is_ok_and(|it| it.contains(": there;"))
        );
        assert_eq!(nacos.registered(), [80]);
    }
}

#[test]
fn what_was_registered_over_grpc_is_disabled_and_shown_again() {
    for (version, updates) in [
        (3, "/nacos/v3/admin/ns/instance"),
        (2, "/nacos/v2/ns/instance"),
        (1, "/nacos/v1/ns/instance"),
    ] {
        let nacos = NacosStandIn::start(version);
        nacos.register_over_grpc(80);
        let before = nacos.shown(80).expect("registered");
        let rest = "timeout = \"50s\"";
        let binary = Binary::new(&format!("nacos-grpc-{version}"), &whole(&nacos.url, rest));
        assert_eq!(binary.verb(&["run"]).code, 0, "{:#}", binary.report());
        let report = binary.report();
        let step = step_of(&report, "leave");
        assert_eq!(step["state"], "done", "{report:#}");
        assert!(
            report
                .to_string()
                .contains("the entry itself goes with its application"),
            "{report:#}"
        );
        let hidden = (false, before.1.clone(), before.2.clone());
        assert_eq!(nacos.shown(80), Some(hidden), "{version}");
        let heard = nacos.heard();
        let is_update = |it: &&String| it.starts_with(&format!("PUT {updates}?serviceName=web"));
        assert_eq!(heard.iter().filter(is_update).count(), 1, "{heard:?}");
        // Disabled, it would stay so when its application registers it again.
        let undo = binary.verb(&["start", "--undo-only"]);
        assert_eq!(undo.code, 0, "{}", undo.stdout);
        assert!(
            undo.stdout
                .contains("that instance 127.0.0.1:80 of web is disabled")
        );
        assert_eq!(nacos.shown(80), Some(before), "{version}");
        assert_eq!(binary.verb(&["start", "--undo-only"]).code, 0);
    }
}

#[test]
fn who_may_not_disable_is_told_what_helps() {
    let nacos = NacosStandIn::start(3);
    nacos.register_over_grpc(80);
    nacos.set_read_only(true);
    let run = Run::new();
    let failure = run
        .attempt(&leave(&nacos.url, ""), TIME)
        .expect_err("it stays");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Refused, false),
        "{failure}"
    );
    assert!(
        failure.cause.contains("cannot be disabled")
            && failure.cause.contains("authorization failed!"),
        "{failure}"
    );
    assert_eq!(run.recorder.intents().len(), 1);
    assert_eq!(run.recorder.withdrawn().len(), 1);
}

#[test]
fn a_service_that_is_not_there_is_gone() {
    // A stand-in for servers that answer so about a service, and not about their own API.
    let server = Loopback::start(|asked| match asked.method.as_str() {
        "GET" => Reply::text(
            "404 Not Found",
            r#"{"code":21008,"message":"service not exist","data":null}"#,
        ),
        _ => Reply::text("200 OK", r#"{"code":0,"message":"success","data":"ok"}"#),
    });
    let step = leave(&server.url(), "");
    assert_eq!(Run::new().attempt(&step, TIME), Ok(Outcome::AlreadyDone));
}

#[test]
fn what_is_hidden_from_the_lists_is_removed_too() {
    let nacos = NacosStandIn::start(1);
    nacos.register("web", 80, true);
    nacos.disable_all();
    assert_eq!(
        Run::new().attempt(&leave(&nacos.url, ""), TIME),
        Ok(Outcome::AlreadyDone)
    );
    assert!(nacos.registered().is_empty());
}

#[test]
fn an_account_gets_a_token_and_others_are_refused() {
    for version in [3, 2, 1] {
        let nacos = NacosStandIn::start_at(0, version, "/nacos", true);
        nacos.register("web", 80, true);
        let run = Run::new();
        for keys in [String::new(), account("s3cret-wrong")] {
            let step = leave(&nacos.url, &keys);
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
                assert!(!failure.to_string().contains("s3cret"), "{failure}");
            }
        }
        assert_eq!(nacos.registered(), [80]);
        let step = leave(&nacos.url, &account(ACCOUNT.1));
        assert_eq!(run.attempt(&step, TIME), Ok(Outcome::Done), "{version}");
        assert!(
            nacos.heard().iter().all(|it| !it.contains("oken")),
            "no token in a URL"
        );
        assert_eq!(
            farewell::model::secrets::mask("eyJhbGciOiJIUzI1NiJ9.stand-in.token"),
            "********"
        );
    }
    // A stand-in for a server with another way to prove an account.
    let other = Server::answers(&["200 {\"code\":500,\"message\":\"not this plugin\"}"]);
    let failure = Run::new().attempt(&leave(&other.url(), &account("s3cret-plugin-less")), TIME);
    let failure = failure.expect_err("no token");
    assert!(
        failure.cause.contains("no token: not this plugin"),
        "{failure}"
    );
}

#[test]
fn a_rehearsal_says_what_is_there_and_changes_nothing() {
    let nacos = NacosStandIn::start(3);
    nacos.register("web", 80, true);
    let run = Run::new();
    let told = run
        .rehearse(&leave(&nacos.url, ""), TIME)
        .expect("an answer");
    assert!(
        told.contains("instance 127.0.0.1:80 of web at") && told.contains(": there;"),
        "{told}"
    );
    let unknown = keys(&nacos.url, "").replace("port = 80", "port = 99");
    let told = run.rehearse(&step(&unknown), TIME).expect("an answer");
    assert!(told.contains("not there, nothing to leave yet"), "{told}");
    assert!(nacos.heard().iter().all(|it| it.starts_with("GET")));
    assert_eq!(nacos.registered(), [80]);
}

#[test]
fn a_server_that_hangs_lies_or_is_no_nacos_costs_no_more_than_the_timeout() {
    let (silent, flood) = (Server::start(Manner::Silent), Server::start(Manner::Floods));
    let case = |name, url: &str, end| Case {
        name,
        keys: keys(url, ""),
        end,
    };
    all_hold(&[
        case(
            "nacos silent",
            &silent.url(),
            ("timed-out", "timed-out", 2, 4),
        ),
        case("nacos floods", &flood.url(), ("failed", "protocol", 2, 20)),
        case("nacos dead", &dead_url(), ("failed", "unreachable", 2, 20)),
    ]);
    for (answer, word, retryable) in [
        ("404 page not found", ErrorKind::Status, false),
        ("200 no JSON", ErrorKind::Protocol, true),
        ("200 {}", ErrorKind::Protocol, true),
        ("200 {\"data\":{\"hosts\":7}}", ErrorKind::Protocol, true),
        ("200 {\"hosts\":", ErrorKind::Protocol, true),
        ("503 server is DOWN now", ErrorKind::Status, true),
    ] {
        let server = Server::answers(&[answer]);
        let failure = Run::new().attempt(&leave(&server.url(), ""), TIME);
        let failure = failure.expect_err(answer);
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
    // It lists the instance, and then breaks.
    let breaks = Loopback::start(|asked| match asked.method.as_str() {
        "GET" => Reply::text("200 OK", r#"{"data":[{"ip":"127.0.0.1","port":80}]}"#),
        _ => Reply::Close,
    });
    let failure = Run::new()
        .attempt(&leave(&breaks.url(), ""), TIME)
        .expect_err("broken");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Unreachable, true),
        "{failure}"
    );
}

#[test]
fn a_server_that_dies_after_the_request_is_asked_again_when_it_is_back() {
    let nacos = NacosStandIn::start(2);
    let upstream = nacos.url.strip_prefix("http://").expect("a URL");
    let before = Middleman::before(upstream.parse().expect("an address"));
    for (name, comes_back) in [("nacos-dies-back", true), ("nacos-dies-gone", false)] {
        nacos.register("web", 80, true);
        before.come_back();
        before.die_after("DELETE ");
        let missed = before.missed();
        let timeout = if comes_back { "50s" } else { "2s" };
        let binary = Binary::new(
            name,
            &whole(&before.url(), &format!("timeout = {timeout:?}")),
        );
        let run = binary.start(&["run"]);
        wait_until("nobody was there", || before.missed() > missed);
        if comes_back {
            before.come_back();
        }
        let code = run.end(GENEROUS).code;
        let report = binary.report();
        let step = step_of(&report, "leave");
        if comes_back {
            let states = ["done", "already-done"];
            assert!(
                code == 0 && states.iter().any(|it| step["state"] == *it),
                "{report:#}"
            );
        } else {
            // Nobody is there, or the time ended while a connection was made.
            let word = step["error"]["word"].as_str();
            let is_silent = matches!(word, Some("unreachable" | "timed-out"));
            assert!(code == 1 && is_silent, "{report:#}");
        }
        assert!(nacos.registered().is_empty());
    }
}

#[test]
fn a_server_that_comes_late_is_left() {
    let nacos = NacosStandIn::start(3);
    nacos.register("web", 80, true);
    let upstream = nacos.url.strip_prefix("http://").expect("a URL");
    let before = Middleman::before(upstream.parse().expect("an address"));
    before.go_down();
    let binary = Binary::new("nacos-late", &whole(&before.url(), "timeout = \"50s\""));
    let run = binary.start(&["run"]);
    wait_until("nobody was there", || before.missed() > 1);
    before.come_back();
    assert_eq!(run.end(GENEROUS).code, 0);
    assert_eq!(step_of(&binary.report(), "leave")["state"], "done");
    assert!(nacos.registered().is_empty());
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn the_manual_s_example_works_as_it_stands() {
    network::own();
    let nacos = NacosStandIn::start_at(8848, 3, "/nacos", true);
    nacos.register("web", 8080, true);
    let binary = Binary::new("nacos-manual", &manual::example("deregister-nacos"));
    binary.dir.credential("nacos-password", ACCOUNT.1);
    for state in ["done", "already-done"] {
        let mut command = binary.command(&["run"]);
        let output = command.env("CREDENTIALS_DIRECTORY", &binary.dir.0).output();
        let output = output.expect("it starts");
        let told = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{told}");
        assert!(!told.contains("s3cret"), "{told}");
        assert_eq!(
            step_of(&binary.report(), "leave-nacos")["state"],
            state,
            "{told}"
        );
        assert!(nacos.registered().is_empty());
    }
}
