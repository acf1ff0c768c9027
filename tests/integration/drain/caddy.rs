//! `balancer = "caddy"`, by a real Caddy.

use std::time::{Duration, Instant};

use farewell::model::error::ErrorKind;
use farewell::step::{Outcome, StepSpec};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::app::{App, Asking, ask};
use super::balancer::Process;
use super::{TIME, intents, undo};
use crate::support::binary::{Binary, GENEROUS, step_of, wait_until};
use crate::support::fetched::fetched;
use crate::support::loopback;
use crate::support::ports::ports;
use crate::support::servers::{Manner, Server, answer};
use crate::support::{Dir, Run, manual, network, problems, step};

/// A Caddy with one list of upstreams, which are `s1`, `s2` and so on.
pub struct Caddy {
    pub process: Process,
    pub port: u16,
    pub admin: u16,
    _dir: Dir,
}

/// What a Caddy is started with.
pub struct Settings<'a> {
    pub admin: u16,
    /// Behind `listen` of the admin API.
    pub of_admin: Value,
    /// Beside `upstreams` of the handler.
    pub of_handler: Value,
    pub ids: &'a [&'a str],
}

impl Caddy {
    pub fn start(name: &str, apps: &[&App]) -> Caddy {
        Caddy::start_with(name, apps, &Settings::new())
    }

    pub fn start_with(name: &str, apps: &[&App], settings: &Settings<'_>) -> Caddy {
        let dir = Dir::new(&format!("drain-caddy-{name}"));
        let (port, admin) = (ports(1)[0], settings.admin);
        let upstream = |(id, app): (&&str, &&App)| json!({"@id": id, "dial": app.address()});
        let upstreams: Vec<_> = settings.ids.iter().zip(apps).map(upstream).collect();
        let mut handler = json!({"@id": "web", "handler": "reverse_proxy", "upstreams": upstreams});
        merge(&mut handler, &settings.of_handler);
        let mut of_admin =
            json!({"listen": format!("127.0.0.1:{admin}"), "config": {"persist": false}});
        merge(&mut of_admin, &settings.of_admin);
        let config = json!({
            "admin": of_admin,
            "apps": {"http": {"servers": {"all": {
                "listen": [format!("127.0.0.1:{port}")],
                "automatic_https": {"disable": true},
                "routes": [{"handle": [handler]}],
            }}}},
        });
        let file = dir.file("caddy.json");
        std::fs::write(&file, config.to_string()).expect("written");
        let program = fetched("caddy").join("caddy").display().to_string();
        let home =
            ["XDG_CONFIG_HOME", "XDG_DATA_HOME"].map(|it| format!("{it}={}", dir.file("home")));
        let process = Process::start(
            "env",
            &[&home[0], &home[1], &program, "run", "--config", &file],
        );
        let caddy = Caddy {
            process,
            port,
            admin,
            _dir: dir,
        };
        caddy.wait();
        caddy
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.admin)
    }

    pub fn wait(&self) {
        wait_until("Caddy answers", || ask(self.port, "/").is_ok());
    }

    /// What the admin API answers, beside its status.
    pub fn says(&self, method: &str, path: &str, body: &str) -> String {
        let json = "Content-Type: application/json\r\n";
        let request = format!("{method} {path}");
        let begun = Instant::now();
        let (status, text) = loop {
            let answer = loopback::ask(&self.url(), &request, json, body);
            // While Caddy loads a configuration it replaces its admin API too, and a connection may be lost.
            let is_lost = method == "GET" && answer.0 == 0;
            if !is_lost || begun.elapsed() > GENEROUS {
                break answer;
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        assert_eq!(status, 200, "{request}: {text}");
        text
    }

    /// The `@id`s of its upstreams, in their order.
    pub fn upstreams(&self) -> Vec<String> {
        let text = self.says("GET", "/id/web/upstreams", "");
        let list: Vec<Value> = serde_json::from_str(&text).expect("a list");
        let id = |it: &Value| it["@id"].as_str().expect("an @id").to_owned();
        list.iter().map(id).collect()
    }

    pub fn keys(&self, rest: &str) -> String {
        keys(&self.url(), rest)
    }

    fn leave(&self) -> StepSpec {
        step(&self.keys(""))
    }
}

impl Settings<'_> {
    pub fn new() -> Settings<'static> {
        Settings {
            admin: ports(1)[0],
            of_admin: json!({}),
            of_handler: json!({}),
            ids: &["s1", "s2", "s3"],
        }
    }
}

fn merge(object: &mut Value, more: &Value) {
    let more = more.as_object().expect("an object").clone();
    object.as_object_mut().expect("an object").extend(more);
}

