//! A loopback server that a test gives its answers, one that stands before a real server, and questions to either.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use super::binary::wait_until;
use super::servers::{answer, each_connection, read_request};

/// A request, taken apart.
pub struct Asked {
    pub method: String,
    /// Without the query.
    pub path: String,
    pub query: Vec<(String, String)>,
    /// Head and body, as they came.
    pub whole: String,
    pub body: String,
}

impl Asked {
    fn new(whole: String) -> Asked {
        let mut words = whole.split(' ');
        let method = words.next().unwrap_or_default().to_owned();
        let target = words.next().unwrap_or_default().to_owned();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name.to_owned(), value.to_owned())
        };
        let body = whole.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Asked {
            method,
            path: path.to_owned(),
            query: query
                .split('&')
                .filter(|it| !it.is_empty())
                .map(pair)
                .collect(),
            body: body.to_owned(),
            whole,
        }
    }

    /// A value of the query.
    pub fn value(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// A header's value; its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.whole.lines().take_while(|line| !line.is_empty());
        let mut pairs = lines.filter_map(|line| line.split_once(": "));
        let found = pairs.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value)
    }
}

/// What becomes of a request.
pub enum Reply {
    /// Status line without the version, headers with their line ends, body.
    Answer(&'static str, String, String),
    /// Nothing is said, and the connection stays.
    Silence,
    /// The connection is closed without a word.
    Close,
}

impl Reply {
    pub fn text(status: &'static str, body: &str) -> Reply {
        Reply::Answer(status, String::new(), body.to_owned())
    }
}

type Handler = dyn Fn(&Asked) -> Reply + Send + Sync;

/// A server that answers as it is told. It ends with the test's process.
pub struct Loopback {
    pub address: SocketAddr,
}

impl Loopback {
    pub fn start(handler: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Loopback {
        Loopback::at(0, handler)
    }

    pub fn at(port: u16, handler: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Loopback {
        let address = each_connection(port, move |stream| serve(stream, &handler));
        Loopback { address }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn serve(mut stream: TcpStream, handler: &Handler) {
    let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
    while let Some(request) = read_request(&mut reader) {
        let asked = Asked::new(request);
        let is_last = asked.header("connection") == Some("close");
        match handler(&asked) {
            Reply::Answer(status, headers, body) => {
                let whole = answer(status, &headers, &body);
                if stream.write_all(whole.as_bytes()).is_err() || is_last {
                    return;
                }
            }
            Reply::Silence => {
                let _ = reader.read(&mut [0; 1]);
                return;
            }
            Reply::Close => return,
        }
    }
}

/// The beginning of requests, and what happens in the world before their answer arrives.
type Deed = (String, Box<dyn Fn() + Send>);

/// What never arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// The server never hears of the request.
    Request,
    /// The server does what it is asked for, and the client never hears of it.
    Answer,
}

/// Stands before a server, and looks as if that one died between two requests, or held one of them back.
pub struct Middleman {
    pub address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    down: AtomicBool,
    /// Connections that found nobody.
    missed: AtomicUsize,
    /// The beginning of the request after which it dies.
    last: Mutex<Option<String>>,
    heard: Mutex<Vec<String>>,
    deed: Mutex<Option<Deed>>,
    /// What the first line of the request contains that is held back.
    rule: Mutex<Option<(String, Held)>>,
    has_held: AtomicBool,
    /// How many of the requests whose first line contains this are refused, and how many were.
    refusals: Mutex<(String, usize)>,
    refused: AtomicUsize,
}

impl Middleman {
    /// Before the server at `upstream`, at a port of its own.
    pub fn before(upstream: SocketAddr) -> Middleman {
        Middleman::at(upstream, || 0)
    }

    /// Before the server at `upstream`, which is in this thread's network; it listens where `enter` has gone, at the
    /// port that it returns.
    pub fn at(upstream: SocketAddr, enter: impl FnOnce() -> u16) -> Middleman {
        let (connect, asked) = mpsc::channel::<mpsc::Sender<TcpStream>>();
        std::thread::spawn(move || {
            while let Ok(wanted) = asked.recv() {
                if let Ok(stream) = TcpStream::connect(upstream) {
                    let _ = wanted.send(stream);
                }
            }
        });
        let state = Arc::<State>::default();
        let passing = state.clone();
        let connect = Mutex::new(connect);
        let address = each_connection(enter(), move |stream| passing.pass(stream, &connect));
        Middleman { address, state }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From the answer to the next request that begins so, nobody is there.
    pub fn die_after(&self, request: &str) {
        *self.state.last.lock().expect("lock") = Some(request.to_owned());
    }

    /// Does this whenever a request that begins so has been answered, before the answer arrives.
    pub fn after_each(&self, request: &str, deed: impl Fn() + Send + 'static) {
        *self.state.deed.lock().expect("lock") = Some((request.to_owned(), Box::new(deed)));
    }

    /// Holds back for ever what belongs to the next request whose first line contains this.
    pub fn hold(&self, request: &str, held: Held) {
        self.state.has_held.store(false, Ordering::SeqCst);
        *self.state.rule.lock().expect("lock") = Some((request.to_owned(), held));
    }

    /// Refuses the next `times` requests whose first line contains this.
    pub fn refuse(&self, request: &str, times: usize) {
        *self.state.refusals.lock().expect("lock") = (request.to_owned(), times);
    }

    /// How many requests it has refused.
    pub fn refused(&self) -> usize {
        self.state.refused.load(Ordering::SeqCst)
    }

    /// Waits until it has been held back; where it is an answer, the server has given it.
    pub fn wait(&self) {
        let has_held = || self.state.has_held.load(Ordering::SeqCst);
        wait_until("it is held back", has_held);
    }

    pub fn go_down(&self) {
        self.state.down.store(true, Ordering::SeqCst);
    }

    pub fn come_back(&self) {
        self.state.down.store(false, Ordering::SeqCst);
    }

    /// How many connections found nobody.
    pub fn missed(&self) -> usize {
        self.state.missed.load(Ordering::SeqCst)
    }

    /// The first line of every request that was passed on.
    pub fn heard(&self) -> Vec<String> {
        self.state.heard.lock().expect("lock").clone()
    }
}

impl State {
    fn pass(&self, mut stream: TcpStream, connect: &Mutex<mpsc::Sender<mpsc::Sender<TcpStream>>>) {
        let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
        let Some(request) = read_request(&mut reader) else {
            return;
        };
        if self.down.load(Ordering::SeqCst) {
            self.missed.fetch_add(1, Ordering::SeqCst);
            return;
        }
        if self.refuses(&request) {
            let _ = stream.write_all(answer("403 Forbidden", "", "not now").as_bytes());
            self.refused.fetch_add(1, Ordering::SeqCst);
            return;
        }
        let held = self.held(&request);
        if held == Some(Held::Request) {
            return self.keep_back();
        }
        let (wanted, connection) = mpsc::channel();
        connect
            .lock()
            .expect("lock")
            .send(wanted)
            .expect("a thread");
        let Ok(mut upstream) = connection.recv() else {
            return;
        };
        let line = request.lines().next().unwrap_or_default().to_owned();
        self.heard.lock().expect("lock").push(line);
        let asked = request.replacen("\r\n", "\r\nConnection: close\r\n", 1);
        let mut whole = Vec::new();
        let _ = upstream.write_all(asked.as_bytes());
        let _ = upstream.read_to_end(&mut whole);
        if held == Some(Held::Answer) {
            return self.keep_back();
        }
        if let Some((begins, deed)) = &*self.deed.lock().expect("lock")
            && request.starts_with(begins.as_str())
        {
            deed();
        }
        let mut last = self.last.lock().expect("lock");
        if last
            .as_ref()
            .is_some_and(|last| request.starts_with(last.as_str()))
        {
            *last = None;
            self.down.store(true, Ordering::SeqCst);
        }
        let _ = stream.write_all(&whole);
    }
}

impl State {
    fn refuses(&self, request: &str) -> bool {
        let line = request.lines().next().unwrap_or_default();
        let mut refusals = self.refusals.lock().expect("lock");
        let refuses = refusals.1 > 0 && line.contains(refusals.0.as_str());
        refusals.1 -= usize::from(refuses);
        refuses
    }

    /// What of a request is to be held back; once.
    fn held(&self, request: &str) -> Option<Held> {
        let line = request.lines().next().unwrap_or_default();
        let mut rule = self.rule.lock().expect("lock");
        rule.take_if(|(part, _)| line.contains(part.as_str()))
            .map(|(_, held)| held)
    }

    /// Leaves the connection as it is, to the end of the test's process.
    fn keep_back(&self) {
        self.has_held.store(true, Ordering::SeqCst);
        loop {
            std::thread::park();
        }
    }
}

/// Asks a server, and returns the status and the body.
pub fn ask(url: &str, request: &str, headers: &str, body: &str) -> (u16, String) {
    let address = url.strip_prefix("http://").expect("a URL");
    let address = address.trim_end_matches('/');
    let Ok(mut stream) = TcpStream::connect(address) else {
        return (0, String::new());
    };
    let length = body.len();
    // HTTP/1.0, so that nothing is chunked.
    let whole = format!(
        "{request} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(whole.as_bytes()).expect("written");
    let mut said = Vec::new();
    if stream.read_to_end(&mut said).is_err() || said.len() < 12 {
        return (0, String::new());
    }
    let said = String::from_utf8_lossy(&said);
    let status = said[9..12].parse().expect("a status");
    let body = said.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status, body.to_owned())
}
