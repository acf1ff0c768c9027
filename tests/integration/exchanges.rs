//! Requests that must not be sent twice, the end of a connection, names that move, unix sockets, and what bodies hold.

use std::io::{BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::binary::{Binary, step_of};
use crate::support::consul::Consul;
use crate::support::own_process::{this_test, through};
use crate::support::servers::{Manner, Server, answer, dead_url, read_request};
use crate::support::{Dir, Run, problems, step};
use farewell::model::error::{ErrorKind, Failure};
use farewell::step::{AttemptPolicy, Outcome, StepSpec};

const TIME: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_secs(4);

fn http(url: &str, keys: &str) -> StepSpec {
    step(&format!("kind = \"http\"\nurl = {url:?}\n{keys}"))
}

/// A step of a configuration, which begins at once.
fn configured(name: &str, urls: &[&str], keys: &str) -> String {
    format!("[[step]]\nname = {name:?}\nkind = \"http\"\nafter = []\nurl = {urls:?}\n{keys}\n")
}

fn state(report: &Value, name: &str) -> (String, String) {
    let step = step_of(report, name);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&step["state"]), text(&step["error"]["word"]))
}

fn message(report: &Value, name: &str) -> String {
    let message = &step_of(report, name)["error"]["message"];
    message.as_str().unwrap_or_default().to_owned()
}

const POST: &str = "method = \"POST\"\nbody = \"x\"";

#[test]
fn a_request_that_is_at_work_is_waited_for_and_not_repeated() {
    // Longer than the third of the step's time that an attempt has otherwise.
    let slow = || {
        Server::start(Manner::Slow {
            after: Duration::from_secs(8),
            is_first_alone: false,
        })
    };
    let (once, get, body, bare, polled) = (slow(), slow(), slow(), slow(), slow());
    let mute = Server::start(Manner::Silent);
    let (good, next) = (Server::answers(&["200"]), Server::answers(&["200"]));
    let first_is_lost = Server::start(Manner::Slow {
        after: Duration::from_secs(30),
        is_first_alone: true,
    });
    let time = "timeout = \"20s\"";
    let url = |server: &Server| server.url();
    let config = [
        "[farewell]\nbudget = \"60s\"\n".to_owned(),
        configured(
            "once",
            &[&url(&once)],
            &format!("{time}\nattempts = 1\n{POST}"),
        ),
        configured("get", &[&url(&get)], &format!("{time}\nattempts = 1")),
        configured("body", &[&url(&body)], &format!("{time}\n{POST}")),
        configured(
            "bare",
            &[&url(&bare)],
            &format!("{time}\nmethod = \"POST\""),
        ),
        configured(
            "polled",
            &[&url(&polled)],
            &format!("{time}\n{POST}\nuntil = {{}}"),
        ),
        // A member of the list that got nothing costs its share; one that may be at work is not passed over.
        configured(
            "list",
            &[&dead_url(), &url(&good)],
            &format!("{time}\n{POST}"),
        ),
        configured(
            "mute",
            &[&url(&mute), &url(&next)],
            &format!("timeout = \"2s\"\n{POST}"),
        ),
        // Whoever sets the time of an attempt wants another one after it.
        configured(
            "repeated",
            &[&url(&first_is_lost)],
            &format!("{time}\nattempt-timeout = \"1s\"\n{POST}"),
        ),
    ]
    .concat();
    let binary = Binary::new("exchanges-slow", &config);
    binary.verb(&["run"]);
    let report = binary.report();
    for name in ["once", "get", "body", "bare", "polled", "list", "repeated"] {
        let done = ("done".to_owned(), String::new());
        assert_eq!(state(&report, name), done, "{name}: {report:#}");
    }
    for server in [&once, &get, &body, &bare, &polled, &good, &mute] {
        assert_eq!(server.requests().len(), 1, "{report:#}");
    }
    let late = ("timed-out".to_owned(), "timed-out".to_owned());
    assert_eq!(state(&report, "mute"), late, "{report:#}");
    assert_eq!(next.requests().len(), 0);
    assert!(first_is_lost.requests().len() >= 2);
}

