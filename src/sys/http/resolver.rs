//! Resolves names within a time limit, and only once a run as long as the addresses work.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use crate::sys::sync::Mutex;
use crate::sys::threads;

/// The most addresses of a name that are tried.
const MOST: usize = 16;

/// Looks a name up; replaced in tests, which cannot make the system's resolver hang.
type LookUp = fn(&str, u16) -> io::Result<Vec<SocketAddr>>;

/// Addresses by name and port.
type Known = HashMap<(String, u16), Vec<SocketAddr>>;

/// The names that were looked up, shared by all clones.
///
/// The client's own resolver asks again for each request, even with a connection: a name server that goes away in the
/// middle of a shutdown would break what still works.
#[derive(Clone)]
pub(super) struct NameCache {
    known: Arc<Mutex<Known>>,
    look_up: LookUp,
}

impl std::fmt::Debug for NameCache {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Names")
    }
}

impl Default for NameCache {
    fn default() -> Self {
        NameCache {
            known: Arc::default(),
            look_up: |host, port| Ok((host, port).to_socket_addrs()?.collect()),
        }
    }
}

impl NameCache {
    /// What an earlier lookup found; `None` for an address, and for a name that was not looked up.
    pub(super) fn known(&self, host: &str, port: u16) -> Option<Vec<SocketAddr>> {
        self.known.lock().get(&(host.to_owned(), port)).cloned()
    }

    /// Looks a name up again. Known addresses stay known, after those just found.
    ///
    /// # Errors
    /// The resolver's error, or that the time is over.
    pub(super) fn look_up(
        &self,
        host: &str,
        port: u16,
        patience: Duration,
    ) -> Result<Vec<SocketAddr>, ureq::Error> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let (names, key) = (self.clone(), (host.to_owned(), port));
        let look_up = move || {
            let found = (names.look_up)(&key.0, key.1);
            // An answer that comes too late for this request is kept for the next one.
            if let Ok(addresses) = &found
                && !addresses.is_empty()
            {
                let mut known = names.known.lock();
                let old = known.remove(&key).unwrap_or_default();
                let old = old.into_iter().filter(|it| !addresses.contains(it));
                let all = addresses.iter().copied().chain(old).take(MOST);
                let all = all.collect();
                known.insert(key, all);
            }
            found
        };
        match threads::within(patience, look_up)? {
            Some(Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
            Some(Ok(_)) => Err(unresolved("has no address")),
            Some(Err(error)) => Err(unresolved(error)),
            None => Err(ureq::Error::Timeout(ureq::Timeout::Resolve)),
        }
    }
}

fn unresolved(cause: impl ToString) -> ureq::Error {
    ureq::Error::Other(cause.to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Instant;

    const SHORT: Duration = Duration::from_millis(50);

    fn names(look_up: LookUp) -> NameCache {
        NameCache {
            known: Arc::default(),
            look_up,
        }
    }

    #[test]
    fn addresses_are_not_looked_up() {
        let names = names(|_, _| Err(io::Error::other("asked")));
        for host in ["127.0.0.1", "::1"] {
            let found = names.look_up(host, 7, SHORT).expect("an address");
            assert_eq!(
                found,
                [SocketAddr::new(host.parse().expect("an address"), 7)]
            );
            assert_eq!(names.known(host, 7), None);
        }
    }

    #[test]
    fn what_was_found_stays_known_and_a_failure_takes_nothing_away() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let names = names(
            |host, port| match (host, ASKED.fetch_add(1, Ordering::SeqCst)) {
                ("good", 0) => Ok(vec![SocketAddr::from(([10, 0, 0, 1], port))]),
                ("good", 1) => Ok(vec![SocketAddr::from(([10, 0, 0, 2], port))]),
                _ => Err(io::Error::other("Name or service not known")),
            },
        );
        let [first, second] = [1, 2].map(|it| SocketAddr::from(([10, 0, 0, it], 7)));
        let patience = Duration::from_secs(60);
        let look_up = |host| names.look_up(host, 7, patience);
        assert_eq!(look_up("good").expect("found"), [first]);
        assert_eq!(names.known("good", 7), Some(vec![first]));
        assert_eq!(look_up("good").expect("found"), [second]);
        assert_eq!(names.known("good", 7), Some(vec![second, first]));
        for host in ["good", "bad"] {
            let error = look_up(host).expect_err("not found");
            assert!(error.to_string().contains("not known"), "{error}");
        }
        assert_eq!(names.known("good", 7), Some(vec![second, first]));
        assert_eq!(names.known("bad", 7), None);
    }

    #[test]
    fn a_look_up_that_hangs_costs_its_patience_and_its_late_answer_is_kept() {
        static GO: AtomicUsize = AtomicUsize::new(0);
        let names = names(|_, port| {
            while GO.load(Ordering::SeqCst) == 0 {
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(vec![SocketAddr::from(([10, 0, 0, 1], port))])
        });
        let error = names.look_up("slow", 7, SHORT).expect_err("too slow");
        assert!(matches!(error, ureq::Error::Timeout(_)), "{error}");
        assert_eq!(names.known("slow", 7), None);
        GO.store(1, Ordering::SeqCst);
        let begun = Instant::now();
        while names.known("slow", 7).is_none() {
            assert!(begun.elapsed() < Duration::from_secs(60), "never kept");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