fn keys(url: &str, rest: &str) -> String {
    format!("kind = \"drain\"\nbalancer = \"caddy\"\nurl = {url:?}\nid = \"s1\"\n{rest}\n")
}

fn binary(name: &str, keys: &str) -> Binary {
    Binary::new(
        &format!("drain-caddy-run-{name}"),
        &format!("[[step]]\nname = \"leave\"\n{keys}\n"),
    )
}

#[test]
fn keys_are_checked() {
    for url in ["http://127.0.0.1:2019", "unix:///run/caddy/admin.sock"] {
        assert_eq!(problems(&keys(url, "")), "", "{url}");
    }
    let list = keys("x", "").replace("\"x\"", "[\"http://lb-1:2019\", \"http://lb-2:2019\"]");
    assert_eq!(problems(&list), "");
    let slash = keys("http://127.0.0.1:2019", "").replace("\"s1\"", "\"web/s1\"");
    assert!(problems(&slash).contains("no `@id` with a slash"));
    let dots = keys("http://127.0.0.1:2019", "").replace("\"s1\"", "\"..\"");
    assert!(problems(&dots).contains("another path"));
    let nothing = keys("http://127.0.0.1:2019", "").replace("id = \"s1\"\n", "");
    assert!(
        problems(&nothing).contains("missing"),
        "{}",
        problems(&nothing)
    );
}

#[test]
#[ignore = "needs Caddy; tests/run has it"]
fn an_idle_upstream_goes_and_is_at_its_place_again_after_the_undo() {
    let apps = ["one", "two", "three"].map(App::start);
    let caddy = Caddy::start("idle", &apps.each_ref());
    let run = Run::new();
    let said = run.rehearse(&caddy.leave(), TIME);
    let is = format!(
        "upstream s1 of Caddy at {}/ ({}): 0 requests in flight, 2 others in its list",
        caddy.url(),
        apps[0].address()
    );
    assert_eq!((said, run.remarks().len()), (Ok(is), 0));
    assert_eq!(run.attempt(&caddy.leave(), TIME), Ok(Outcome::Done));
    assert_eq!(caddy.upstreams(), ["s2", "s3"]);
    for _ in 0..8 {
        assert_ne!(ask(caddy.port, "/").as_deref(), Ok("one"));
    }
    let left = intents(&run);
    assert_eq!(left.len(), 1);
    // The one in the middle, by another machine, meanwhile.
    let other = Run::new();
    let second = step(&caddy.keys("").replace("\"s1\"", "\"s2\""));
    assert_eq!(other.attempt(&second, TIME), Ok(Outcome::Done));
    assert_eq!(caddy.upstreams(), ["s3"]);
    assert_eq!(
        other.attempt(&undo(&intents(&other)), TIME),
        Ok(Outcome::Done)
    );
    assert_eq!(run.attempt(&undo(&left), TIME), Ok(Outcome::Done));
    assert_eq!(caddy.upstreams(), ["s1", "s2", "s3"]);
    assert_eq!(run.attempt(&undo(&left), TIME), Ok(Outcome::AlreadyDone));
    let object = caddy.says("GET", "/id/s1", "");
    assert_eq!(
        serde_json::from_str::<Value>(&object).expect("JSON"),
        json!({"@id": "s1", "dial": apps[0].address()})
    );
    // It takes requests again.
    wait_until("it is asked", || {
        ask(caddy.port, "/").as_deref() == Ok("one")
    });
}

#[test]
#[ignore = "needs Caddy; tests/run has it"]
fn requests_in_flight_are_waited_for_over_a_hang_and_a_restart() {
    let apps = ["one"].map(App::start);
    let mut caddy = Caddy::start("flight", &apps.each_ref());
    let asking = Asking::start(caddy.port, "/hold");
    wait_until("it is held", || apps[0].held() == 1);
    let mut run = Run::new();
    run.attempt_timeout = Duration::from_millis(1500);
    std::thread::scope(|threads| {
        let (step, run) = (caddy.leave(), &run);
        let draining = threads.spawn(move || run.attempt(&step, TIME));
        let is_told = |words: &str| run.waiting().iter().any(|it| it.contains(words));
        let count = format!(
            "1 request in flight to upstream s1 of Caddy at {}/",
            caddy.url()
        );
        wait_until("it waits", || run.waiting().contains(&count));
        assert!(caddy.upstreams().is_empty());
        assert!(ask(caddy.port, "/").is_err_and(|it| it.contains("HTTP/1.1 503")));
        caddy.process.signal(Signal::SIGSTOP);
        wait_until("it is missed", || is_told("seen last: 1 request"));
        caddy.process.signal(Signal::SIGCONT);
        caddy.process.restart();
        wait_until("it is taken out again", || run.remarks().len() == 3);
        assert_eq!(draining.join().expect("no panic"), Ok(Outcome::Done));
    });
    let remarks = run.remarks();
    assert!(
        remarks[0].contains("s1 of Caddy") && remarks[0].contains("answers 503"),
        "{remarks:?}"
    );
    assert!(
        remarks[1].contains("was in its list again: Caddy was restarted"),
        "{remarks:?}"
    );
    assert!(caddy.upstreams().is_empty());
    apps[0].release();
    assert!(asking.end().is_err(), "its Caddy was killed");
    assert_eq!(run.attempt(&undo(&intents(&run)), TIME), Ok(Outcome::Done));
    assert_eq!(caddy.upstreams(), ["s1"]);
    caddy.process.kill();
    let failure = run.attempt(&caddy.leave(), Duration::from_secs(1));
    let failure = failure.expect_err("nobody is there");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Unreachable, true)
    );
}

