//! What the member of `wait-safe` for Hazelcast makes of replies, with stand-ins that answer as 5.5.0 and 3.12.13 do.
//!
//! The real ones are in hazelcast.rs and hazelcast_3.rs; here is what they do not show when they are asked to.

use std::io::{BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::servers::{Manner, Server, answer, dead_url, read_request};
use crate::support::{Run, problems, step};
use farewell::model::error::{ErrorKind, Failure};
use farewell::model::secrets;
use farewell::step::{Outcome, StepSpec};

const TIME: Duration = Duration::from_secs(60);

/// What a stand-in does with a request.
#[derive(Clone, Debug)]
enum Reply {
    Says(u16, String),
    /// Closes the connection without an answer, as Hazelcast does where a part of its API is off.
    Closes,
    /// Answers, and closes its port for good.
    SaysAndEnds(u16, String),
    /// Closes its port for good without an answer.
    Ends,
}

/// A stand-in for a member of Hazelcast: to each request the next of the replies for it, the last one again and again.
struct StandIn {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

/// Which requests, by the beginning of their first line, and the replies to them.
type Script = Vec<(&'static str, Vec<Reply>)>;

const HEALTH: &str = "GET /hazelcast/health ";
const ROSTER: &str = "GET /hazelcast/rest/cluster ";
const SHUTDOWN: &str = "POST /hazelcast/rest/management/cluster/memberShutdown ";

impl StandIn {
    fn start(script: Script) -> StandIn {
        StandIn::start_at(TcpListener::bind("127.0.0.1:0").expect("a port"), script)
    }

    fn start_at(listener: TcpListener, mut script: Script) -> StandIn {
        let address = listener.local_addr().expect("an address");
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = requests.clone();
        let ended = Arc::new(AtomicBool::new(false));
        let mut reply = move |request: &str| {
            let mut replies = script.iter_mut();
            let (_, replies) = replies
                .find(|(beginning, _)| request.starts_with(beginning))
                .unwrap_or_else(|| panic!("not expected: {request}"));
            match replies.len() {
                1 => replies[0].clone(),
                _ => replies.remove(0),
            }
        };
        // One connection after the other: a step has only one at a time. It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut stream = BufReader::new(stream);
                while let Some(request) = read_request(&mut stream) {
                    let reply = reply(&request);
                    heard.lock().expect("lock").push(request);
                    let (text, ends) = match reply {
                        Reply::Closes => break,
                        Reply::Ends => (String::new(), true),
                        Reply::Says(status, body) => (whole(status, &body), false),
                        Reply::SaysAndEnds(status, body) => (whole(status, &body), true),
                    };
                    if ends {
                        ended.store(true, Ordering::SeqCst);
                    }
                    let _ = stream.get_mut().write_all(text.as_bytes());
                    if ends {
                        break;
                    }
                }
                if ended.load(Ordering::SeqCst) {
                    return;
                }
            }
        });
        StandIn {
            port: address.port(),
            requests,
        }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The requests so far that begin so.
    fn heard(&self, beginning: &str) -> Vec<String> {
        let requests = self.requests.lock().expect("lock");
        let those = requests.iter().filter(|it| it.starts_with(beginning));
        those.cloned().collect()
    }
}

fn whole(status: u16, body: &str) -> String {
    answer(&format!("{status} X"), "", body)
}

fn health(node: &str, safe: bool, queue: u32, size: u32) -> Reply {
    let body = format!(
        r#"{{"nodeState":"{node}","clusterState":"ACTIVE","clusterSafe":{safe},"migrationQueueSize":{queue},"clusterSize":{size}}}"#
    );
    Reply::Says(200, body)
}

fn safe() -> Reply {
    health("ACTIVE", true, 0, 2)
}

/// The list of the members at these ports, of which the first one is asked when `own`.
fn roster(ports: &[u16], own: bool) -> Reply {
    let member = |(at, port): (usize, &u16)| {
        let is_own = own && at == 0 || !own && at + 1 == ports.len();
        format!(
            r#"{{"address":"[127.0.0.1]:{port}","liteMember":false,"localMember":{is_own},"uuid":"u-{port}","memberVersion":"5.5.0"}}"#
        )
    };
    let members: Vec<String> = ports.iter().enumerate().map(member).collect();
    let members = members.join(",");
    Reply::Says(
        200,
        format!(r#"{{"members":[{members}],"connectionCount":1,"allConnectionCount":3}}"#),
    )
}

fn success() -> String {
    r#"{"status":"success"}"#.to_owned()
}

fn wait(url: &str, keys: &str) -> StepSpec {
    step(&format!(
        "kind = \"wait-safe\"\ncluster = \"hazelcast\"\nurl = {url:?}\n{keys}"
    ))
}

fn leave(url: &str) -> StepSpec {
    wait(url, "shutdown = true")
}

fn port(url: &str) -> u16 {
    let (_, port) = url.rsplit_once(':').expect("a port");
    port.parse().expect("a number")
}

/// A member beside one at this port: safe, and with this reply to its shutdown.
fn member_beside(other: u16, to_shutdown: Vec<Reply>) -> StandIn {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let own = listener.local_addr().expect("an address").port();
    let script = vec![
        (HEALTH, vec![safe()]),
        (ROSTER, vec![roster(&[own, other], true)]),
        (SHUTDOWN, to_shutdown),
    ];
    StandIn::start_at(listener, script)
}

fn refusal(run: &Run, step: &StepSpec, group: &str) -> Failure {
    let failure = run.attempt(step, TIME).expect_err("a refusal");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Refused, false),
        "{failure}"
    );
    assert!(failure.cause.contains(group), "{failure}");
    failure
}

