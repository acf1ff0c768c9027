//! `wait-connections` with real sockets, and `wait`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::Run;
use crate::support::binary::wait_until;
use crate::support::scope::{attempt, attempt_in, attempt_with, problems, rehearse_with_warnings};
use farewell::step::Outcome;
use farewell::sys::cancel::Cancel;

const SECOND: Duration = Duration::from_secs(1);

/// A listener, and `count` connections to it with both their ends.
fn connected(address: &str, count: usize) -> (TcpListener, u16, Vec<(TcpStream, TcpStream)>) {
    let listener = TcpListener::bind((address, 0)).expect("bound");
    let to = listener.local_addr().expect("an address");
    let connect = || {
        let ours = TcpStream::connect(to).expect("connected");
        (ours, listener.accept().expect("accepted").0)
    };
    let connections = (0..count).map(|_| connect()).collect();
    (listener, to.port(), connections)
}

#[test]
fn a_port_without_connections_is_done_at_once() {
    let (_listener, port, _) = connected("127.0.0.1", 0);
    let attempt = attempt("wait-connections", &format!("ports = {port}"), SECOND * 60);
    assert_eq!(attempt.result, Ok(Outcome::Done));
    assert_eq!(attempt.recorder.waiting(), [""; 0]);
}

#[test]
fn connections_are_counted_told_and_waited_for() {
    for address in ["127.0.0.1", "::1"] {
        let (_listener, port, connections) = connected(address, 3);
        let keys = format!("ports = [{port}, {port}]");
        let late = attempt("wait-connections", &keys, SECOND);
        let told = format!("3 connections on port {port}: still open");
        assert_eq!(late.failure(), ("timed-out", told));
        let some = attempt(
            "wait-connections",
            &format!("{keys}\nremaining = 3"),
            SECOND * 10,
        );
        assert_eq!(some.result, Ok(Outcome::Done));
        let (run, cancel) = (Run::new(), Cancel::new().expect("a switch"));
        let waits = [
            format!("3 connections on port {port}"),
            format!("2 connections on port {port}"),
            format!("1 connection on port {port}"),
        ];
        let (result, _) = std::thread::scope(|threads| {
            threads.spawn(|| {
                for (connection, waits) in connections.into_iter().zip(&waits) {
                    wait_until(waits, || run.recorder.waiting().last() == Some(waits));
                    drop(connection);
                }
            });
            let limits = (SECOND * 300, SECOND * 300);
            attempt_in(&run, "wait-connections", &keys, limits, &cancel)
        });
        assert_eq!(result, Ok(Outcome::Done));
        assert_eq!(run.recorder.waiting(), waits, "it tells what changes");
    }
}

#[test]
fn several_ports_are_told_one_by_one() {
    let (_first, one, _kept) = connected("127.0.0.1", 1);
    let (_second, two, _also) = connected("127.0.0.1", 2);
    let (low, high) = (one.min(two), one.max(two));
    let attempt = attempt(
        "wait-connections",
        &format!("ports = [{one}, {two}]\nremaining = 2"),
        SECOND,
    );
    let (word, message) = attempt.failure();
    assert_eq!(word, "timed-out");
    let part = |port| match port == one {
        true => format!("1 connection on port {port}"),
        false => format!("2 connections on port {port}"),
    };
    assert!(
        message.starts_with(&format!("{}, {}:", part(low), part(high))),
        "{message}"
    );
}

#[test]
fn a_client_that_waits_for_its_answer_is_waited_for() {
    let (_listener, port, connections) = connected("127.0.0.1", 1);
    let (client, server) = connections.into_iter().next().expect("one");
    // The whole request is there; this side may still answer (CLOSE_WAIT).
    client.shutdown(Shutdown::Write).expect("shut down");
    let keys = format!("ports = {port}");
    let late = attempt("wait-connections", &keys, SECOND);
    assert_eq!(late.failure().0, "timed-out");
    // Answered and closed; that the client has not closed its own side keeps nobody waiting (FIN_WAIT2 of an orphan).
    drop(server);
    let attempt = attempt("wait-connections", &keys, SECOND * 60);
    assert_eq!(attempt.result, Ok(Outcome::Done));
    drop(client);
}

#[test]
fn a_client_that_still_sends_is_waited_for() {
    let (_listener, port, connections) = connected("127.0.0.1", 1);
    let (client, server) = connections.into_iter().next().expect("one");
    // This side has said all, and still reads (FIN_WAIT2 of a socket that is open).
    server.shutdown(Shutdown::Write).expect("shut down");
    let keys = format!("ports = {port}");
    let late = attempt("wait-connections", &keys, SECOND);
    assert_eq!(late.failure().0, "timed-out");
    drop(server);
    let attempt = attempt("wait-connections", &keys, SECOND * 60);
    assert_eq!(attempt.result, Ok(Outcome::Done));
    drop(client);
}