#[test]
#[ignore = "needs Caddy; tests/run has it"]
fn a_request_that_never_ends_is_told_at_the_deadline() {
    let apps = ["one", "two"].map(App::start);
    let caddy = Caddy::start("endless", &apps.each_ref());
    let mut asking = Vec::new();
    while apps[0].held() == 0 {
        asking.push(Asking::start(caddy.port, "/hold"));
        wait_until("it is held", || {
            apps[0].held() + apps[1].held() == asking.len()
        });
    }
    let binary = binary(
        "endless",
        &caddy.keys("timeout = \"8s\"\nattempt-timeout = \"7s\""),
    );
    assert_eq!(binary.verb(&["run"]).code, 1);
    let report = binary.report();
    let leave = step_of(&report, "leave");
    assert_eq!(leave["state"], "timed-out", "{report:#}");
    let said = leave["error"]["message"].as_str().expect("a message");
    assert!(
        said.starts_with("1 request in flight to upstream s1 of Caddy at"),
        "{said}"
    );
    assert!(said.contains("still there"), "{said}");
    assert_eq!(caddy.upstreams(), ["s2"]);
    apps.iter().for_each(App::release);
    for it in asking {
        assert!(it.end().is_ok());
    }
}

#[test]
#[ignore = "needs Caddy; tests/run has it"]
fn what_is_not_known_and_who_may_not_is_refused_at_once() {
    let apps = ["one", "two"].map(App::start);
    let caddy = Caddy::start("refused", &apps.each_ref());
    let placeholder = json!({"@id": "s3", "dial": "{env.APP}:80"}).to_string();
    caddy.says("POST", "/id/web/upstreams", &placeholder);
    let closed = Settings {
        of_admin: json!({"origins": ["lb.example:2019"]}),
        ..Settings::new()
    };
    let closed = Caddy::start_with("closed", &apps.each_ref(), &closed);
    for (keys, said) in [
        (
            caddy.keys("").replace("\"s1\"", "\"s9\""),
            "Caddy knows no object with this `@id`",
        ),
        (
            caddy.keys("").replace("\"s1\"", "\"web\""),
            "stands at /apps/http/servers/all/routes/0/handle/0, and is no upstream",
        ),
        (
            caddy.keys("").replace("\"s1\"", "\"s3\""),
            "its address is `{env.APP}:80`",
        ),
        (closed.keys(""), "status 403"),
    ] {
        let run = Run::new();
        let begun = Instant::now();
        for failure in [
            run.attempt(&step(&keys), TIME).expect_err("refused"),
            run.rehearse(&step(&keys), TIME).expect_err("refused"),
        ] {
            let is = (failure.kind, failure.retryable);
            assert_eq!(is, (ErrorKind::Refused, false), "{failure}");
            assert!(failure.cause.contains(said), "{failure}");
        }
        assert!(begun.elapsed() < TIME / 4);
        assert!(intents(&run).is_empty());
    }
    assert_eq!(caddy.upstreams(), ["s1", "s2", "s3"]);
}