#[test]
fn what_is_waited_for_is_told_and_asked_for_five_times_a_second() {
    let member = StandIn::start(vec![(
        HEALTH,
        vec![
            health("ACTIVE", false, 12, 3),
            health("ACTIVE", false, 0, 3),
            Reply::Says(
                200,
                "Hazelcast::NodeState=ACTIVE\nHazelcast::ClusterState=ACTIVE\nHazelcast::ClusterSafe=TRUE\n\
                 Hazelcast::MigrationQueueSize=1\nHazelcast::ClusterSize=3\n"
                    .to_owned(),
            ),
            health("ACTIVE", false, 3, 3),
            health("ACTIVE", true, 0, 3),
        ],
    )]);
    let run = Run::new();
    let begun = Instant::now();
    let step = wait(&member.url(), "");
    assert_eq!(run.attempt(&step, TIME), Ok(Outcome::Done));
    let took = begun.elapsed();
    assert_eq!(
        run.waiting(),
        [
            "cluster dev: not safe, 12 partitions to migrate, 3 members",
            "cluster dev: not safe, 3 members",
            "cluster dev: safe, 1 partition to migrate, 3 members",
            "cluster dev: not safe, 3 partitions to migrate, 3 members",
        ]
    );
    assert_eq!(member.heard("").len(), 5);
    assert!(took >= Duration::from_millis(800), "{took:?}");
    // Once it is safe, one look is enough.
    assert_eq!(run.attempt(&step, TIME), Ok(Outcome::Done));
    assert_eq!(member.heard("").len(), 6);
}

#[test]
fn a_cluster_that_stays_unsafe_costs_the_timeout() {
    let member = StandIn::start(vec![(HEALTH, vec![health("ACTIVE", false, 7, 2)])]);
    let run = Run::new();
    for keys in [
        "cluster-name = \"shop\"",
        "cluster-name = \"shop\"\nshutdown = true",
    ] {
        let failure = run
            .attempt(&wait(&member.url(), keys), Duration::from_millis(700))
            .expect_err("never safe");
        assert_eq!(failure.kind, ErrorKind::TimedOut, "{failure}");
        let told = "still waiting for cluster shop: not safe, 7 partitions to migrate, 2 members";
        assert_eq!(failure.cause, told);
    }
    assert!(member.heard("POST").is_empty());
}

#[test]
fn one_of_several_addresses_is_enough_to_ask() {
    let member = StandIn::start(vec![(HEALTH, vec![safe()])]);
    let list = format!("[{:?}, {:?}]", dead_url(), member.url());
    let keys = format!("kind = \"wait-safe\"\ncluster = \"hazelcast\"\nurl = {list}");
    assert_eq!(Run::new().attempt(&step(&keys), TIME), Ok(Outcome::Done));
}

#[test]
fn success_before_the_work_is_done_is_not_believed() {
    let member = member_beside(port(&dead_url()), vec![Reply::Says(200, success())]);
    let run = Run::new();
    let step = leave(&member.url());
    let failure = run
        .attempt(&step, Duration::from_millis(900))
        .expect_err("it goes on");
    assert_eq!(failure.kind, ErrorKind::TimedOut, "{failure}");
    let told = "cluster dev: the member's shutdown: ACTIVE, safe, 2 members";
    assert!(failure.cause.ends_with(told), "{failure}");
    assert_eq!(member.heard("POST").len(), 1);
}

