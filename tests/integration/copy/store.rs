//! Copies to a stand-in for an HTTP store, which keeps what is put.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use farewell::config::facts::Facts;
use farewell::model::error::ErrorKind;
use farewell::model::trigger::Trigger;
use farewell::step::Outcome;

use super::{Copying, TIME, files, write};
use crate::support::loopback::{Asked, Loopback, Reply};
use crate::support::servers::dead_url;
use crate::support::{Dir, problems, read};

/// What was put, by its target.
type Kept = Arc<Mutex<BTreeMap<String, String>>>;

fn store() -> (Loopback, Kept) {
    let kept = Kept::default();
    let keeps = kept.clone();
    let server = Loopback::start(move |asked: &Asked| {
        if asked.method != "PUT" {
            return Reply::text("405 Method Not Allowed", "");
        }
        let target = asked.whole.split(' ').nth(1).unwrap_or_default();
        let length = asked.header("content-length").expect("a length");
        assert_eq!(length, asked.body.len().to_string());
        assert_eq!(asked.header("x-kept"), Some("7"));
        keeps
            .lock()
            .expect("no panic")
            .insert(target.to_owned(), asked.body.clone());
        Reply::text("201 Created", "")
    });
    (server, kept)
}

/// Files of several sizes, one of them too large for one piece.
fn logs(name: &str) -> Dir {
    let from = Dir::new(name);
    write(&from.0, "a.log", b"one");
    write(&from.0, "deep/b c:d.log", b"");
    write(&from.0, "deep/large.log", "x".repeat(3 << 20).as_bytes());
    from
}

const HEADERS: &str = "headers = { X-Kept = \"7\" }";

#[test]
fn every_problem_of_the_keys_is_told() {
    let with = |keys: &str| problems(&format!("kind = \"copy\"\nfrom = \"/a/*\"\n{keys}"));
    for right in [
        "to = \"https://h/x\"",
        "to = \"https://h/x-${name}?k=v\"",
        "to = [\"https://h/a\", \"https://h/b\"]",
        "to = \"${credential:urls}\"",
        "to = \"https://h/x\"\ns3 = { region = \"r\", access-key-id = \"k\", secret-access-key = \"${credential:s}\" }",
    ] {
        assert_eq!(with(right), "", "{right}");
    }
    // A secret in the query is warned of under the key that it stands in.
    let step = "kind = \"copy\"\nfrom = \"/a\"\nto = \"https://h/x?token=s3cret-token\"";
    let facts = Facts::new(Trigger::Stop, "run-1");
    let checks = read(step).2;
    let told: Vec<_> = checks.iter().filter_map(|it| it.run(&facts)).collect();
    let is_told = |(_, key, message): &(usize, String, String)| {
        key == "to" && message.contains("the parameter `token` is a secret in a URL")
    };
    assert!(told.iter().any(is_told), "{told:?}");
    for (keys, expected) in [
        ("to = \"ftp://h/x\"", "http://"),
        ("to = \"x\"", "neither an absolute path nor a URL"),
        (
            "to = \"https://u:s3cret-store@h/\"",
            "must not contain a user or password",
        ),
        (
            "to = [\"/a\", \"https://h/b\"]",
            "one directory, or to URLs",
        ),
        ("to = \"https://h/${nmae}\"", "unknown fact ${nmae}"),
        (
            "to = \"https://h/x\"\ns3 = { region = \"r\" }",
            "\"s3.access-key-id\": missing",
        ),
        (
            "to = \"https://h/x\"\ns3 = { regoin = \"r\" }",
            "did you mean `region`",
        ),
        (
            "to = \"/b\"\nheaders = { A = \"b\" }",
            "means nothing beside a directory",
        ),
    ] {
        let told = with(keys);
        assert!(told.contains(expected), "{keys}: {told}");
    }
}