#[test]
#[ignore = "needs Caddy; tests/run has it"]
fn what_an_administrator_does_stays() {
    let apps = ["one", "two"].map(App::start);
    let caddy = Caddy::start("before", &apps.each_ref());
    caddy.says("DELETE", "/id/s1", "");
    let run = Run::new();
    let failure = run.attempt(&caddy.leave(), TIME).expect_err("out by hand");
    assert!(
        failure.cause.contains("somebody else has removed it"),
        "{failure}"
    );
    assert!(intents(&run).is_empty());
    assert_eq!(caddy.upstreams(), ["s2"]);
    // One who puts it back between the drain and its undo has the last word, wherever it stands.
    let object = json!({"@id": "s1", "dial": apps[0].address()}).to_string();
    caddy.says("POST", "/id/web/upstreams", &object);
    assert_eq!(run.attempt(&caddy.leave(), TIME), Ok(Outcome::Done));
    let left = intents(&run);
    let moved = json!({"@id": "s1", "dial": apps[1].address()}).to_string();
    caddy.says("PUT", "/id/web/upstreams/0", &moved);
    assert_eq!(run.attempt(&undo(&left), TIME), Ok(Outcome::AlreadyDone));
    assert_eq!(caddy.upstreams(), ["s1", "s2"]);
    // And where the list is another one, nobody knows its place.
    caddy.says("DELETE", "/id/s1", "");
    caddy.says("PATCH", "/id/s2/dial", "\"10.0.0.9:80\"");
    let failure = run.attempt(&undo(&left), TIME).expect_err("another list");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Refused, false)
    );
    assert!(
        failure.cause.contains("by hand: {\"@id\":\"s1\""),
        "{failure}"
    );
    caddy.says("DELETE", "/id/web", "");
    let failure = run.attempt(&undo(&left), TIME).expect_err("no list");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Refused, false)
    );
    assert!(
        failure
            .cause
            .contains("no list of upstreams at /id/web/upstreams"),
        "{failure}"
    );
}

#[test]
#[ignore = "needs Caddy; tests/run has it"]
fn a_handler_without_an_id_is_found_by_its_path() {
    let apps = ["one", "two"].map(App::start);
    let caddy = Caddy::start("path", &apps.each_ref());
    caddy.says("DELETE", "/id/web/@id", "");
    let run = Run::new();
    assert_eq!(run.attempt(&caddy.leave(), TIME), Ok(Outcome::Done));
    let left = intents(&run);
    let path = "/config/apps/http/servers/all/routes/0/handle/0/upstreams";
    assert_eq!(left[0].what["list"].text().as_deref(), Some(path));
    assert_eq!(run.attempt(&undo(&left), TIME), Ok(Outcome::Done));
    let list: Value = serde_json::from_str(&caddy.says("GET", path, "")).expect("JSON");
    assert_eq!(list[0], json!({"@id": "s1", "dial": apps[0].address()}));
    assert_eq!(list[1]["@id"], "s2");
}

#[test]
#[ignore = "needs Caddy; tests/run has it"]
fn every_caddy_of_a_list_is_drained() {
    let apps = ["one", "two"].map(App::start);
    let both = ["list-a", "list-b"].map(|name| Caddy::start(name, &apps.each_ref()));
    let list = format!("[{:?}, {:?}]", both[0].url(), both[1].url());
    let leave = step(
        &both[0]
            .keys("")
            .replace(&format!("{:?}", both[0].url()), &list),
    );
    let run = Run::new();
    assert_eq!(run.attempt(&leave, TIME), Ok(Outcome::Done));
    let upstreams = || both.each_ref().map(Caddy::upstreams);
    assert_eq!(upstreams(), [["s2"], ["s2"]]);
    // Each is undone by itself.
    let left = intents(&run);
    assert_eq!(left.len(), 2);
    for intent in &left {
        let undo = undo(std::slice::from_ref(intent));
        assert_eq!(run.attempt(&undo, TIME), Ok(Outcome::Done));
    }
    assert_eq!(upstreams(), [["s1", "s2"], ["s1", "s2"]]);
}

