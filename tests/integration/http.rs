//! `http` against servers that behave, and servers that do not.

use std::time::{Duration, Instant};

use crate::support::own_process::{this_test, through};
use crate::support::servers::{
    Manner, Server, TlsServer, answer, dead_url, make_certificates, make_useless_certificates,
};
use crate::support::{Dir, Run, problems, read, step};
use farewell::model::error::{ErrorKind, Failure};
use farewell::step::{AttemptPolicy, Outcome, StepSpec};

const TIME: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_secs(2);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(30);

fn http(url: &str, keys: &str) -> StepSpec {
    step(&format!("kind = \"http\"\nurl = {url:?}\n{keys}"))
}

fn urls(urls: &[&str], keys: &str) -> StepSpec {
    step(&format!("kind = \"http\"\nurl = {urls:?}\n{keys}"))
}

fn fails(step: &StepSpec, time: Duration) -> Failure {
    Run::new().attempt(step, time).expect_err("a failure")
}

fn judged(failure: &Failure) -> (ErrorKind, bool) {
    (failure.kind, failure.retryable)
}

#[test]
fn every_problem_of_the_keys_is_told_and_no_secret_in_it() {
    let with = |keys: &str| problems(&format!("kind = \"http\"\n{keys}"));
    let good = "url = \"http://h/\"\n";
    assert_eq!(with(good), "");
    for (keys, expected) in [
        ("", "missing"),
        ("url = \"http://joe:s3cret@h/\"", "`password`"),
        ("url = \"http://h:99999/\"", "65535"),
        ("url = \"http://${credential:x}/\"", "credential"),
    ] {
        let told = with(keys);
        assert!(
            told.contains(expected) && !told.contains("s3cret"),
            "{told}"
        );
    }
    for (keys, expected) in [
        ("method = \"get\"", "upper case"),
        ("body = \"a\"\njson = 1", "only one of"),
        ("expect = 99", "100"),
        ("expect = []", "must not be empty"),
        ("every = \"1s\"", "beside `until`"),
        ("every = \"1ms\"\nuntil = {}", "at least 10ms"),
        ("until = {}\nexpect = 200", "`expect`"),
        ("until = { equals = 1 }", "\"until.pointer\": missing"),
        ("until = { pointer = \"a\" }", "begins with `/`"),
        ("until = { statsu = 1 }", "did you mean `status`?"),
        ("user = \"u\"", "`password`"),
        ("password = \"s3cret\"", "`user`"),
        (
            "user = \"u\"\npassword = \"s3cret-one\"\nheaders = { authorization = \"s3cret-two\" }",
            "cannot both",
        ),
        ("headers = { \"a b\" = \"x\" }", "is not a header name"),
        (
            "headers = { Content-Length = \"1\" }",
            "sets this header itself",
        ),
        ("headers = { X-Token = \"s3cret\\r\\nX: y\" }", "line break"),
        ("cert-file = \"/c\"", "`key-file`"),
        ("ca-file = \"c\"", "absolute"),
        ("server-name = \"a b\"", "neither"),
    ] {
        let told = with(&format!("{good}{keys}"));
        assert!(
            told.contains(expected) && !told.contains("s3cret"),
            "{keys}: {told}"
        );
    }
}

#[test]
fn four_requests_share_one_connection() {
    let server = Server::answers(&["200 ok"]);
    let run = Run::new();
    for _ in 0..4 {
        let step = http(&server.url(), "method = \"POST\"\nbody = \"x\"");
        assert_eq!(run.attempt(&step, TIME), Ok(Outcome::Done));
    }
    assert_eq!((server.requests().len(), server.connections()), (4, 1));
}

#[test]
fn a_kept_connection_that_the_server_closed_fails_nothing() {
    // The server closes only when it has read the next request, so nothing can be seen of it before.
    let server = Server::start(Manner::Closes { after: 1 });
    let run = Run::new();
    for _ in 0..3 {
        let step = http(&server.url(), "method = \"POST\"\nbody = \"x\"");
        assert_eq!(run.attempt(&step, TIME), Ok(Outcome::Done));
    }
    assert_eq!(server.connections(), 3);
    // One that closes at once is not there, and is not asked for ever.
    let never = Server::start(Manner::Closes { after: 0 });
    let failure = fails(&http(&never.url(), ""), TIME);
    assert_eq!(
        judged(&failure),
        (ErrorKind::Unreachable, true),
        "{failure}"
    );
    assert_eq!(never.connections(), 1);
}

