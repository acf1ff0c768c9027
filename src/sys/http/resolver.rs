//! Names to addresses, within a time limit and once a run.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use super::ways::Ways;
use crate::sys::workers;

/// As many addresses of a name as the client takes.
const MOST: usize = 16;

/// A name that does not resolve, and what the system says about it.
#[derive(Debug)]
pub(super) struct Unresolved(pub(super) String);

impl fmt::Display for Unresolved {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Unresolved {}

/// How the system looks a name up; another function in tests, which cannot make the system's resolver hang.
type LookUp = fn(&str, u16) -> io::Result<Vec<SocketAddr>>;

/// Addresses by name and port.
type Known = HashMap<(String, u16), Vec<SocketAddr>>;

/// The names that were looked up. Each clone knows all of them.
///
/// The client's own resolver asks anew for each request, even where it has a connection: a name server that goes
/// away in the middle of a shutdown would break what still works.
#[derive(Clone)]
pub(super) struct Names {
    known: Arc<Mutex<Known>>,
    look_up: LookUp,
}

impl fmt::Debug for Names {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Names")
    }
}

impl Default for Names {
    fn default() -> Self {
        Names {
            known: Arc::default(),
            look_up: |host, port| Ok((host, port).to_socket_addrs()?.collect()),
        }
    }
}

impl Names {
    fn find(
        &self,
        host: &str,
        port: u16,
        patience: Duration,
    ) -> Result<Vec<SocketAddr>, ureq::Error> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let key = (host.to_owned(), port);
        if let Some(addresses) = self.lock().get(&key) {
            return Ok(addresses.clone());
        }
        let names = self.clone();
        let look_up = move || {
            let found = (names.look_up)(&key.0, key.1);
            // An answer that comes too late for this request is still there for the next one.
            if let Ok(addresses) = &found
                && !addresses.is_empty()
            {
                names.lock().insert(key, addresses.clone());
            }
            found
        };
        match workers::within(patience, look_up)? {
            Some(Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
            Some(Ok(_)) => Err(unresolved("has no address")),
            Some(Err(error)) => Err(unresolved(error)),
            None => Err(ureq::Error::Timeout(ureq::Timeout::Resolve)),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn unresolved(cause: impl ToString) -> ureq::Error {
    ureq::Error::Other(Box::new(Unresolved(cause.to_string())))
}

/// The resolver of one agent.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) names: Names,
    /// Where every request goes, whatever its URL says: the real host behind a server's name.
    pub(super) real: Option<(String, u16)>,
    /// The interfaces that must still be there.
    pub(super) ways: Ways,
}

impl Resolver for Route {
    fn resolve(
        &self,
        uri: &Uri,
        _: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let (host, port) = match &self.real {
            Some((host, port)) => (host.as_str(), *port),
            None => {
                let default = if uri.scheme_str() == Some("https") {
                    443
                } else {
                    80
                };
                let host = uri.host().unwrap_or_default();
                (
                    host.trim_matches(['[', ']']),
                    uri.port_u16().unwrap_or(default),
                )
            }
        };
        let found = self.names.find(host, port, *timeout.after)?;
        let mut addresses = self.empty();
        for address in self.ways.open(&found)?.into_iter().take(MOST) {
            addresses.push(address);
        }
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Instant;

    const SHORT: Duration = Duration::from_millis(50);

    fn names(look_up: LookUp) -> Names {
        Names {
            known: Arc::default(),
            look_up,
        }
    }

    #[test]
    fn addresses_are_not_looked_up() {
        let names = names(|_, _| Err(io::Error::other("asked")));
        for host in ["127.0.0.1", "::1"] {
            let found = names.find(host, 7, SHORT).expect("an address");
            assert_eq!(
                found,
                [SocketAddr::new(host.parse().expect("an address"), 7)]
            );
        }
    }

    #[test]
    fn a_name_is_looked_up_once_and_a_failure_is_not_kept() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let names = names(|host, port| {
            ASKED.fetch_add(1, Ordering::SeqCst);
            match host {
                "good" => Ok(vec![SocketAddr::from(([10, 0, 0, 1], port))]),
                _ => Err(io::Error::other("Name or service not known")),
            }
        });
        let patience = Duration::from_secs(5);
        for _ in 0..3 {
            let found = names.clone().find("good", 7, patience).expect("found");
            assert_eq!(found, [SocketAddr::from(([10, 0, 0, 1], 7))]);
        }
        assert_eq!(ASKED.load(Ordering::SeqCst), 1);
        for _ in 0..2 {
            let error = names.find("bad", 7, patience).expect_err("not found");
            assert!(error.to_string().contains("not known"), "{error}");
        }
        assert_eq!(ASKED.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn a_look_up_that_hangs_costs_its_patience_and_its_late_answer_is_kept() {
        let names = names(|_, port| {
            std::thread::sleep(Duration::from_millis(300));
            Ok(vec![SocketAddr::from(([10, 0, 0, 1], port))])
        });
        let begun = Instant::now();
        let error = names.find("slow", 7, SHORT).expect_err("too slow");
        assert!(matches!(error, ureq::Error::Timeout(_)), "{error}");
        assert!(
            begun.elapsed() < Duration::from_millis(250),
            "{:?}",
            begun.elapsed()
        );
        std::thread::sleep(Duration::from_millis(600));
        assert!(names.find("slow", 7, Duration::from_millis(1)).is_ok());
    }
}
