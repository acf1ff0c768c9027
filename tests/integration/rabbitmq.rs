//! `wait-safe` of RabbitMQ: a real cluster of three nodes, and stand-ins for what it does not say.

use std::time::{Duration, Instant};

use crate::support::binary::{Binary, step_of};
use crate::support::case::{SLACK, TIMEOUT};
use crate::support::rabbitmq::Rabbits;
use crate::support::servers::{Manner, Server, answer, dead_url};
use crate::support::{Dir, Run, problems, step};
use farewell::model::error::ErrorKind;
use farewell::step::{Outcome, StepSpec};
use nix::sys::signal::Signal;
use serde_json::json;

const TIME: Duration = Duration::from_secs(60);

fn keys(url: &str, more: &str) -> String {
    format!("kind = \"wait-safe\"\ncluster = \"rabbitmq\"\nurl = \"{url}\"\n{more}\n")
}

fn account(user: &str, password: &str) -> String {
    format!("user = \"{user}\"\npassword = \"{password}\"")
}

fn wait(url: &str) -> StepSpec {
    step(&keys(url, &account("guest", "guest")))
}

fn binary(name: &str, keys: &str, timeout: &str) -> Binary {
    let config = format!(
        "[[step]]\nname = \"safe\"\ntimeout = \"{timeout}\"\nattempt-timeout = \"700ms\"\n{keys}"
    );
    Binary::new(&format!("rabbitmq-{name}"), &config)
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + TIME;
    while !condition() {
        assert!(Instant::now() < end, "after 60 s not: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_address_is_the_node_s_own() {
    let list = problems(
        "kind = \"wait-safe\"\ncluster = \"rabbitmq\"\nurl = [\"http://a:1\", \"http://b:1\"]",
    );
    assert!(list.contains("no list"), "{list}");
    assert_eq!(problems(&keys("http://a:1", &account("u", "p"))), "");
    assert!(problems(&keys("http://a:1", "node = \"n1\"")).contains("unknown key"));
}

#[test]
#[ignore = "needs root and RabbitMQ; tests/run has it"]
fn a_node_of_three_waits_while_a_queue_needs_it() {
    // In a network of its own, so that the ports of the example and of epmd are free.
    let test = || {
        crate::support::network::own();
        let mut rabbits = Rabbits::start("rabbitmq-three", 3);
        let quorum = json!({"durable": true, "arguments": {"x-queue-type": "quorum"}});
        rabbits.put("/api/queues/%2F/orders", &quorum);
        let urls = rabbits.urls.clone();
        let (step, run) = (wait(&urls[0]), Run::new());
        // Until the queue has a member on each node.
        assert_eq!(run.attempt(&step, TIME), Ok(Outcome::Done));
        assert_eq!(run.attempt(&step, TIME), Ok(Outcome::Done));
        refuses(&rabbits);
        example();

        rabbits.end(2);
        let missing = "queue 'orders' in vhost '/'";
        // The others do not know at once that it is gone.
        let ends = || run.attempt(&step, Duration::from_secs(3));
        until("a queue needs it", || ends().is_err());
        let failure = ends().expect_err("a queue needs it");
        assert_eq!(failure.kind, ErrorKind::TimedOut, "{failure}");
        assert!(failure.cause.contains(missing), "{failure}");
        // A cluster that needs the node at the moment is no failure of a rehearsal.
        let said =
            binary("needs", &keys(&urls[1], &account("guest", "guest")), "20s").verb(&["rehearse"]);
        assert_eq!(said.code, 0, "{}", said.stdout);
        assert!(
            said.stdout.contains("not safe at the moment") && said.stdout.contains(missing),
            "{}",
            said.stdout
        );
        let run = Run::new();
        std::thread::scope(|threads| {
            let waits = threads.spawn(|| run.attempt(&step, TIME));
            until("it waits", || {
                run.waiting().iter().any(|it| it.contains(missing))
            });
            rabbits.begin(2);
            assert_eq!(waits.join().expect("no panic"), Ok(Outcome::Done));
        });

        // The node stands still, and goes on in time.
        let binary = binary(
            "still",
            &keys(&urls[0], &account("guest", "guest")),
            "1500ms",
        );
        rabbits.signal(0, Signal::SIGSTOP);
        let ended = binary.verb(&["run"]);
        let report = binary.report();
        assert_eq!(step_of(&report, "safe")["state"], "timed-out", "{report:#}");
        assert!(ended.took < TIMEOUT + 2 * SLACK, "{:?}", ended.took);
        let run = Run::new();
        std::thread::scope(|threads| {
            let waits = threads.spawn(|| run.retry(&step, TIME));
            rabbits.signal(0, Signal::SIGCONT);
            assert_eq!(waits.join().expect("no panic"), Ok(Outcome::Done));
        });

        // A node that dies while it waits is not there any more, which nobody tells from a wrong address.
        rabbits.end(0);
        let failure = run
            .attempt(&step, Duration::from_secs(1))
            .expect_err("it is gone");
        assert_eq!(
            (failure.kind, failure.retryable),
            (ErrorKind::Unreachable, true),
            "{failure}"
        );
    };
    std::thread::spawn(test).join().expect("no panic");
}

/// Who may not ask is refused at once, and the smallest role may.
fn refuses(rabbits: &Rabbits) {
    let url = &rabbits.urls[0];
    rabbits.put(
        "/api/users/nobody",
        &json!({"password": "s3cret-nobody", "tags": ""}),
    );
    rabbits.put(
        "/api/users/farewell",
        &json!({"password": "s3cret-rabbit", "tags": "management"}),
    );
    let allowed = step(&keys(url, &account("farewell", "s3cret-rabbit")));
    assert_eq!(Run::new().attempt(&allowed, TIME), Ok(Outcome::Done));
    for account in [
        account("nobody", "s3cret-nobody"),
        account("farewell", "s3cret-wrong"),
        String::new(),
    ] {
        let keys = keys(url, &account);
        let failure = Run::new().attempt(&step(&keys), TIME).expect_err("refused");
        assert_eq!(
            (failure.kind, failure.retryable),
            (ErrorKind::Refused, false),
            "{failure}"
        );
        let said = binary("refused", &keys, "20s").verb(&["rehearse"]);
        assert!(
            said.code == 1 && !said.stdout.contains("s3cret"),
            "{}",
            said.stdout
        );
    }
}

/// The manual's example, as it stands.
fn example() {
    let credentials = Dir::new("rabbitmq-credentials");
    credentials.credential("rabbitmq-password", "s3cret-rabbit");
    let binary = Binary::new(
        "rabbitmq-example",
        &crate::support::manual::example("wait-safe-rabbitmq"),
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
            verb != "rehearse" || told.contains("the cluster can do without it"),
            "{told}"
        );
    }
    let report = binary.report();
    assert_eq!(report["steps"][0]["state"], "done", "{report:#}");
}

/// A stand-in for a node, with replies as RabbitMQ's documentation and its source have them.
fn stand_in(answers: &[(&str, &str)]) -> Server {
    let whole =
        |(status, body): &(&str, &str)| answer(status, "Content-Type: application/json\r\n", body);
    Server::start(Manner::Answers(answers.iter().map(whole).collect()))
}

const OK: (&str, &str) = ("200 OK", "{\"status\":\"ok\"}");
const GONE: (&str, &str) = (
    "404 Not Found",
    "{\"error\":\"Object Not Found\",\"reason\":\"Not Found\"}",
);
const MIRROR: (&str, &str) = (
    "503 Service Unavailable",
    "{\"status\":\"failed\",\"reason\":\"There are classic mirrored queues without online synchronised mirrors\",\"queues\":\
     [{\"name\":\"m\",\"readable_name\":\"queue 'm' in vhost '/'\",\"type\":\"classic\",\"virtual_host\":\"/\"}]}",
);

#[test]
fn mirrors_count_where_there_are_any() {
    let run = Run::new();
    // RabbitMQ 4 has no mirrors any more.
    let four = stand_in(&[OK, GONE]);
    assert_eq!(run.attempt(&wait(&four.url()), TIME), Ok(Outcome::Done));
    assert_eq!(four.requests().len(), 2);
    // What was good before it waited for the mirrors is asked again.
    let mirrors = stand_in(&[OK, MIRROR, MIRROR, OK, OK, OK]);
    assert_eq!(run.attempt(&wait(&mirrors.url()), TIME), Ok(Outcome::Done));
    let asked: Vec<bool> = mirrors
        .requests()
        .iter()
        .map(|it| it.contains("mirror-sync"))
        .collect();
    assert_eq!(asked, [false, true, true, true, false, true]);
    assert!(
        run.waiting()[0].contains("queue 'm' in vhost '/'"),
        "{:?}",
        run.waiting()
    );
    // It is asked five times a second at most.
    let never = stand_in(&[OK, MIRROR]);
    let failure = run
        .attempt(&wait(&never.url()), Duration::from_secs(1))
        .expect_err("never");
    assert_eq!(failure.kind, ErrorKind::TimedOut, "{failure}");
    assert!(never.requests().len() <= 7, "{}", never.requests().len());
    // One node alone has nobody who could take over.
    let one = stand_in(&[(
        "200 OK",
        "{\"status\":\"ok\",\"reason\":\"single node cluster\"}",
    )]);
    let run = Run::new();
    assert_eq!(run.attempt(&wait(&one.url()), TIME), Ok(Outcome::Done));
    assert_eq!(run.remarks()[0], "single node cluster");
}

/// What a check says of so many queues.
fn critical(count: usize) -> String {
    let queue = |at: usize| {
        let name = format!("queue 'orders-{at:08}' in vhost '/'");
        json!({"name": format!("orders-{at:08}"), "readable_name": name, "type": "quorum", "virtual_host": "/"})
    };
    let queues: Vec<_> = (0..count).map(queue).collect();
    json!({"queues": queues, "reason": "they would lose their quorum", "status": "failed"})
        .to_string()
}

#[test]
fn an_answer_about_thousands_of_queues_is_understood_also_where_it_is_cut() {
    const UNAVAILABLE: &str = "503 Service Unavailable";
    // More than 1 MiB, and more than what is read of any answer.
    for (count, told) in [
        (
            12_000,
            "queue 'orders-00000002' in vhost '/' and 11997 more (they would",
        ),
        (
            90_000,
            "queue 'orders-00000002' in vhost '/' and more than ",
        ),
    ] {
        let body = critical(count);
        assert!(body.len() > 1 << 20);
        let node = stand_in(&[(UNAVAILABLE, &body), OK, OK]);
        let run = Run::new();
        assert_eq!(run.attempt(&wait(&node.url()), TIME), Ok(Outcome::Done));
        assert!(run.waiting()[0].contains(told), "{:?}", run.waiting());
    }
    // Of something else nothing is claimed but that it was cut.
    for status in ["200 OK", UNAVAILABLE] {
        let flood = "x".repeat(9 << 20);
        let node = stand_in(&[(status, &flood)]);
        let failure = Run::new()
            .attempt(&wait(&node.url()), TIME)
            .expect_err("cut");
        assert_eq!(
            (failure.kind, failure.retryable),
            (ErrorKind::Protocol, true),
            "{failure}"
        );
        assert!(failure.cause.contains("longer than 8 MiB"), "{failure}");
    }
}

#[test]
fn what_is_no_health_check_is_no_success() {
    for (answers, word, retryable) in [
        (vec![GONE], ErrorKind::Status, false),
        (vec![("200 OK", "<html>")], ErrorKind::Protocol, true),
        (vec![("200 OK", "{}")], ErrorKind::Protocol, true),
        (
            vec![("200 OK", "{\"status\":\"failed\"}")],
            ErrorKind::Protocol,
            true,
        ),
        (
            vec![("503 Service Unavailable", "no backend")],
            ErrorKind::Status,
            true,
        ),
        (
            vec![("500 Internal Server Error", "")],
            ErrorKind::Status,
            true,
        ),
        (vec![("403 Forbidden", "")], ErrorKind::Refused, false),
        (
            vec![
                OK,
                (
                    "401 Unauthorized",
                    "{\"error\":\"not_authorized\",\"reason\":\"Login failed\"}",
                ),
            ],
            ErrorKind::Refused,
            false,
        ),
    ] {
        let server = stand_in(&answers);
        let failure = Run::new()
            .attempt(&wait(&server.url()), TIME)
            .expect_err("no success");
        assert_eq!(
            (failure.kind, failure.retryable),
            (word, retryable),
            "{failure}"
        );
    }
    // It dies between the two questions.
    let dies = Server::start(Manner::Breaks("HTTP/1.1 200 OK\r\nContent-Le".to_owned()));
    for url in [dies.url(), dead_url()] {
        let failure = Run::new()
            .attempt(&wait(&url), TIME)
            .expect_err("no answer");
        assert_eq!(
            (failure.kind, failure.retryable),
            (ErrorKind::Unreachable, true),
            "{failure}"
        );
    }
}