#[test]
fn with_one_attempt_nothing_is_sent_twice() {
    // Reads the second request of a connection, and closes it without an answer.
    let closes = Server::start(Manner::Closes { after: 1 });
    let never = Server::start(Manner::Closes { after: 0 });
    let sick = Server::answers(&["503"]);
    let good = Server::answers(&["200"]);
    let once = |name: &str, urls: &[&str], keys: &str| {
        let step = configured(name, urls, &format!("attempts = 1\n{keys}"));
        step.replace("after = []\n", "")
    };
    let config = [
        configured("first", &[&closes.url()], ""),
        once("second", &[&closes.url()], ""),
        once("third", &[&closes.url()], POST),
        once("never", &[&never.url(), &good.url()], POST),
        once("sick", &[&sick.url(), &good.url()], POST),
        once("dead", &[&dead_url(), &good.url()], POST),
    ]
    .concat();
    let binary = Binary::new("exchanges-once", &config);
    binary.verb(&["run"]);
    let report = binary.report();
    let states =
        ["first", "second", "third", "never", "sick", "dead"].map(|it| state(&report, it).0);
    let expected = ["done", "done", "done", "failed", "failed", "done"];
    assert_eq!(states, expected.map(str::to_owned), "{report:#}");
    // Each on a connection of its own: nobody knows what became of a request on one that was kept and closed.
    assert_eq!((closes.requests().len(), closes.connections()), (3, 3));
    let asked = [&never, &sick, &good].map(|it| it.requests().len());
    assert_eq!(asked, [1, 1, 1], "{report:#}");
}

#[test]
fn the_end_of_the_connection_may_be_the_effect() {
    let closed = |url: &str, keys: &str| http(url, &format!("expect = \"closed\"\n{keys}"));
    let breaks = |text: &str| Server::start(Manner::Breaks(text.to_owned()));
    let run = Run::new();
    for server in [
        Server::start(Manner::Closes { after: 0 }),
        breaks("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"),
        breaks(&answer("202 Accepted", "", "going down")),
        breaks(&answer("200 OK", "Connection: close\r\n", "bye")),
    ] {
        let step = closed(&server.url(), "method = \"POST\"");
        assert_eq!(step.policy, AttemptPolicy::Patient);
        assert_eq!(run.attempt(&step, TIME), Ok(Outcome::Done));
        assert_eq!(server.requests().len(), 1);
    }
    let fails = |url: &str, time| run.attempt(&closed(url, ""), time).expect_err("a failure");
    // It answers, and stays.
    let stays = Server::answers(&["200"]);
    let failure = fails(&stays.url(), SHORT);
    assert_eq!(failure.kind, ErrorKind::TimedOut, "{failure}");
    assert!(
        failure.cause.contains("did not close the connection"),
        "{failure}"
    );
    // It refuses; it was never there.
    let refuses = breaks(&answer("403 Forbidden", "", "no"));
    assert_eq!(fails(&refuses.url(), TIME).kind, ErrorKind::Refused);
    let sick = breaks(&answer("503 Busy", "", "no"));
    assert_eq!(fails(&sick.url(), TIME).kind, ErrorKind::Status);
    assert_eq!(fails(&dead_url(), TIME).kind, ErrorKind::Unreachable);
    // A rehearsal ends no server, whatever the method is.
    let server = Server::answers(&["200"]);
    let said = run
        .rehearse(&closed(&server.url(), ""), TIME)
        .expect("ready");
    assert!(server.requests()[0].starts_with("OPTIONS "), "{said}");
    assert_eq!(server.requests().len(), 1);
    let with = |keys: &str| problems(&format!("kind = \"http\"\nurl = \"http://h/\"\n{keys}"));
    assert_eq!(with("expect = \"closed\""), "");
    assert!(with("expect = \"close\"").contains("\"closed\""));
    assert!(with("expect = \"closed\"\nuntil = {}").contains("`expect`"));
}

#[test]
fn the_first_cause_is_told_beside_the_last() {
    // Ends in the middle of the request, and is refused ever after.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let ends = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a client");
        drop(listener);
        read_request(&mut BufReader::new(stream))
    });
    let sick = Server::answers(&["503"]);
    let config = [
        configured("ends", &[&ends], "timeout = \"3s\"\nmethod = \"POST\""),
        configured("list", &[&dead_url(), &sick.url()], "attempts = 1"),
    ]
    .concat();
    let binary = Binary::new("exchanges-first", &config);
    binary.verb(&["run"]);
    let report = binary.report();
    let told = message(&report, "ends");
    assert!(told.contains("refused"), "{told}");
    assert!(
        told.contains("closed before the answer") || told.contains("reset"),
        "{told}"
    );
    let told = message(&report, "list");
    assert!(told.contains("503") && told.contains("refused"), "{told}");
}

/// Answers one request at this address, and is gone then.
fn answers_once(address: &str) -> std::thread::JoinHandle<()> {
    let listener = TcpListener::bind(address).expect("a port");
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a client");
        drop(listener);
        let mut reader = BufReader::new(stream);
        read_request(&mut reader).expect("a request");
        let whole = answer("200 OK", "Connection: close\r\n", "");
        reader.get_mut().write_all(whole.as_bytes()).expect("sent");
    })
}

