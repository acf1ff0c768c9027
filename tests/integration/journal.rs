//! What journald is told of a run, with a socket stand-in for journald.

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use crate::support::own_process::{in_own_process, this_test};
use crate::support::story::{at, begin, end, finished, started, waiting};
use farewell::logging::{self, Sink};
use farewell::model::error::{ErrorKind, Failure};
use farewell::model::event::{EventKind, Result, Stream};
use farewell::report::dispatch::{Feed, Update};
use farewell::report::journal::Journal as Told;
use farewell::sys::journal::{DROPPED, Journal};

/// A socket stand-in for journald: a datagram socket, and a reader of the native protocol.
struct Journald {
    socket: UnixDatagram,
    path: PathBuf,
}

type Entry = BTreeMap<String, String>;

impl Journald {
    fn new(name: &str) -> Journald {
        let path = path(name);
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_nonblocking(true).expect("it can be so");
        Journald { socket, path }
    }

    /// What lies in the queue.
    fn entries(&self) -> Vec<Entry> {
        let mut buffer = vec![0; 256 << 10];
        let mut entries = Vec::new();
        while let Ok(length) = self.socket.recv(&mut buffer) {
            entries.push(parse(&buffer[..length]));
        }
        entries
    }
}

impl Drop for Journald {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn path(name: &str) -> PathBuf {
    let name = format!("farewell-journal-{}-{name}", std::process::id());
    std::env::temp_dir().join(name)
}

fn parse(mut datagram: &[u8]) -> Entry {
    let mut entry = Entry::new();
    while !datagram.is_empty() {
        let stop = datagram.iter().position(|it| matches!(it, b'=' | b'\n'));
        let stop = stop.expect("a name has an end");
        let name = text(&datagram[..stop]);
        let (value, rest) = if datagram[stop] == b'=' {
            let value = &datagram[stop + 1..];
            let end = value.iter().position(|it| *it == b'\n').expect("an end");
            value.split_at(end)
        } else {
            let (length, value) = datagram[stop + 1..].split_at(8);
            let length = u64::from_le_bytes(length.try_into().expect("8 bytes"));
            value.split_at(usize::try_from(length).expect("it fits"))
        };
        assert_eq!(rest[0], b'\n');
        assert!(entry.insert(name, text(value)).is_none(), "one of each");
        datagram = &rest[1..];
    }
    entry
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// Installs the logger, which a process can do once.
#[test]
fn a_run_is_told_with_its_fields() {
    in_own_process(this_test!(), is_told);
}

fn is_told() {
    let journald = Journald::new("run");
    let journal = Journal::at(&journald.path).expect("a socket");
    let sink = logging::install_to(Some(journal), log::LevelFilter::Off);
    assert_eq!(sink, Sink::Journal);
    farewell::model::secrets::hide("journal-secret");

    let mut reporter = Feed::of(Told::default());
    let mut tell = |news: Update<'_>| {
        reporter.update(news);
        journald.entries()
    };
    let start = tell(Update::Event(&begin(&["leave"], 90)));
    assert_eq!(start.len(), 1);
    assert_eq!(start[0]["FAREWELL_RUN"], "R1");
    assert_eq!(start[0]["FAREWELL_LEFT_USEC"], "90000000");
    assert_eq!(tell(Update::Event(&started(0, 0)))[0]["PRIORITY"], "6");
    assert!(tell(Update::Event(&waiting(1, 0, "etcd"))).is_empty());

    let waits = tell(Update::Tick(Duration::from_secs(9)));
    let waits = &waits[0];
    assert_eq!(waits["MESSAGE"], "step leave waits for etcd, 21 s left");
    assert_eq!(
        waits["MESSAGE_ID"],
        farewell::logging::message_id::STEP_WAITING.id
    );

    let output = tell(Update::Event(&at(
        10,
        EventKind::Output {
            step: 0,
            stream: Stream::Out,
            line: "token=journal-secret\nmore".to_owned(),
        },
    )));
    assert_eq!(output[0]["MESSAGE"], "leave | token=********\nmore");
    assert_eq!(
        output[0]["MESSAGE_ID"],
        farewell::logging::message_id::STEP_OUTPUT.id
    );

    let failure = Failure::new(ErrorKind::Tls, "https://journal-secret", "expired");
    let failed = tell(Update::Event(&finished(10_000, 0, 10_000, Some(failure))));
    let expected: Entry = [
        ("PRIORITY", "3"),
        ("SYSLOG_IDENTIFIER", "farewell"),
        ("MESSAGE_ID", farewell::logging::message_id::STEP_FAILED.id),
        ("FAREWELL_RUN", "R1"),
        ("FAREWELL_TRIGGER", "stop"),
        ("FAREWELL_STEP", "leave"),
        ("FAREWELL_KIND", "http"),
        ("FAREWELL_STATE", "failed"),
        ("FAREWELL_ATTEMPT", "1"),
        ("FAREWELL_DURATION_USEC", "10000000"),
        ("FAREWELL_ERROR", "tls"),
        (
            "MESSAGE",
            "step leave: failed after 10 s: tls: https://********: expired",
        ),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    assert_eq!(failed, [expected]);

    let ended = tell(Update::Event(&end(
        10_000,
        Result::CutShort,
        Some("told to"),
    )));
    assert_eq!(ended[0]["PRIORITY"], "3");
    assert_eq!(ended[0]["FAREWELL_STATE"], "cut-short");

    // A field of a record is masked too, and other crates' details are dropped.
    log::warn!(NOTE = "journal-secret"; "a warning");
    assert_eq!(journald.entries()[0]["NOTE"], "********");
    log::info!(target: "ureq::run", "Authorization: Basic …");
    log::debug!("below the default");
    assert!(journald.entries().is_empty());
    log::warn!(target: "ureq::run", "something odd");
    assert_eq!(journald.entries()[0]["PRIORITY"], "4");
    logging::flush(Duration::ZERO);
}

#[test]
fn a_stalled_journald_delays_nobody_and_is_told_what_it_missed() {
    const SENT: usize = 3000;
    let journald = Journald::new("stalled");
    let journal = Journal::at(&journald.path).expect("a socket");
    let journal = Arc::new(journal);
    let (sent, heard) = mpsc::channel();
    let sender = journal.clone();
    std::thread::spawn(move || {
        for number in 0..SENT {
            let message = format!("{number} {}", "x".repeat(1000));
            sender.send(6, &message, &[]);
        }
        sent.send(sender.flush(Duration::from_millis(50)))
    });
    let flushed = heard.recv_timeout(Duration::from_secs(10));
    assert_eq!(flushed, Ok(false), "nothing blocks, and not all is taken");
    let dropped = journal.dropped();
    assert!(dropped > 0);

    // It comes to itself.
    let entries = std::thread::scope(|threads| {
        let flushed = threads.spawn(|| journal.flush(Duration::from_secs(20)));
        let mut entries = Vec::new();
        while !flushed.is_finished() {
            entries.extend(journald.entries());
        }
        assert!(flushed.join().expect("no panic"));
        entries.extend(journald.entries());
        entries
    });
    let notice = |entry: &Entry| entry.get("MESSAGE_ID").is_some_and(|id| id == DROPPED);
    let notices: Vec<&Entry> = entries.iter().filter(|entry| notice(entry)).collect();
    assert_eq!(notices.len(), 1);
    assert_eq!(
        notices[0]["MESSAGE"],
        format!("{dropped} entries were dropped because journald did not accept them")
    );
    let numbers: Vec<usize> = (entries.iter().filter(|entry| !notice(entry)))
        .map(|entry| entry["MESSAGE"].split(' ').next().expect("a number"))
        .map(|number| number.parse().expect("a number"))
        .collect();
    assert!(numbers.is_sorted(), "in their order");
    assert_eq!(numbers.last(), Some(&(SENT - 1)), "the newest is kept");
    let dropped = usize::try_from(dropped).expect("few");
    assert_eq!(numbers.len() + dropped, SENT);
}

#[test]
fn what_an_absent_journald_missed_is_sent_with_the_next_entry() {
    let journal = Journal::at(&path("late")).expect("a socket");
    journal.send(6, "early", &[]);
    assert!(!journal.flush(Duration::ZERO));
    let journald = Journald::new("late");
    journal.send(6, "late\nand long", &[]);
    let entries = journald.entries();
    let messages: Vec<&str> = entries.iter().map(|it| it["MESSAGE"].as_str()).collect();
    assert_eq!(messages, ["early", "late\nand long"]);
    assert_eq!(journal.dropped(), 0);
}

#[test]
fn a_huge_entry_arrives_cut() {
    let journald = Journald::new("huge");
    let journal = Journal::at(&journald.path).expect("a socket");
    journal.send(6, &"y".repeat(1 << 20), &[("FAREWELL_STEP", "leave")]);
    let entries = journald.entries();
    assert_eq!(entries[0]["FAREWELL_STEP"], "leave");
    assert!(entries[0]["MESSAGE"].ends_with("yyy … (cut)"));
    assert!(entries[0]["MESSAGE"].len() > 60 << 10);
}