#[test]
fn files_are_put_behind_a_url_or_at_their_name_in_it() {
    for (to, targets) in [
        (
            "/logs/",
            [
                "/logs/a.log",
                "/logs/deep/b%20c%3Ad.log",
                "/logs/deep/large.log",
            ],
        ),
        (
            "/x?sas=1",
            [
                "/x/a.log?sas=1",
                "/x/deep/b%20c%3Ad.log?sas=1",
                "/x/deep/large.log?sas=1",
            ],
        ),
        (
            "/m-${name}.bak",
            [
                "/m-a.log.bak",
                "/m-deep/b%20c%3Ad.log.bak",
                "/m-deep/large.log.bak",
            ],
        ),
    ] {
        let from = logs("copy-put");
        let (server, kept) = store();
        let to = format!("{:?}", server.url() + to);
        let copying = Copying::to(&format!("{:?}", from.file("**")), &to, HEADERS);
        let said = copying.rehearse().expect("ready");
        assert!(said.starts_with("3 files now, 3.0 MiB; OPTIONS "), "{said}");
        assert_eq!(copying.attempt(TIME), Ok(Outcome::Done));
        {
            let kept = kept.lock().expect("no panic");
            assert_eq!(kept.keys().collect::<Vec<_>>(), targets);
            let sizes: Vec<usize> = kept.values().map(String::len).collect();
            assert_eq!(sizes, [3, 0, 3 << 20]);
        }
        let copied = copying.run.recorder.copied();
        let one = copied.iter().find(|it| it.name == "a.log").expect("it");
        // Of "one".
        assert!(one.sha256.starts_with("7692c3ad3540bb80"), "{}", one.sha256);
        assert!(copying.remarks().contains("3 files copied, 3.0 MiB"));
        // Again there is nothing new.
        kept.lock().expect("no panic").clear();
        assert_eq!(copying.attempt(TIME), Ok(Outcome::Done));
        assert_eq!(kept.lock().expect("no panic").len(), 0);
    }
}

#[test]
fn of_many_urls_each_is_for_its_file_and_its_key_is_shown_to_nobody() {
    let from = logs("copy-presigned");
    let (server, kept) = store();
    let url = |name: &str| {
        format!(
            "{}/p/{name}?X-Amz-Signature=0123456789abcdef-{name}",
            server.url()
        )
    };
    let to = format!("{:?}", [url("large.log"), url("a.log")]);
    let globs = format!("{:?}", [from.file("a.log"), from.file("deep/*")]);
    let copying = Copying::to(&globs, &to, HEADERS);
    let failure = copying.attempt(TIME).expect_err("one has none");
    assert_eq!(failure.kind, ErrorKind::Config, "{failure}");
    assert!(
        failure
            .to_string()
            .contains("no URL of `to` ends in this name"),
        "{failure}"
    );
    assert!(
        failure.to_string().contains("2 of 3 files copied"),
        "{failure}"
    );
    let targets: Vec<String> = kept.lock().expect("no panic").keys().cloned().collect();
    let signed = |name: &str| format!("/p/{name}?X-Amz-Signature=0123456789abcdef-{name}");
    assert_eq!(targets, [signed("a.log"), signed("large.log")]);

    let refuses = Loopback::start(|_: &Asked| Reply::text("403 Forbidden", "no"));
    let to = format!(
        "\"{}/p/a.log?X-Amz-Signature=0123456789abcdef-x\"",
        refuses.url()
    );
    let copying = Copying::to(&format!("{:?}", from.file("a.log")), &to, "");
    let failure = copying.attempt(TIME).expect_err("refused");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Refused, false)
    );
    let shown = farewell::model::secrets::mask(&failure.to_string()).to_string();
    assert!(
        shown.contains("/p/a.log") && !shown.contains("0123456789abcdef"),
        "{shown}"
    );
}

#[test]
fn a_store_that_takes_nothing_is_not_asked_for_every_file() {
    for (status, word, retryable) in [
        ("403 Forbidden", ErrorKind::Refused, false),
        ("405 Method Not Allowed", ErrorKind::Status, false),
        ("507 Insufficient Storage", ErrorKind::Io, false),
        ("503 Service Unavailable", ErrorKind::Status, true),
    ] {
        let from = Dir::new("copy-refused");
        for at in 0..40 {
            write(&from.0, &format!("{at}.log"), b"x");
        }
        let asked = Arc::new(AtomicUsize::new(0));
        let counts = asked.clone();
        let server = Loopback::start(move |_: &Asked| {
            counts.fetch_add(1, Ordering::SeqCst);
            Reply::text(status, "not now")
        });
        let to = format!("{:?}", server.url());
        let copying = Copying::to(&format!("{:?}", from.file("*")), &to, "");
        let failure = copying.attempt(TIME).expect_err(status);
        assert_eq!(
            (failure.kind, failure.retryable),
            (word, retryable),
            "{failure}"
        );
        assert!(
            failure.to_string().contains("0 of 40 files copied"),
            "{failure}"
        );
        // As many as are sent at once.
        assert!(asked.load(Ordering::SeqCst) <= 8, "{status}");
    }
}