#[test]
#[ignore = "needs root; tests/run has it"]
fn a_name_is_looked_up_again_when_its_addresses_fail() {
    let dir = Dir::new("exchanges-names");
    std::fs::write(dir.file("hosts"), "").expect("written");
    std::fs::write(
        dir.file("resolv.conf"),
        "nameserver 127.0.0.9\noptions timeout:1 attempts:1\n",
    )
    .expect("written");
    let script = format!(
        "ip link set lo up && mount --bind {} /etc/hosts && mount --bind {} /etc/resolv.conf && exec \"$0\" \"$@\"",
        dir.file("hosts"),
        dir.file("resolv.conf")
    );
    let wrapper = ["unshare", "-m", "-n", "sh", "-c", &script];
    through(&wrapper, this_test!(), looks_up_again);
}

fn looks_up_again() {
    let is = |hosts: &str| std::fs::write("/etc/hosts", hosts).expect("written");
    let run = Run::new();
    let step = http("http://peer.test:8080/", "");
    let done = || assert_eq!(run.attempt(&step, TIME), Ok(Outcome::Done));
    is("127.0.0.2 peer.test\n");
    let first = answers_once("127.0.0.2:8080");
    done();
    first.join().expect("answered");
    // It has moved.
    is("127.0.0.3 peer.test\n");
    let second = answers_once("127.0.0.3:8080");
    done();
    second.join().expect("answered");
    // Nobody knows its name any more: what was known is as good as before, the oldest address too.
    is("");
    let third = answers_once("127.0.0.2:8080");
    done();
    third.join().expect("answered");
    let failure = run.attempt(&step, TIME).expect_err("nobody is there");
    assert_eq!(failure.kind, ErrorKind::Unreachable, "{failure}");
    for address in ["127.0.0.2:8080: ", "127.0.0.3:8080: "] {
        assert!(failure.cause.contains(address), "{failure}");
    }
}

/// A server behind a unix socket, which answers with the first line of the request and its Host.
fn echo(path: &str) {
    let listener = UnixListener::bind(path).expect("a socket");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream);
            while let Some(request) = read_request(&mut reader) {
                let mut lines = request.lines();
                let line = lines.next().expect("a line").to_owned();
                let is_local = lines.any(|it| it.eq_ignore_ascii_case("host: localhost"));
                let body = serde_json::json!({"asked": line, "is_local": is_local}).to_string();
                let whole = answer("200 OK", "", &body);
                let _ = reader.get_mut().write_all(whole.as_bytes());
            }
        }
    });
}

#[test]
fn a_server_behind_a_unix_socket_is_asked() {
    let dir = Dir::new("exchanges-unix");
    let (path, odd) = (dir.file("app.sock"), dir.file("a:b.sock"));
    echo(&path);
    echo(&odd);
    let run = Run::new();
    let asked = |url: &str, target: &str| {
        let is = serde_json::json!({"asked": format!("GET {target} HTTP/1.1"), "is_local": true});
        let is = is.to_string().replace("\":", "\" = ");
        let keys = format!("until = {{ pointer = \"\", equals = {is} }}");
        run.attempt(&http(url, &keys), TIME)
    };
    for (url, target) in [
        (format!("unix://{path}:/v1/info?all=1"), "/v1/info?all=1"),
        (format!("unix://{path}"), "/"),
        (format!("unix://{}:/x", odd.replace(':', "%3A")), "/x"),
    ] {
        assert_eq!(asked(&url, target), Ok(Outcome::Done), "{url}");
    }
    // Not there; there, and nobody listens; so many wait already that nobody else gets in.
    let fails = |url: &str, time| run.attempt(&http(url, ""), time).expect_err("a failure");
    let missing = format!("unix://{}:/x", dir.file("missing.sock"));
    let failure = fails(&missing, TIME);
    assert_eq!(
        (failure.kind, failure.subject.as_str()),
        (ErrorKind::Unreachable, missing.as_str())
    );
    let left = dir.file("left.sock");
    drop(UnixListener::bind(&left).expect("a socket"));
    assert_eq!(
        fails(&format!("unix://{left}"), TIME).kind,
        ErrorKind::Unreachable
    );
    let full = dir.file("full.sock");
    let _full = full_socket(&full);
    assert_eq!(
        fails(&format!("unix://{full}"), SHORT).kind,
        ErrorKind::TimedOut
    );
    // The mount that the socket may be on is a place that farewell.service is ordered after.
    let config = configured("agent", &["unix:///srv/agent/http.sock:/x"], "");
    let binary = Binary::new("exchanges-unix-plan", &config);
    let plan = binary.verb(&["plan"]);
    assert!(
        plan.stdout.contains("/srv/agent/http.sock"),
        "{}",
        plan.stdout
    );
}

