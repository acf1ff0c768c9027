//! A proxy in front of a real server, which can hold back a request, or the answer to one, and never let it go.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::servers::read_request;

/// What is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// The server never hears of the request.
    Request,
    /// The server does what it is asked for, and the client never hears of it.
    Answer,
}

/// A proxy on a free port.
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    server: SocketAddr,
    /// What the first line of the request that is meant contains.
    rule: Mutex<Option<(String, Held)>>,
    has_held: AtomicBool,
}

impl Proxy {
    /// A proxy of the server at this address, which lets everything through.
    pub fn of(server: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State {
            server,
            rule: Mutex::default(),
            has_held: AtomicBool::new(false),
        });
        let shared = state.clone();
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                std::thread::spawn(move || state.serve(stream));
            }
        });
        Proxy { address, state }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Holds back what belongs to the next request whose first line contains `part`, and lets everything else through.
    pub fn hold(&self, part: &str, held: Held) {
        self.state.has_held.store(false, Ordering::SeqCst);
        *self.state.rule.lock().expect("no panic") = Some((part.to_owned(), held));
    }

    /// Waits until it has been held back; where it is an answer, the server has given it.
    pub fn wait(&self) {
        let end = Instant::now() + Duration::from_secs(60);
        while !self.state.has_held.load(Ordering::SeqCst) {
            assert!(Instant::now() < end, "nothing to hold back came");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl State {
    fn serve(&self, client: TcpStream) {
        let Ok(mut server) = TcpStream::connect(self.server) else {
            return;
        };
        let is_shut = AtomicBool::new(false);
        let mut reader = BufReader::new(client.try_clone().expect("a descriptor"));
        std::thread::scope(|threads| {
            let (mut from, mut to) = (
                server.try_clone().expect("a descriptor"),
                client.try_clone().expect("a descriptor"),
            );
            let is_shut = &is_shut;
            threads.spawn(move || self.answer(&mut from, &mut to, is_shut));
            while let Some(request) = read_request(&mut reader) {
                let line = request.lines().next().unwrap_or_default();
                match self.held(line) {
                    Some(Held::Request) => {
                        self.has_held.store(true, Ordering::SeqCst);
                        continue;
                    }
                    Some(Held::Answer) => is_shut.store(true, Ordering::SeqCst),
                    None => {}
                }
                if server.write_all(request.as_bytes()).is_err() {
                    break;
                }
            }
            let _ = server.shutdown(std::net::Shutdown::Both);
        });
    }

    /// What of the request with this first line is to be held back; once.
    fn held(&self, line: &str) -> Option<Held> {
        let mut rule = self.rule.lock().expect("no panic");
        rule.take_if(|(part, _)| line.contains(part.as_str()))
            .map(|(_, held)| held)
    }

    fn answer(&self, from: &mut TcpStream, to: &mut TcpStream, is_shut: &AtomicBool) {
        let mut buffer = [0; 8192];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if is_shut.load(Ordering::SeqCst) {
                self.has_held.store(true, Ordering::SeqCst);
            } else if to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Both);
    }
}