#[test]
fn the_others_are_asked_in_turn_until_one_is_safe_without_it_twice() {
    let (other, own) = (
        TcpListener::bind("127.0.0.1:0").expect("a port"),
        TcpListener::bind("127.0.0.1:0").expect("a port"),
    );
    let port_of = |it: &TcpListener| it.local_addr().expect("an address").port();
    let (other_port, own_port) = (port_of(&other), port_of(&own));
    let dead = port(&dead_url());
    let all = [own_port, dead, other_port];
    let peer = StandIn::start_at(
        other,
        vec![
            (
                HEALTH,
                vec![
                    // Between two migrations it is safe, with the old size.
                    health("ACTIVE", false, 0, 3),
                    health("ACTIVE", true, 0, 3),
                    health("ACTIVE", true, 0, 2),
                    health("ACTIVE", false, 5, 2),
                    health("ACTIVE", true, 0, 2),
                ],
            ),
            (
                ROSTER,
                vec![roster(&all, false), roster(&[dead, other_port], false)],
            ),
        ],
    );
    let member = StandIn::start_at(
        own,
        vec![
            (
                HEALTH,
                vec![safe(), health("PASSIVE", false, 271, 3), Reply::Ends],
            ),
            (ROSTER, vec![roster(&all, true)]),
            (SHUTDOWN, vec![Reply::Says(200, success())]),
        ],
    );
    let run = Run::new();
    let step = leave(&member.url());
    assert_eq!(run.attempt(&step, TIME), Ok(Outcome::Done));
    let told = run.waiting();
    let expected = [
        "cluster dev: the member's shutdown: PASSIVE, not safe, 271 partitions to migrate, 3 members",
        "cluster dev without this member: not safe, 3 members",
        "cluster dev without this member: safe, 3 members, and this one is still one of them",
        "cluster dev without this member: safe, seen once",
        "cluster dev without this member: not safe, 5 partitions to migrate, 2 members",
        "cluster dev without this member: safe, seen once",
    ];
    let told: Vec<&str> = (told.iter().map(String::as_str))
        .filter(|it| !it.contains("closed") && !it.contains("refused"))
        .collect();
    assert_eq!(told, expected);
    assert_eq!(peer.heard(HEALTH).len(), 6);
    assert_eq!(member.heard(SHUTDOWN).len(), 1);
    // Another attempt, as after an answer that was lost: the member is gone, and who the others are is known.
    assert_eq!(run.attempt(&step, TIME), Ok(Outcome::Done));
    // Another run cannot know whom it has left.
    let failure = run
        .attempt(&leave(&member.url()), Duration::from_secs(5))
        .expect_err("nobody there");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Unreachable, true)
    );
    assert!(
        failure.cause.contains("only the others could tell"),
        "{failure}"
    );
}

#[test]
fn one_of_the_others_that_hangs_is_asked_once() {
    let silent = Server::start(Manner::Silent);
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let own = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port_of = |it: &TcpListener| it.local_addr().expect("an address").port();
    let all = [port_of(&own), silent.address.port(), port_of(&other)];
    let peer = StandIn::start_at(
        other,
        vec![
            (
                HEALTH,
                vec![
                    health("ACTIVE", false, 2, 3),
                    health("ACTIVE", false, 1, 2),
                    health("ACTIVE", true, 0, 2),
                ],
            ),
            (ROSTER, vec![roster(&all[1..], false)]),
        ],
    );
    let member = StandIn::start_at(
        own,
        vec![
            (HEALTH, vec![safe()]),
            (ROSTER, vec![roster(&all, true)]),
            (SHUTDOWN, vec![Reply::SaysAndEnds(200, success())]),
        ],
    );
    let mut run = Run::new();
    run.attempt_timeout = Duration::from_secs(2);
    let step = leave(&member.url());
    assert_eq!(run.attempt(&step, TIME), Ok(Outcome::Done));
    assert_eq!(silent.connections(), 1);
    assert_eq!(peer.heard(HEALTH).len(), 4);
}

