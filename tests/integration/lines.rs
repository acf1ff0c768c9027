//! Answers that go on and on, heard line by line.

use std::io::Write as _;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::support::case::SLACK;
use crate::support::servers::{Manner, Server, dead_url};
use farewell::model::deadline::{Deadline, Reason};
use farewell::model::error::{ErrorKind, Failure};
use farewell::sys::http::{Endpoint, Flow, Http, Request, StreamEnd, TlsFiles};

/// Hears `most` lines at most, and tells how it ended and what was heard.
fn hear(url: &str, time: Duration, most: usize) -> (Result<StreamEnd, Failure>, Vec<String>) {
    let mut lines = Vec::new();
    let endpoint = Endpoint::parse(url).expect("a URL");
    let deadline = Deadline::after(time, Reason::Attempt);
    let (tls, request) = (TlsFiles::default(), Request::get("/watch"));
    let heard = Http::new().lines(&endpoint, &tls, &request, deadline, &mut |line| {
        lines.push(String::from_utf8_lossy(line).into_owned());
        if lines.len() < most {
            Flow::Continue
        } else {
            Flow::Stop
        }
    });
    (heard, lines)
}

/// A server that writes these pieces of a chunked body, and then neither goes on nor ends.
fn endless(pieces: &'static [&'static str]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).expect("written");
        for piece in pieces {
            let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
            stream.write_all(chunk.as_bytes()).expect("written");
        }
        std::thread::sleep(Duration::from_secs(60));
    });
    format!("http://{address}")
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn lines_are_heard_as_they_come_until_enough_is_heard() {
    // Pieces are no lines.
    let url = endless(&["one\ntw", "o\n", "three"]);
    let begun = Instant::now();
    let (heard, lines) = hear(&url, LONG, 2);
    assert!(matches!(heard, Ok(StreamEnd::Stopped)), "{heard:?}");
    assert_eq!(lines, ["one\n", "two\n"]);
    assert!(begun.elapsed() < LONG / 2);
}

#[test]
fn a_quiet_answer_costs_its_time_and_no_more() {
    let url = endless(&["one\n"]);
    let begun = Instant::now();
    let (heard, lines) = hear(&url, Duration::from_millis(500), 2);
    assert!(matches!(heard, Ok(StreamEnd::Elapsed)), "{heard:?}");
    assert_eq!(lines, ["one\n"]);
    assert!(begun.elapsed() < Duration::from_millis(500) + SLACK);
    // One that has not begun is none.
    let silent = Server::start(Manner::Silent);
    let (heard, _) = hear(&silent.url(), Duration::from_millis(300), 1);
    assert_eq!(heard.expect_err("no answer").kind, ErrorKind::TimedOut);
    let (heard, _) = hear(&dead_url(), LONG, 1);
    assert_eq!(heard.expect_err("nobody").kind, ErrorKind::Unreachable);
}

#[test]
fn the_end_of_an_answer_is_told_and_half_a_line_is_none() {
    let server = Server::answers(&["200 one\ntwo\nthr"]);
    let (heard, lines) = hear(&server.url(), LONG, 9);
    assert!(matches!(heard, Ok(StreamEnd::Ended)), "{heard:?}");
    assert_eq!(lines, ["one\n", "two\n"]);
    let refused = Server::answers(&["404 no\nsuch thing"]);
    match hear(&refused.url(), LONG, 9) {
        (Ok(StreamEnd::Refused(answer)), lines) => {
            assert_eq!(
                (answer.status, answer.body.as_slice()),
                (404, &b"no\nsuch thing"[..])
            );
            assert!(lines.is_empty());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_line_without_an_end_is_none_of_the_protocol() {
    let flood = Server::start(Manner::Floods);
    let (heard, lines) = hear(&flood.url(), LONG, 9);
    assert_eq!(heard.expect_err("a flood").kind, ErrorKind::Protocol);
    assert!(lines.is_empty());
}