#[test]
fn what_is_configured_is_sent() {
    let server = Server::answers(&["200"]);
    let url = format!("{}/a/b?c=d%20e", server.url());
    let keys = "method = \"PURGE\"\nuser = \"joe\"\npassword = \"s3cret-sent\"\nheaders = { X-Run = \"${run}\" }\njson = { a = [1, \"${run}\"] }";
    assert_eq!(
        Run::new().attempt(&http(&url, keys), TIME),
        Ok(Outcome::Done)
    );
    let request = &server.requests()[0];
    assert!(
        request.starts_with("PURGE /a/b?c=d%20e HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(
        request.ends_with("\r\n\r\n{\"a\":[1,\"run-1\"]}"),
        "{request}"
    );
    let head = request.to_lowercase();
    for line in [
        format!("host: {}", server.address),
        format!("user-agent: farewell/{}", env!("CARGO_PKG_VERSION")),
        "x-run: run-1".to_owned(),
        "content-type: application/json".to_owned(),
    ] {
        assert!(
            head.contains(&format!("\r\n{line}\r\n")),
            "{line} in {head}"
        );
    }
    assert!(request.contains("Basic am9lOnMzY3JldC1zZW50"), "{request}");
    assert_eq!(
        farewell::model::secrets::mask("Basic am9lOnMzY3JldC1zZW50, s3cret-sent"),
        "Basic ********, ********"
    );
    // Without a body a POST says so, and a GET says nothing.
    for (method, length) in [("POST", true), ("GET", false)] {
        let server = Server::answers(&["204"]);
        let step = http(&server.url(), &format!("method = {method:?}"));
        assert_eq!(Run::new().attempt(&step, TIME), Ok(Outcome::Done));
        let head = server.requests()[0].to_lowercase();
        assert_eq!(head.contains("content-length: 0"), length, "{head}");
        assert!(!head.contains("transfer-encoding"), "{head}");
    }
}

#[test]
fn statuses_are_judged() {
    for (answers, keys, expected) in [
        ("401 who?", "", (ErrorKind::Refused, false)),
        ("403", "", (ErrorKind::Refused, false)),
        ("404 gone", "", (ErrorKind::Status, false)),
        ("200", "expect = [201, 204]", (ErrorKind::Status, false)),
        ("429", "", (ErrorKind::Status, true)),
        ("500", "", (ErrorKind::Status, true)),
    ] {
        let server = Server::answers(&[answers]);
        let failure = fails(&http(&server.url(), keys), TIME);
        assert_eq!(judged(&failure), expected, "{failure}");
        assert_eq!(failure.subject, format!("{}/", server.url()));
    }
    let server = Server::answers(&["404 gone"]);
    let run = Run::new();
    assert_eq!(
        run.attempt(&http(&server.url(), "expect = 404"), TIME),
        Ok(Outcome::Done)
    );
    let failure = fails(&http(&server.url(), ""), TIME);
    assert_eq!(failure.cause, "status 404: gone");
    let server = Server::answers(&["500", "500", "200"]);
    assert_eq!(run.retry(&http(&server.url(), ""), TIME), Ok(Outcome::Done));
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn a_redirect_is_not_followed_and_takes_no_credential_with_it() {
    let other = Server::answers(&["200"]);
    let redirect = answer(
        "302 Found",
        &format!("Location: {}/x?token=t\r\n", other.url()),
        "",
    );
    let server = Server::start(Manner::Answers(vec![redirect]));
    let keys = "headers = { X-Consul-Token = \"s3cret-redirect\" }";
    let failure = fails(&http(&server.url(), keys), TIME);
    assert_eq!(judged(&failure), (ErrorKind::Status, false));
    assert!(
        failure.cause.contains(&other.address.to_string()),
        "{failure}"
    );
    assert!(!failure.cause.contains("token"), "{failure}");
    assert_eq!(other.connections(), 0);
}

#[test]
fn servers_that_misbehave_cost_their_deadline_and_have_a_word() {
    let silent = Server::start(Manner::Silent);
    let dripping = Server::start(Manner::Drips);
    let breaks = |text: &str| Server::start(Manner::Breaks(text.to_owned()));
    let half_head = breaks("HTTP/1.1 200 OK\r\nContent-Le");
    let half_body = breaks("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    let half_chunk = breaks("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf");
    let no_http = breaks("SSH-2.0-OpenSSH_9.2\r\n\r\n");
    let half_silent = Manner::Answers(vec![
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf".to_owned(),
    ]);
    let half_silent = Server::start(half_silent);
    let huge_head = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    let huge_head = breaks(&huge_head);
    for (name, url, expected) in [
        ("nobody", dead_url(), (ErrorKind::Unreachable, true)),
        ("silent", silent.url(), (ErrorKind::TimedOut, true)),
        ("dripping", dripping.url(), (ErrorKind::TimedOut, true)),
        (
            "half a head",
            half_head.url(),
            (ErrorKind::Unreachable, true),
        ),
        ("half a body", half_body.url(), (ErrorKind::Protocol, true)),
        (
            "half a chunk",
            half_chunk.url(),
            (ErrorKind::Protocol, true),
        ),
        (
            "half a body, then silence",
            half_silent.url(),
            (ErrorKind::TimedOut, true),
        ),
        ("no HTTP", no_http.url(), (ErrorKind::Protocol, false)),
        ("a huge head", huge_head.url(), (ErrorKind::Protocol, false)),
    ] {
        let begun = Instant::now();
        let failure = fails(&http(&url, ""), SHORT);
        assert_eq!(judged(&failure), expected, "{name}: {failure}");
        assert_eq!(failure.subject, format!("{url}/"), "{name}");
        assert!(
            begun.elapsed() < SHORT + SLACK,
            "{name}: {:?}",
            begun.elapsed()
        );
    }
}

#[test]
fn an_endless_body_is_not_read_and_its_status_decides() {
    let server = Server::start(Manner::Floods);
    let run = Run::new();
    assert_eq!(
        run.attempt(&http(&server.url(), ""), TIME),
        Ok(Outcome::Done)
    );
    let failure = run.attempt(&http(&server.url(), "expect = 204"), TIME);
    assert_eq!(failure.map_err(|it| it.kind), Err(ErrorKind::Status));
    assert_eq!(server.connections(), 2, "the first one was dropped");
    std::thread::sleep(Duration::from_millis(300));
    assert!(server.sent() < 100 << 20, "{} bytes", server.sent());
}

#[test]
fn an_expired_deadline_asks_nobody() {
    let server = Server::answers(&["200"]);
    let failure = fails(&http(&server.url(), ""), Duration::ZERO);
    assert_eq!(judged(&failure), (ErrorKind::TimedOut, true), "{failure}");
    assert_eq!(server.connections(), 0);
}

#[test]
fn the_next_endpoint_is_asked_and_remembered() {
    let (sick, good) = (Server::answers(&["503"]), Server::answers(&["200"]));
    let silent = Server::start(Manner::Silent);
    let dead = dead_url();
    let run = Run::new();
    let all = urls(&[&dead, &sick.url(), &silent.url(), &good.url()], "");
    let time = Duration::from_secs(9);
    assert_eq!(run.attempt(&all, time), Ok(Outcome::Done));
    assert_eq!(run.attempt(&all, time), Ok(Outcome::Done));
    let asked = [&sick, &silent, &good].map(|it| it.requests().len());
    assert_eq!(asked, [1, 1, 2], "the good one comes first the second time");

    let failure = fails(&urls(&[&dead, &silent.url()], ""), SHORT);
    assert_eq!(judged(&failure), (ErrorKind::TimedOut, true));
    let text = failure.to_string();
    assert!(
        text.contains(&dead) && text.contains(&silent.url()),
        "{text}"
    );
    // A refusal is an answer: the others would say the same.
    let refusing = Server::answers(&["403"]);
    assert_eq!(
        fails(&urls(&[&refusing.url(), &good.url()], ""), TIME).kind,
        ErrorKind::Refused
    );
    assert_eq!(good.requests().len(), 2);
}

#[test]
fn polling_ends_when_the_value_is_so() {
    let server = Server::answers(&[
        "503",
        "200 {\"n\":{\"a\":2}}",
        "200 no json",
        "200 {\"n\":{\"a\":0.0}}",
    ]);
    let keys = "every = \"20ms\"\nuntil = { pointer = \"/n/a\", equals = 0 }";
    let step = http(&server.url(), keys);
    assert_eq!(step.policy, AttemptPolicy::Polled);
    let run = Run::new();
    assert_eq!(run.attempt(&step, TIME), Ok(Outcome::Done));
    assert_eq!(server.requests().len(), 4);
    let waiting = run.waiting();
    assert!(waiting[0].ends_with("last answer 503"), "{waiting:?}");
    assert_eq!(waiting.len(), 3, "{waiting:?}");
    // Until something is there at all, and until a server is down.
    let server = Server::answers(&["200 {\"a\":null}", "200 {}", "200 {\"a\":false}", "401"]);
    let step = http(
        &server.url(),
        "every = \"20ms\"\nuntil = { pointer = \"/a\" }",
    );
    assert_eq!(run.attempt(&step, TIME), Ok(Outcome::Done));
    let step = http(&server.url(), "until = { status = 401 }");
    assert_eq!(run.attempt(&step, TIME), Ok(Outcome::Done));
    assert_eq!(server.requests().len(), 4);
}

#[test]
fn polling_ends_at_its_deadline_with_the_last_answer() {
    let server = Server::answers(&["503"]);
    let begun = Instant::now();
    let failure = fails(&http(&server.url(), "until = {}"), Duration::from_secs(4));
    assert_eq!(failure.kind, ErrorKind::TimedOut);
    assert!(failure.cause.ends_with("last answer 503"), "{failure}");
    assert!(begun.elapsed() < Duration::from_secs(4) + SLACK);
    assert!(
        (3..=21).contains(&server.requests().len()),
        "{}",
        server.requests().len()
    );

    let refusing = Server::answers(&["503", "401"]);
    let failure = fails(&http(&refusing.url(), "until = {}"), TIME);
    assert_eq!(judged(&failure), (ErrorKind::Refused, false));
    let failure = fails(&http(&dead_url(), "until = {}"), SHORT);
    assert!(failure.cause.contains("refused"), "{failure}");
}

#[test]
fn polling_stops_when_it_is_told_to() {
    let server = Server::answers(&["503"]);
    let run = Run::new();
    let step = http(&server.url(), "every = \"60s\"\nuntil = {}");
    let begun = Instant::now();
    std::thread::scope(|threads| {
        let polling = threads.spawn(|| run.attempt(&step, Duration::from_secs(60)));
        while server.requests().is_empty() {
            std::thread::sleep(Duration::from_millis(10));
        }
        run.cancel.cancel(Duration::MAX);
        assert!(polling.join().expect("no panic").is_err());
    });
    assert!(begun.elapsed() < TIME, "{:?}", begun.elapsed());
}

#[test]
fn a_name_that_does_not_resolve_is_unreachable() {
    let failure = fails(&http("http://no-such-host.invalid/", ""), TIME);
    assert_eq!(
        judged(&failure),
        (ErrorKind::Unreachable, true),
        "{failure}"
    );
    assert_eq!(failure.subject, "http://no-such-host.invalid/");
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_resolver_that_hangs_costs_the_deadline_and_no_more() {
    let dir = Dir::new("resolver");
    std::fs::write(dir.file("resolv.conf"), "nameserver 127.0.0.1\n").expect("written");
    let script = format!(
        "ip link set lo up && mount --bind {} /etc/resolv.conf && exec \"$0\" \"$@\"",
        dir.file("resolv.conf")
    );
    let wrapper = ["unshare", "-m", "-n", "sh", "-c", &script];
    through(&wrapper, this_test!(), || {
        // Keeps the port, and never answers.
        let _silent = std::net::UdpSocket::bind("127.0.0.1:53").expect("a socket");
        let begun = Instant::now();
        let failure = fails(&http("http://name.example/", ""), SHORT);
        assert_eq!(judged(&failure), (ErrorKind::TimedOut, true), "{failure}");
        assert!(failure.cause.contains("name"), "{failure}");
        assert!(
            (SHORT..SHORT + SLACK).contains(&begun.elapsed()),
            "{:?}",
            begun.elapsed()
        );
    });
}

#[test]
#[ignore = "needs openssl; tests/run has it"]
fn tls_is_verified_in_both_directions() {
    let dir = Dir::new("tls");
    make_certificates(&dir);
    let ca = format!("ca-file = {:?}", dir.file("ca.crt"));
    let own = |cert: &str, key: &str| {
        format!(
            "{ca}\ncert-file = {:?}\nkey-file = {:?}",
            dir.file(cert),
            dir.file(key)
        )
    };
    let run = Run::new();
    let url = |server: &TlsServer| format!("https://{}/x", server.address);

    let server = TlsServer::start(&dir, "server", false);
    assert_eq!(
        run.attempt(&http(&url(&server), &ca), TIME),
        Ok(Outcome::Done)
    );
    let failure = fails(&http(&url(&server), ""), TIME);
    assert_eq!(
        judged(&failure),
        (ErrorKind::Tls, false),
        "the system does not trust it: {failure}"
    );

    // The certificate is for another name: right only when that name is asked for, and then the Host stays.
    let named = TlsServer::start(&dir, "named", false);
    let failure = fails(&http(&url(&named), &ca), TIME);
    assert_eq!(judged(&failure), (ErrorKind::Tls, false), "{failure}");
    let step = http(
        &url(&named),
        &format!("{ca}\nserver-name = \"cluster.test\""),
    );
    assert_eq!(run.attempt(&step, TIME), Ok(Outcome::Done));
    let request = &named.requests()[0];
    assert!(request.starts_with("cluster.test\nGET /x "), "{request}");
    assert!(
        request
            .to_lowercase()
            .contains(&format!("\r\nhost: {}\r\n", named.address)),
        "{request}"
    );

    let wants = TlsServer::start(&dir, "server", true);
    let failure = fails(&http(&url(&wants), &ca), TIME);
    assert!(
        matches!(failure.kind, ErrorKind::Tls | ErrorKind::Unreachable),
        "{failure}"
    );
    let step = http(&url(&wants), &own("client.crt", "client.key"));
    assert_eq!(run.attempt(&step, TIME), Ok(Outcome::Done));

    // What does not fit is found before anything is sent, in a run and by `check`.
    std::fs::write(dir.file("empty"), "").expect("written");
    for keys in [
        own("client.crt", "server.key"),
        own("empty", "client.key"),
        own("client.crt", "empty"),
        own("client.crt", "missing"),
        format!("ca-file = {:?}", dir.file("empty")),
    ] {
        let before = wants.requests().len();
        let failure = fails(&http(&url(&wants), &keys), TIME);
        assert_eq!(judged(&failure), (ErrorKind::Tls, false), "{failure}");
        assert_eq!(wants.requests().len(), before);
        let (_, _, checks) = read(&format!("kind = \"http\"\nurl = \"https://h/\"\n{keys}"));
        let found: Vec<_> = checks.iter().filter_map(|it| it.run(&run.facts)).collect();
        assert_eq!(found.len(), 1, "{found:?}");
    }
    // One that does not talk TLS on the port.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        std::io::Write::write_all(&mut stream, b"220 mail.example ESMTP\r\n").expect("sent");
        std::io::copy(&mut stream, &mut std::io::sink())
    });
    let failure = fails(&http(&format!("https://{address}/"), &ca), TIME);
    assert_eq!(judged(&failure), (ErrorKind::Tls, false), "{failure}");
}

#[test]
#[ignore = "needs openssl; tests/run has it"]
fn certificates_of_no_use_are_refused_with_the_reason() {
    let dir = Dir::new("tls-useless");
    make_certificates(&dir);
    make_useless_certificates(&dir);
    let ca = format!("ca-file = {:?}", dir.file("ca.crt"));
    let run = Run::new();
    for (name, told) in [("expired", "expired"), ("early", "not valid before")] {
        let server = TlsServer::start(&dir, name, false);
        let failure = fails(&http(&format!("https://{}/", server.address), &ca), TIME);
        assert_eq!(judged(&failure), (ErrorKind::Tls, false), "{failure}");
        assert!(failure.cause.contains(told), "{name}: {failure}");
    }
    // Another authority's than the one that is trusted.
    let foreign = Dir::new("tls-foreign");
    make_certificates(&foreign);
    let server = TlsServer::start(&foreign, "server", false);
    let failure = fails(&http(&format!("https://{}/", server.address), &ca), TIME);
    assert_eq!(judged(&failure), (ErrorKind::Tls, false), "{failure}");
    assert!(
        failure.cause.contains("not signed by an authority"),
        "{failure}"
    );

    let wants = TlsServer::start(&dir, "server", true);
    for (name, told) in [
        ("expired", "expired on 2020-01-02"),
        ("early", "valid only from 2100-01-01"),
        ("serves", "not for clients"),
    ] {
        let (cert, key) = (format!("{name}.crt"), format!("{name}.key"));
        let keys = format!(
            "{ca}\ncert-file = {:?}\nkey-file = {:?}",
            dir.file(&cert),
            dir.file(&key)
        );
        let (_, _, checks) = read(&format!("kind = \"http\"\nurl = \"https://h/\"\n{keys}"));
        let found: Vec<_> = checks.iter().filter_map(|it| it.run(&run.facts)).collect();
        let [(line, key, message)] = found.as_slice() else {
            panic!("{name}: {found:?}");
        };
        assert_eq!((*line, key.as_str()), (4, "cert-file"), "{message}");
        assert!(
            message.contains(&cert) && message.contains(told),
            "{message}"
        );
        let failure = fails(&http(&format!("https://{}/", wants.address), &keys), TIME);
        assert_eq!(judged(&failure), (ErrorKind::Tls, false), "{failure}");
    }
    assert_eq!(wants.requests().len(), 0);
}