#[test]
#[ignore = "needs Caddy; tests/run has it"]
fn what_a_run_has_left_is_undone_by_the_next_start() {
    let apps = ["one", "two"].map(App::start);
    let caddy = Caddy::start("start", &apps.each_ref());
    let binary = binary("start", &caddy.keys(""));
    let run = binary.verb(&["run"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let told = format!(
        "leaves the removal of upstream s1 of Caddy at {}",
        caddy.url()
    );
    assert!(run.stdout.contains(&told), "{}", run.stdout);
    let rehearsal = binary.verb(&["rehearse"]);
    let told = "is put back by `farewell start`";
    assert!(
        rehearsal.code == 1 && rehearsal.stdout.contains(told),
        "{}",
        rehearsal.stdout
    );
    // Draining twice: Caddy does not know it any more, the record does.
    assert_eq!(binary.verb(&["run"]).code, 0);
    assert_eq!(step_of(&binary.report(), "leave")["state"], "already-done");
    assert_eq!(caddy.upstreams(), ["s2"]);
    let start = binary.verb(&["start", "--undo-only"]);
    assert_eq!(start.code, 0, "{}{}", start.stdout, start.stderr);
    assert_eq!(caddy.upstreams(), ["s1", "s2"]);
}

/// The answers of Caddy 2.11.7 where somebody changes its configuration between two requests.
#[test]
fn what_was_changed_meanwhile_is_read_again() {
    let tagged = |tag: &str, body: &str| {
        let etag = format!("Etag: \"/config/ {tag}\"\r\n");
        answer("200 OK", &etag, body)
    };
    let upstream = r#"{"@id":"s1","dial":"10.0.0.1:80"}"#;
    let config = |list: &str| {
        format!(
            r#"{{"apps":{{"http":{{"servers":{{"a":{{"routes":[{{"handle":[{{"upstreams":[{list}]}}]}}]}}}}}}}}}}"#
        )
    };
    let (other, both) = (
        r#"{"dial":"10.0.0.2:80"}"#,
        format!(r#"{{"dial":"10.0.0.2:80"}},{upstream}"#),
    );
    let server = Server::start(Manner::Answers(vec![
        tagged("x", upstream),
        tagged("1", &config(&format!("{upstream},{other}"))),
        answer(
            "412 Precondition Failed",
            "",
            r#"{"error":"If-Match header did not match current config hash"}"#,
        ),
        tagged("y", upstream),
        tagged("2", &config(&both)),
        answer("200 OK", "", ""),
        answer("404 Not Found", "", r#"{"error":"unknown object ID 's1'"}"#),
        answer("200 OK", "", "[]"),
    ]));
    let run = Run::new();
    let ended = run.attempt(&step(&keys(&server.url(), "")), TIME);
    assert_eq!(ended, Ok(Outcome::Done));
    let requests = server.requests();
    for (at, tag) in [(2, "1"), (5, "2")] {
        assert!(
            requests[at].starts_with("DELETE /id/s1 "),
            "{}",
            requests[at]
        );
        let wanted = format!("if-match: \"/config/ {tag}\"\r\n");
        assert!(requests[at].contains(&wanted), "{}", requests[at]);
    }
    let left = intents(&run);
    let last = left.last().expect("an intent");
    assert_eq!(last.what["index"], 1.into());
    let list = last.what["list"].text();
    assert_eq!(
        list.as_deref(),
        Some("/config/apps/http/servers/a/routes/0/handle/0/upstreams")
    );
}

#[test]
fn an_answer_that_is_not_caddy_s_is_told() {
    for (answers, kind, retryable) in [
        (&["404 page not found"][..], ErrorKind::Status, false),
        (&["200 <html>"][..], ErrorKind::Protocol, true),
        (&["401 who are you?"][..], ErrorKind::Refused, false),
        (
            &["200 {}", "200 {}", "404 page not found"][..],
            ErrorKind::Refused,
            false,
        ),
    ] {
        let server = Server::answers(answers);
        let run = Run::new();
        let failure = run.attempt(&step(&keys(&server.url(), "")), Duration::from_secs(1));
        let failure = failure.expect_err("no Caddy");
        assert_eq!(
            (failure.kind, failure.retryable),
            (kind, retryable),
            "{failure}"
        );
    }
}

#[test]
#[ignore = "needs Caddy; tests/run has it"]
fn the_manual_s_example_works_as_it_stands() {
    network::own();
    let addresses = ["10.0.0.11", "10.0.0.12"];
    addresses.into_iter().for_each(network::add);
    let hostname = farewell::sys::host::hostname().expect("a name");
    let apps = ["one", "two"].map(App::start);
    let ids = [hostname.as_str(), "other"];
    let both = addresses.map(|address| {
        let settings = Settings {
            admin: 2019,
            of_admin: json!({"listen": format!("{address}:2019")}),
            ids: &ids,
            ..Settings::new()
        };
        Caddy::start_with(address, &apps.each_ref(), &settings)
    });
    let upstreams = |address: &str| {
        let url = format!("http://{address}:2019");
        let (_, text) = loopback::ask(&url, "GET /id/web/upstreams", "", "");
        serde_json::from_str::<Vec<Value>>(&text)
            .expect("a list")
            .len()
    };
    let binary = Binary::new("drain-caddy-manual", &manual::example("drain-caddy"));
    let run = binary.verb(&["run"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert_eq!(addresses.map(upstreams), [1, 1]);
    let start = binary.verb(&["start", "--undo-only"]);
    assert_eq!(start.code, 0, "{}{}", start.stdout, start.stderr);
    assert_eq!(addresses.map(upstreams), [2, 2]);
    drop(both);
}