#[test]
fn a_port_that_nobody_serves_is_told() {
    let (listener, port, _) = connected("127.0.0.1", 0);
    let keys = format!("ports = {port}");
    let served = attempt("wait-connections", &keys, SECOND * 60);
    assert_eq!(served.recorder.remarks().join("\n"), "");
    drop(listener);
    let attempt = attempt("wait-connections", &keys, SECOND * 60);
    assert_eq!(attempt.result, Ok(Outcome::Done));
    let remark = format!("no process listens on port {port}");
    assert_eq!(attempt.recorder.remarks().join("\n"), remark);
    let (said, warnings) = rehearse_with_warnings("wait-connections", &keys);
    assert_eq!(said, Ok(format!("no connection on port {port} now")));
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with(&remark), "{warnings:?}");
}

/// A service in a network namespace of its own, with one connection there.
const APART: &str = "import socket, sys
listener = socket.create_server(('127.0.0.1', int(sys.argv[1])))
client = socket.create_connection(listener.getsockname())
server = listener.accept()[0]
print('there', flush=True)
sys.stdin.readline()
client.close(); server.close()
print('closed', flush=True)
sys.stdin.readline()";

#[test]
#[ignore = "needs root; tests/run has it"]
fn connections_in_another_network_namespace_are_counted() {
    // A port that nobody has here, and that is not given to anybody else meanwhile.
    let (listener, port, _) = connected("127.0.0.2", 0);
    drop(listener);
    let mut apart = Command::new("unshare")
        .args(["--net", "--kill-child", "--fork", "sh", "-c"])
        .arg("ip link set lo up && exec python3 -c \"$0\" \"$1\"")
        .args([APART, &port.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("unshare");
    let mut said = BufReader::new(apart.stdout.take().expect("a pipe")).lines();
    let mut input = apart.stdin.take().expect("a pipe");
    assert_eq!(said.next().expect("a line").expect("read"), "there");
    let keys = format!("ports = {port}");
    let late = attempt("wait-connections", &keys, SECOND);
    let told = format!("1 connection on port {port}: still open");
    // Both ends are in that namespace; the client's port is another one.
    assert_eq!(late.failure(), ("timed-out", told));
    writeln!(input, "close").expect("written");
    assert_eq!(said.next().expect("a line").expect("read"), "closed");
    let attempt = attempt("wait-connections", &keys, SECOND * 60);
    assert_eq!(attempt.result, Ok(Outcome::Done));
    assert_eq!(attempt.recorder.remarks().join("\n"), "");
    drop(input);
    assert!(apart.wait().expect("ended").success());
}

#[test]
fn being_told_to_stop_ends_the_wait() {
    let (_listener, port, _kept) = connected("127.0.0.1", 1);
    let cancel = Cancel::new().expect("a switch");
    cancel.cancel(Duration::MAX);
    for (kind, keys, told) in [
        ("wait-connections", format!("ports = {port}"), "still open"),
        ("wait", "for = '5s'".into(), "told to stop"),
    ] {
        let attempt = attempt_with(kind, &keys, SECOND * 20, SECOND, &cancel);
        let (word, message) = attempt.failure();
        assert!(word == "timed-out" && message.ends_with(told), "{message}");
    }
}

#[test]
fn a_wait_lasts_exactly_its_time() {
    let attempt_of =
        |time: &str, limit: Duration| attempt("wait", &format!("for = '{time}'"), limit);
    let nothing = attempt_of("0s", SECOND * 60);
    assert_eq!(nothing.result, Ok(Outcome::Done));
    let short = attempt_of("300ms", SECOND * 60);
    assert_eq!(short.result, Ok(Outcome::Done));
    assert!(short.took >= Duration::from_millis(300), "{:?}", short.took);
    assert_eq!(short.recorder.waiting(), ["a wait of 300ms"]);
    for time in ["1m", "24h"] {
        let long = attempt_of(time, SECOND);
        assert_eq!(long.failure().0, "timed-out");
        assert!(long.took >= SECOND);
    }
}

#[test]
fn keys_are_checked() {
    assert_eq!(
        problems("wait-connections", "ports = [0, 65536]\nremaining = -1").len(),
        3
    );
    assert_eq!(problems("wait-connections", "").len(), 1);
    assert_eq!(problems("wait", "for = 'soon'").len(), 1);
    assert_eq!(problems("wait", "").len(), 1);
}
