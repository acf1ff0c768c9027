//! Clients of the application, who look for it in the registry before each request, as they should.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::registry::{Registry, ask};

/// Clients that keep asking, until they are told to stop or find nobody any more.
pub struct Clients {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Tally>>,
}

/// What became of the requests.
#[derive(Default, Debug)]
pub struct Tally {
    pub answered: usize,
    pub lost: Vec<String>,
}

impl Clients {
    /// One client in a hurry, and one whose requests take 3 s.
    pub fn start(registry: &Registry, application: SocketAddr) -> Clients {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |path: &'static str| {
            let (stop, registry) = (stop.clone(), registry.address());
            std::thread::spawn(move || keep_asking(&stop, registry, application, path))
        };
        let threads = vec![client("/"), client("/slow")];
        Clients { stop, threads }
    }

    /// Fails if a request was lost, or if nobody has asked anything.
    pub fn lost_nothing(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let tally = thread.join().expect("no panic");
            assert!(tally.lost.is_empty() && tally.answered > 0, "{tally:?}");
        }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn keep_asking(
    stop: &AtomicBool,
    registry: SocketAddr,
    application: SocketAddr,
    path: &str,
) -> Tally {
    let mut tally = Tally::default();
    while !stop.load(Ordering::Relaxed) && Registry::lists_member(registry).unwrap_or(false) {
        match ask(application, &format!("GET {path}"), "") {
            Ok(_) => tally.answered += 1,
            Err(error) => tally.lost.push(error.to_string()),
        }
        // As busy as the emulated processors bear beside everything else.
        std::thread::sleep(Duration::from_millis(50));
    }
    tally
}