/// A listening socket whose queue has no room left, and those who wait in it.
fn full_socket(path: &str) -> (std::os::fd::OwnedFd, Vec<std::os::fd::OwnedFd>) {
    use nix::sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket,
    };
    use std::os::fd::AsRawFd as _;
    let new = |flags| socket(AddressFamily::Unix, SockType::Stream, flags, None).expect("a socket");
    let address = UnixAddr::new(path).expect("a path");
    let listener = new(SockFlag::empty());
    bind(listener.as_raw_fd(), &address).expect("bound");
    listen(&listener, Backlog::new(0).expect("a number")).expect("listening");
    let mut waiting = Vec::new();
    loop {
        let client = new(SockFlag::SOCK_NONBLOCK);
        match connect(client.as_raw_fd(), &address) {
            Ok(()) => waiting.push(client),
            Err(_) => return (listener, waiting),
        }
    }
}

#[test]
#[ignore = "needs Consul; tests/run has it"]
fn a_local_agent_is_left_over_its_unix_socket() {
    let consul = Consul::start("exchanges-consul");
    consul.register("web-1", "web");
    let keys = "kind = \"deregister\"\nregistry = \"consul\"\nservice = \"web-1\"";
    let leave = || {
        let step = step(&format!("{keys}\nurl = {:?}", consul.socket));
        Run::new().retry(&step, TIME)
    };
    assert_eq!(leave(), Ok(Outcome::Done));
    assert!(!consul.lists("web-1", "web"));
    assert_eq!(leave(), Ok(Outcome::AlreadyDone));
}

#[test]
fn a_form_holds_what_it_is_given_and_no_secret_comes_back() {
    const SECRET: &str = "form+s3cret/of=two&parts";
    let dir = Dir::new("exchanges-form");
    dir.credential("token", SECRET);
    // As a server repeats it that decodes the form once more, or never encoded its answer.
    let repeats =
        Server::answers(&["400 no token form s3cret/of=two&parts, form+s3cret/of=two&parts"]);
    let form = |kind: &str| {
        format!(
            "method = \"POST\"\nheaders = {{ Content-Type = {kind:?} }}\n\
             body = \"grant=a+b&token=${{credential:token}}&trigger=${{trigger}}\""
        )
    };
    let config = [
        configured(
            "form",
            &[&repeats.url()],
            &form("application/x-www-form-urlencoded; charset=utf-8"),
        ),
        configured("text", &[&repeats.url()], &form("text/plain")).replace("after = []\n", ""),
    ]
    .concat();
    let binary = Binary::new("exchanges-form-run", &config);
    let run = binary
        .command(&["run", "--trigger", "reboot"])
        .env("CREDENTIALS_DIRECTORY", dir.file("."))
        .output()
        .expect("it starts");
    let body = |at: usize| {
        let request: String = repeats.requests()[at].clone();
        request.split_once("\r\n\r\n").expect("a body").1.to_owned()
    };
    assert_eq!(
        body(0),
        "grant=a+b&token=form%2Bs3cret%2Fof%3Dtwo%26parts&trigger=reboot"
    );
    assert_eq!(body(1), format!("grant=a+b&token={SECRET}&trigger=reboot"));
    let report = binary.report().to_string();
    let said = [run.stdout, run.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    for text in [&report, said.as_ref()] {
        assert!(text.contains("no token ********, ********"), "{text}");
        assert!(!text.contains("s3cret"), "{text}");
    }
}

#[test]
fn json_behind_a_byte_order_mark_is_json() {
    let server = Server::answers(&["200 \u{feff}{\"state\":\"ready\"}"]);
    let keys = "until = { pointer = \"/state\", equals = \"ready\" }";
    let ended = Run::new().attempt(&http(&server.url(), keys), TIME);
    assert_eq!(ended, Ok(Outcome::Done));
}

#[test]
fn connecting_keeps_the_time_of_an_attempt() {
    // Takes connections, and says nothing: a handshake of TLS comes to nothing.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("https://{}/", listener.local_addr().expect("an address"));
    let run = Run {
        attempt_timeout: Duration::from_millis(300),
        ..Run::new()
    };
    let begun = Instant::now();
    let failure: Failure = run.attempt(&http(&url, POST), TIME).expect_err("no TLS");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::TimedOut, true),
        "{failure}"
    );
    assert!(begun.elapsed() < TIME / 2, "{:?}", begun.elapsed());
}