#[test]
fn others_that_are_away_may_come_back_in_time() {
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let other_port = other.local_addr().expect("an address").port();
    drop(other);
    let member = member_beside(other_port, vec![Reply::SaysAndEnds(200, success())]);
    let run = Run::new();
    let step = leave(&member.url());
    let failure = run
        .attempt(&step, Duration::from_secs(1))
        .expect_err("nobody to ask");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::Unreachable, true),
        "{failure}"
    );
    assert!(failure.cause.contains("was shut down, but"), "{failure}");
    let listener = TcpListener::bind(("127.0.0.1", other_port)).expect("the same port");
    let _other = StandIn::start_at(
        listener,
        vec![
            (HEALTH, vec![health("ACTIVE", true, 0, 1)]),
            (ROSTER, vec![roster(&[other_port], false)]),
        ],
    );
    assert_eq!(run.retry(&step, TIME), Ok(Outcome::Done));
    assert_eq!(member.heard(SHUTDOWN).len(), 1);
}

#[test]
fn one_that_goes_by_itself_is_not_asked_to() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let own = listener.local_addr().expect("an address").port();
    let member = StandIn::start_at(
        listener,
        vec![
            (
                HEALTH,
                vec![
                    health("PASSIVE", false, 3, 1),
                    health("PASSIVE", true, 0, 1),
                    Reply::Ends,
                ],
            ),
            (ROSTER, vec![roster(&[own], true)]),
        ],
    );
    let run = Run::new();
    assert_eq!(
        run.attempt(&leave(&member.url()), TIME),
        Ok(Outcome::AlreadyDone)
    );
    assert_eq!(
        run.remarks(),
        ["it was the last member of the cluster dev: no other member has its data"]
    );
}

#[test]
fn refusals_are_told_whatever_their_form() {
    let unauthenticated = r#"{"status":"fail","message":"unauthenticated"}"#.to_owned();
    for reply in [
        Reply::Says(403, unauthenticated),
        Reply::Says(200, r#"{"status":"forbidden"}"#.to_owned()),
    ] {
        let member = member_beside(port(&dead_url()), vec![reply]);
        refusal(&Run::new(), &leave(&member.url()), "the name `dev`");
        assert_eq!(member.heard(SHUTDOWN).len(), 1);
    }
    for odd in [
        "",
        "{}",
        "[]",
        "{\"status\":7}",
        "{\"status\":\"fail\"}",
        "<html>",
    ] {
        let member = member_beside(port(&dead_url()), vec![Reply::Says(200, odd.to_owned())]);
        let failure = Run::new()
            .attempt(&leave(&member.url()), TIME)
            .expect_err("odd");
        assert_eq!(
            (failure.kind, failure.retryable),
            (ErrorKind::Protocol, true),
            "{failure}"
        );
    }
}

#[test]
fn a_connection_that_is_closed_again_and_again_means_that_this_is_off() {
    let off = StandIn::start(vec![(HEALTH, vec![Reply::Closes])]);
    for keys in ["", "shutdown = true"] {
        refusal(&Run::new(), &wait(&off.url(), keys), "HEALTH_CHECK");
    }
    assert_eq!(off.heard("").len(), 6);

    let own = port(&dead_url());
    let no_list = StandIn::start(vec![(HEALTH, vec![safe()]), (ROSTER, vec![Reply::Closes])]);
    refusal(&Run::new(), &leave(&no_list.url()), "CLUSTER_READ");
    assert!(no_list.heard("POST").is_empty());

    let no_write = member_beside(own, vec![Reply::Closes]);
    refusal(&Run::new(), &leave(&no_write.url()), "CLUSTER_WRITE");
    // A request on a connection that had been kept is sent once more on a new one.
    assert!((1..=2).contains(&no_write.heard(SHUTDOWN).len()));

    // Once is nothing: a member that starts does so too.
    let starting = StandIn::start(vec![(HEALTH, vec![Reply::Closes, Reply::Closes, safe()])]);
    assert_eq!(
        Run::new().attempt(&wait(&starting.url(), ""), TIME),
        Ok(Outcome::Done)
    );
}

#[test]
fn a_member_that_ends_without_an_answer_has_left_when_the_others_say_so() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let other_port = listener.local_addr().expect("an address").port();
    let _other = StandIn::start_at(
        listener,
        vec![
            (HEALTH, vec![health("ACTIVE", true, 0, 1)]),
            (ROSTER, vec![roster(&[other_port], false)]),
        ],
    );
    let member = member_beside(other_port, vec![Reply::Ends]);
    let run = Run::new();
    assert_eq!(run.attempt(&leave(&member.url()), TIME), Ok(Outcome::Done));
}

