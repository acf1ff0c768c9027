//! An application behind a balancer: it answers over HTTP/1.1, keeps connections, and holds requests until it is told.

use std::collections::BTreeMap;
use std::io::{BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::servers::{answer, read_request};

/// An application on a port of its own. What it answers is its name.
#[derive(Clone)]
pub struct App {
    pub port: u16,
    shared: Arc<Shared>,
    others: Vec<Arc<Shared>>,
}

struct Shared {
    name: String,
    /// Requests for /hold are answered once this is so.
    is_released: AtomicBool,
    held: AtomicUsize,
    is_killed: AtomicBool,
    watched: Mutex<PathBuf>,
    connections: Mutex<BTreeMap<u64, TcpStream>>,
}

impl App {
    pub fn start(name: &str) -> App {
        App::start_at(name, 0)
    }

    /// On this port; 0: on any.
    pub fn start_at(name: &str, port: u16) -> App {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            is_released: AtomicBool::new(false),
            held: AtomicUsize::new(0),
            is_killed: AtomicBool::new(false),
            watched: Mutex::default(),
            connections: Mutex::default(),
        });
        let others = Vec::new();
        let app = App {
            port,
            shared,
            others,
        };
        let accepting = app.shared.clone();
        // Ends with the test's process, or when it is killed.
        std::thread::spawn(move || {
            for (at, stream) in (0..).zip(listener.incoming().flatten()) {
                if accepting.is_killed.load(Ordering::SeqCst) {
                    return;
                }
                let shared = accepting.clone();
                let copy = stream.try_clone().expect("a descriptor");
                shared.connections.lock().expect("lock").insert(at, copy);
                std::thread::spawn(move || {
                    shared.serve(stream);
                    shared.connections.lock().expect("lock").remove(&at);
                });
            }
        });
        app
    }

    /// As `server NAME 127.0.0.1:PORT` has it.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Answers what it and the others hold.
    pub fn release(&self) {
        for shared in self.others.iter().chain([&self.shared]) {
            shared.is_released.store(true, Ordering::SeqCst);
        }
    }

    /// Answers 503 to requests for /health while this file is there.
    pub fn watch(&self, path: &Path) {
        *self.shared.watched.lock().expect("lock") = path.to_owned();
    }

    /// How many requests it holds now.
    pub fn held(&self) -> usize {
        self.shared.held.load(Ordering::SeqCst)
    }

    /// How many requests all applications of this test hold now.
    pub fn held_by_all(&self) -> usize {
        self.others
            .iter()
            .chain([&self.shared])
            .map(|it| it.held.load(Ordering::SeqCst))
            .sum()
    }

    pub fn is_killed(&self) -> bool {
        self.shared.is_killed.load(Ordering::SeqCst)
    }

    /// Knows of another one behind the same balancer.
    pub fn beside(&mut self, other: &App) {
        self.others.push(other.shared.clone());
    }

    /// Ends at once, as a process does that is killed: nobody listens any more, and all connections are cut.
    pub fn kill(&self) {
        self.shared.kill();
        // The one that the thread waits for is the last that it accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    fn kill(&self) {
        self.is_killed.store(true, Ordering::SeqCst);
        for stream in self.connections.lock().expect("lock").values() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    fn serve(&self, mut stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
        while let Some(request) = read_request(&mut reader) {
            let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
            let sent = match path.as_str() {
                "/hold" => {
                    self.hold();
                    stream.write_all(answer("200 OK", "", &self.name).as_bytes())
                }
                "/health" if self.watched.lock().expect("lock").exists() => {
                    let whole = answer("503 Service Unavailable", "", "");
                    stream.write_all(whole.as_bytes())
                }
                "/slow" => {
                    let whole = answer("200 OK", "", &"x".repeat(1 << 16));
                    let (begin, rest) = whole.as_bytes().split_at(1 << 15);
                    let sent = stream.write_all(begin);
                    self.hold();
                    sent.and_then(|()| stream.write_all(rest))
                }
                // The last step of a farewell stops it.
                "/stop" => {
                    let _ =
                        stream.write_all(answer("200 OK", "Connection: close\r\n", "").as_bytes());
                    self.kill();
                    let _ = TcpStream::connect(stream.local_addr().expect("an address"));
                    return;
                }
                _ => stream.write_all(answer("200 OK", "", &self.name).as_bytes()),
            };
            if sent.is_err() || self.is_killed.load(Ordering::SeqCst) {
                return;
            }
        }
    }

    fn hold(&self) {
        self.held.fetch_add(1, Ordering::SeqCst);
        while !self.is_released.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.held.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A request that is under way on a connection of its own.
pub struct Asking(std::thread::JoinHandle<Result<String, String>>);

impl Asking {
    /// Asks for a path, and goes on.
    pub fn start(port: u16, path: &str) -> Asking {
        let path = path.to_owned();
        Asking(std::thread::spawn(move || ask(port, &path)))
    }

    /// The body of the answer.
    pub fn end(self) -> Result<String, String> {
        self.0.join().expect("no panic")
    }
}

/// One request on a connection of its own: the body of a 200, or what came instead.
pub fn ask(port: u16, path: &str) -> Result<String, String> {
    use std::io::Read as _;
    let told = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(told)?;
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: app\r\nCookie: SRV=s1\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(told)?;
    let mut whole = String::new();
    stream.read_to_string(&mut whole).map_err(told)?;
    match whole.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
        _ => Err(format!("{whole:?}")),
    }
}
