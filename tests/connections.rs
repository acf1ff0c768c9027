//! `wait-connections` with real sockets, and `wait`.

mod support;

use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use farewell::step::Effect;
use farewell::sys::cancel::Cancel;
use support::scope::{attempt, attempt_with, problems};

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
    let attempt = attempt("wait-connections", &format!("ports = {port}"), SECOND * 10);
    assert_eq!(attempt.result, Ok(Effect::Done));
    assert!(attempt.took < SECOND);
}

#[test]
fn connections_are_counted_told_and_waited_for() {
    for address in ["127.0.0.1", "::1"] {
        let (_listener, port, connections) = connected(address, 3);
        let keys = format!("ports = [{port}, {port}]");
        let late = attempt("wait-connections", &keys, SECOND);
        let told = format!("3 connections on port {port}: still there when the timeout was over");
        assert_eq!(late.failure(), ("timed-out", told));
        let some = attempt(
            "wait-connections",
            &format!("{keys}\nremaining = 3"),
            SECOND * 10,
        );
        assert_eq!(some.result, Ok(Effect::Done));
        let attempt = std::thread::scope(|threads| {
            threads.spawn(|| {
                for connection in connections {
                    std::thread::sleep(SECOND / 2);
                    drop(connection);
                }
            });
            attempt("wait-connections", &keys, SECOND * 20)
        });
        assert_eq!(attempt.result, Ok(Effect::Done));
        assert!(
            attempt.took >= SECOND && attempt.took < SECOND * 20,
            "{:?}",
            attempt.took
        );
        let waits = attempt.told.waits();
        assert_eq!(waits[0], format!("3 connections on port {port}"));
        assert!(waits.len() > 1, "it tells what changes: {waits:?}");
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
fn being_told_to_stop_ends_the_wait() {
    let (_listener, port, _kept) = connected("127.0.0.1", 1);
    let cancel = Cancel::new().expect("a switch");
    cancel.cancel(Duration::MAX);
    for (kind, keys) in [
        ("wait-connections", format!("ports = {port}")),
        ("wait", "for = '5s'".into()),
    ] {
        let attempt = attempt_with(kind, &keys, SECOND * 20, SECOND, &cancel);
        let (word, message) = attempt.failure();
        assert!(
            word == "timed-out" && message.ends_with("told to stop"),
            "{message}"
        );
        assert!(attempt.took < SECOND);
    }
}

#[test]
fn a_wait_lasts_exactly_its_time() {
    let attempt_of = |time: &str| attempt("wait", &format!("for = '{time}'"), SECOND);
    let nothing = attempt_of("0s");
    assert_eq!(nothing.result, Ok(Effect::Done));
    assert!(nothing.took < SECOND, "{:?}", nothing.took);
    let short = attempt_of("300ms");
    assert_eq!(short.result, Ok(Effect::Done));
    assert!(short.took >= Duration::from_millis(300) && short.took < SECOND);
    assert_eq!(short.told.waits(), ["a wait of 300ms"]);
    for time in ["1m", "24h"] {
        let long = attempt_of(time);
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