#[test]
fn what_is_no_hazelcast_is_told() {
    let cases = [
        ("404 nothing here", ErrorKind::Status, false),
        ("503 busy", ErrorKind::Status, true),
        ("301", ErrorKind::Status, false),
        ("401", ErrorKind::Refused, false),
        ("200 ok", ErrorKind::Protocol, true),
        ("200 {\"clusterSafe\":true}", ErrorKind::Protocol, true),
        ("200 {\"nodeState\":", ErrorKind::Protocol, true),
    ];
    for (text, word, retryable) in cases {
        let server = Server::answers(&[text]);
        let failure = Run::new()
            .attempt(&wait(&server.url(), ""), TIME)
            .expect_err(text);
        assert_eq!(
            (failure.kind, failure.retryable),
            (word, retryable),
            "{text}: {failure}"
        );
    }
    let flood = Server::start(Manner::Floods);
    let failure = Run::new()
        .attempt(&wait(&flood.url(), ""), TIME)
        .expect_err("too much");
    assert_eq!(failure.kind, ErrorKind::Protocol, "{failure}");
    let silent = Server::start(Manner::Silent);
    let begun = Instant::now();
    let failure = Run::new()
        .attempt(&wait(&silent.url(), ""), Duration::from_millis(600))
        .expect_err("no answer");
    assert_eq!(
        (failure.kind, failure.retryable),
        (ErrorKind::TimedOut, true)
    );
    assert!(begun.elapsed() < TIME / 2);
}

#[test]
fn names_and_passwords_are_encoded_and_hidden() {
    let said = |password: &str| Reply::Says(403, format!("not {password} nor p&ss=ü+s3cret"));
    let (once, twice) = (
        "p%26ss%3D%C3%BC%2Bs3cret",
        "p%2526ss%253D%25C3%25BC%252Bs3cret",
    );
    let member = member_beside(port(&dead_url()), vec![said(once), said(twice)]);
    let keys = "shutdown = true\ncluster-name = \"shop & café\"\npassword = \"p&ss=ü+s3cret\"";
    let failure = refusal(&Run::new(), &wait(&member.url(), keys), "shop & café");
    assert!(
        failure.cause.ends_with("not ******** nor ********"),
        "{failure}"
    );
    // What has a `+` in it is sent in the way of either version; all else is the same in both.
    let sent = member.heard(SHUTDOWN);
    let bodies: Vec<&str> = sent
        .iter()
        .filter_map(|it| it.split("\r\n\r\n").nth(1))
        .collect();
    assert_eq!(
        bodies,
        [
            format!("shop%20%26%20caf%C3%A9&{once}"),
            format!("shop%2520%2526%2520caf%25C3%25A9&{twice}")
        ]
    );
    assert_eq!(secrets::mask("p&ss=ü+s3cret"), "********");
}

#[test]
fn keys_that_mean_nothing_are_told() {
    let told = |keys: &str| {
        problems(&format!(
            "kind = \"wait-safe\"\ncluster = \"hazelcast\"\n{keys}"
        ))
    };
    assert!(told("").contains("\"url\": missing"), "{}", told(""));
    let several = told("url = [\"http://a\", \"http://b\"]\nshutdown = true");
    assert!(
        several.contains("the one member that is shut down"),
        "{several}"
    );
    assert_eq!(told("url = [\"http://a\", \"http://b\"]"), "");
    let password = told("url = \"http://a\"\npassword = \"s3cret-one\"");
    assert!(password.contains("beside `shutdown = true`"), "{password}");
    let user = told("url = \"http://a\"\nuser = \"x\"");
    assert!(user.contains("unknown key"), "{user}");
    let empty = told("url = \"http://a\"\ncluster-name = \"\"\nshutdown = 1");
    assert!(
        empty.contains("must not be empty") && empty.contains("true or false"),
        "{empty}"
    );
}

#[test]
fn a_stand_in_s_port_is_closed_when_it_ends() {
    let member = StandIn::start(vec![(HEALTH, vec![Reply::SaysAndEnds(200, String::new())])]);
    let mut stream = TcpStream::connect(("127.0.0.1", member.port)).expect("connected");
    stream
        .write_all(format!("{HEALTH}HTTP/1.1\r\n\r\n").as_bytes())
        .expect("sent");
    let end = Instant::now() + TIME;
    while TcpStream::connect(("127.0.0.1", member.port)).is_ok() {
        assert!(Instant::now() < end, "it still listens");
        std::thread::sleep(Duration::from_millis(10));
    }
}
