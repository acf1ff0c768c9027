//! A client that never stops, while one of two servers behind a balancer says its farewell.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::app::App;
use crate::support::binary::{Binary, GENEROUS, Running, wait_until};

/// Clients that keep their connection, and as many that make a new one for each request.
pub const CLIENTS: usize = 3;

/// What became of the requests.
#[derive(Debug, Default)]
pub struct Tally {
    pub good: AtomicUsize,
    /// A kept connection was closed before a byte of the answer came, and the second request was good: browsers do so.
    pub again: AtomicUsize,
    pub failed: AtomicUsize,
}

impl Tally {
    fn count(&self) -> usize {
        let all = [&self.good, &self.again, &self.failed];
        all.iter().map(|it| it.load(Ordering::SeqCst)).sum()
    }
}

/// As many requests as there are at least.
fn total() -> usize {
    match std::env::var_os("FAREWELL_TESTS_LONG") {
        Some(_) => 20_000,
        None => 2_000,
    }
}

/// What happens to one server while the load goes on.
pub enum End<'a> {
    /// The farewell of this configuration runs; the closure says whether the balancer sends it nothing new any more.
    Farewell(&'a Binary, &'a (dyn Fn() -> bool + Sync)),
    /// The application is killed.
    Killed,
}

/// Loads a balancer at `port` before, while and after `leaving` ends, with a long poll and a slow download in flight to it.
pub fn load(port: u16, leaving: &App, end: End<'_>) -> Tally {
    let (tally, is_over) = (Tally::default(), AtomicBool::new(false));
    thread::scope(|threads| {
        // Also when something fails here: the clients end.
        let _stop = Stop(&is_over, leaving);
        for client in 0..2 * CLIENTS {
            let (tally, is_over) = (&tally, &is_over);
            threads.spawn(move || ask_on_and_on(port, client < CLIENTS, tally, is_over));
        }
        // Whichever server they get, they are answered in the end.
        let mut long = Vec::new();
        for (at, path) in ["/hold", "/slow"].into_iter().enumerate() {
            while leaving.held() <= at {
                assert!(long.len() < 50, "the balancer sends it nothing");
                let before = leaving.held_by_all();
                long.push(threads.spawn(move || Client::open(port)?.ask(path)));
                wait_until("it is held", || leaving.held_by_all() > before);
            }
        }
        wait_until("there is load", || tally.count() > total() / 4);
        match end {
            End::Farewell(binary, is_out) => {
                let run = Running::spawn(&mut binary.command(&["run"]));
                wait_until("it is out", is_out);
                // So long as something is in flight the farewell waits, and the load goes on.
                let so_far = tally.count();
                wait_until("the load goes on", || tally.count() > so_far + total() / 4);
                assert!(leaving.held() >= 2 && !leaving.is_killed());
                leaving.release();
                let ended = run.end(GENEROUS);
                assert_eq!(ended.code, 0, "{ended:?}");
                assert!(leaving.is_killed(), "its last step stops it");
            }
            End::Killed => {
                leaving.kill();
                leaving.release();
            }
        }
        let enough = (tally.count() + total() / 4).max(total());
        wait_until("there is load behind it", || tally.count() > enough);
        is_over.store(true, Ordering::SeqCst);
        for it in long {
            match it.join().expect("no panic") {
                Ok(_) => tally.good.fetch_add(1, Ordering::SeqCst),
                Err(_) => tally.failed.fetch_add(1, Ordering::SeqCst),
            };
        }
    });
    tally
}

/// Ends the clients, and what is held, when it goes out of scope.
struct Stop<'a>(&'a AtomicBool, &'a App);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
        self.1.release();
    }
}

fn ask_on_and_on(port: u16, keeps: bool, tally: &Tally, is_over: &AtomicBool) {
    let mut kept: Option<Client> = None;
    while !is_over.load(Ordering::SeqCst) {
        let is_kept = kept.is_some();
        let ask = |kept: Option<Client>| -> Result<Client, Failed> {
            let mut client = kept.map_or_else(|| Client::open(port), Ok)?;
            client.ask("/").map(|()| client)
        };
        let (ended, counter) = match ask(kept.take()) {
            Err(Failed::Closed) if is_kept => (ask(None), &tally.again),
            ended => (ended, &tally.good),
        };
        match ended {
            Ok(client) => {
                counter.fetch_add(1, Ordering::SeqCst);
                kept = keeps.then_some(client).filter(|it| !it.closes);
            }
            Err(_) => {
                tally.failed.fetch_add(1, Ordering::SeqCst);
            }
        }
        // Load enough. Without a pause the machine would do nothing else, and a server that refuses at once would make
        // failures of nearly all requests.
        thread::sleep(Duration::from_millis(3));
    }
}

/// Why there is no good answer.
#[derive(Debug)]
pub enum Failed {
    /// The connection was closed before the first byte.
    Closed,
    Otherwise,
}

impl From<std::io::Error> for Failed {
    fn from(_: std::io::Error) -> Failed {
        Failed::Otherwise
    }
}

struct Client {
    stream: BufReader<TcpStream>,
    /// Whether the server has said that it closes the connection.
    closes: bool,
}

impl Client {
    fn open(port: u16) -> Result<Client, Failed> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(GENEROUS))?;
        Ok(Client {
            stream: BufReader::new(stream),
            closes: false,
        })
    }

    /// One request, and its whole answer.
    fn ask(&mut self, path: &str) -> Result<(), Failed> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: app\r\n\r\n");
        let sent = self.stream.get_mut().write_all(request.as_bytes());
        let mut status = String::new();
        let read = sent.and_then(|()| self.stream.read_line(&mut status));
        if status.is_empty() {
            return Err(match read {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Failed::Otherwise,
                _ => Failed::Closed,
            });
        }
        let mut length = None;
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(Failed::Otherwise);
            }
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().ok();
            }
            self.closes |= line == "connection: close";
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length.ok_or(Failed::Otherwise)?];
        self.stream.read_exact(&mut body)?;
        match status.starts_with("HTTP/1.1 200") {
            true => Ok(()),
            false => Err(Failed::Otherwise),
        }
    }
}