#[test]
fn one_file_that_is_refused_costs_the_others_nothing_and_is_tried_again_alone() {
    let from = Dir::new("copy-too-large");
    for name in ["a.log", "b.log", "c.log"] {
        write(&from.0, name, name.as_bytes());
    }
    let puts: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = puts.clone();
    let server = Loopback::start(move |asked: &Asked| {
        let mut puts = heard.lock().expect("no panic");
        puts.push(asked.path.clone());
        let is_first = puts.iter().filter(|it| *it == "/b.log").count() == 1;
        match asked.path == "/b.log" && is_first {
            true => Reply::text("413 Content Too Large", ""),
            false => Reply::text("200 OK", ""),
        }
    });
    let to = format!("{:?}", server.url());
    let copying = Copying::to(&format!("{:?}", from.file("*")), &to, "");
    let failure = copying.attempt(TIME).expect_err("one");
    assert!(
        failure.to_string().contains("2 of 3 files copied"),
        "{failure}"
    );
    assert!(failure.subject.ends_with("/b.log"), "{failure}");
    assert_eq!(copying.attempt(TIME), Ok(Outcome::Done));
    let mut puts = puts.lock().expect("no panic").clone();
    puts.sort();
    assert_eq!(puts, ["/a.log", "/b.log", "/b.log", "/c.log"]);
}

#[test]
fn a_store_that_is_silent_or_not_there_costs_the_time_of_the_step_and_no_more() {
    let from = logs("copy-silent");
    let globs = format!("{:?}", from.file("**"));
    let silent = Loopback::start(|_: &Asked| Reply::Silence);
    let time = Duration::from_secs(3);
    let copying = Copying::to(&globs, &format!("{:?}", silent.url()), "");
    let failure = copying.attempt(time).expect_err("no answer");
    assert_eq!(failure.kind, ErrorKind::TimedOut, "{failure}");
    let copying = Copying::to(&globs, &format!("{:?}", dead_url()), "");
    let failure = copying.attempt(TIME).expect_err("nobody");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Unreachable, true)
    );
    assert!(copying.rehearse().is_err());
    // A file that is too long for its rate, too.
    let (server, _) = store();
    let copying = Copying::to(
        &globs,
        &format!("{:?}", server.url()),
        &format!("{HEADERS}\nbwlimit = \"100K\""),
    );
    let failure = copying.attempt(time).expect_err("slow");
    assert_eq!(failure.kind, ErrorKind::TimedOut, "{failure}");
    assert!(
        failure.to_string().contains("of 3 files copied"),
        "{failure}"
    );
}

#[test]
fn a_fact_may_be_a_directory_or_an_address() {
    let (from, to) = (logs("copy-fact"), Dir::new("copy-fact-to"));
    let (server, kept) = store();
    let place = Dir::new("copy-fact-place");
    let fact = format!("\"${{file:{}}}\"", place.file("place"));
    let copy = |to: &str| {
        write(&place.0, "place", to.as_bytes());
        let copying = Copying::to(&format!("{:?}", from.file("**")), &fact, HEADERS);
        assert_eq!(copying.attempt(TIME), Ok(Outcome::Done), "{to}");
    };
    copy(&to.0.display().to_string());
    assert_eq!(
        (files(&to.0).len(), kept.lock().expect("no panic").len()),
        (3, 0)
    );
    copy(&(server.url() + "/from-${name}"));
    let kept = kept.lock().expect("no panic");
    assert_eq!(kept.keys().next().map(String::as_str), Some("/from-a.log"));
}
