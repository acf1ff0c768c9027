//! Connects to a unix socket, or to the addresses of a name.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use ureq::unversioned::transport::{ConnectionDetails, Connector, LazyBuffers};

use super::connection::{Connection, Socket, end};
use super::known_interfaces::KnownInterfaces;
use super::resolver::NameCache;
use crate::sys::threads;

/// The minimum time for one address.
const LEAST: Duration = Duration::from_millis(10);

/// Where the connections of one agent really go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Destination {
    /// The host and the port of the URL.
    Url,
    /// The real host and port behind a server's name.
    Host(String, u16),
    /// A unix socket.
    Socket(PathBuf),
}

/// Makes the connections of one agent.
pub(super) struct HostConnector {
    pub(super) place: Destination,
    pub(super) names: NameCache,
    /// The interfaces that must still be up.
    pub(super) ways: KnownInterfaces,
    pub(super) tls: Option<Arc<ClientConfig>>,
}

impl fmt::Debug for HostConnector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.fmt(out)
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) struct Unconnected {
    pub(super) cause: String,
    /// Whether the time was over.
    pub(super) is_late: bool,
}

impl fmt::Display for Unconnected {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.cause)
    }
}

impl std::error::Error for Unconnected {}

impl From<Unconnected> for ureq::Error {
    fn from(unconnected: Unconnected) -> Self {
        ureq::Error::Other(Box::new(unconnected))
    }
}

impl Connector<()> for HostConnector {
    type Out = Connection;

    fn connect(
        &self,
        details: &ConnectionDetails,
        _: Option<()>,
    ) -> Result<Option<Connection>, ureq::Error> {
        let until = end(&details.timeout);
        let named = details
            .uri
            .host()
            .unwrap_or_default()
            .trim_matches(['[', ']']);
        let default = if details.needs_tls() { 443 } else { 80 };
        let socket = match &self.place {
            Destination::Socket(path) => unix(path, until)?,
            Destination::Host(host, port) => self.tcp(host, *port, until)?,
            Destination::Url => {
                self.tcp(named, details.uri.port_u16().unwrap_or(default), until)?
            }
        };
        let client = match &self.tls {
            Some(config) if details.needs_tls() => {
                let name = ServerName::try_from(named.to_owned()).map_err(|_| {
                    ureq::Error::Tls("no certificate can be issued for its host name")
                })?;
                let client = ClientConnection::new(config.clone(), name);
                Some(client.map_err(|error| {
                    ureq::Error::Io(io::Error::new(ErrorKind::InvalidData, error))
                })?)
            }
            _ => None,
        };
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        let unconnected = |cause: &str, is_late| {
            let cause = cause.to_owned();
            Err(Unconnected { cause, is_late }.into())
        };
        match Connection::open(socket, client, until, buffers) {
            Ok(connection) => Ok(Some(connection)),
            Err(error) => match error.kind() {
                ErrorKind::TimedOut => unconnected("the TLS handshake did not end in time", true),
                ErrorKind::UnexpectedEof => {
                    unconnected("the connection was closed in the TLS handshake", false)
                }
                _ => Err(ureq::Error::Io(error)),
            },
        }
    }
}

impl HostConnector {
    /// Connects to one of the addresses of a host. Those that an earlier request found are tried first; if all fail,
    /// the name is looked up again: a peer may have moved.
    fn tcp(&self, host: &str, port: u16, until: Instant) -> Result<Socket, ureq::Error> {
        let left = || until.saturating_duration_since(Instant::now());
        let known = self.names.known(host, port);
        let mut tried = Tried::new(host, &self.ways);
        if let Some(addresses) = &known
            && let Some(stream) = tried.connect(addresses, Instant::now() + left() / 2)
        {
            return Ok(Socket::Tcp(stream));
        }
        let found = match self.names.look_up(host, port, left()) {
            Ok(found) => found,
            Err(error) if known.is_none() => return Err(error),
            // If the name server is gone too, the known addresses are tried with the rest of the time.
            Err(_) => Vec::new(),
        };
        let known = known.unwrap_or_default();
        let old = known.iter().filter(|it| !found.contains(it));
        let all: Vec<SocketAddr> = found.iter().chain(old).copied().collect();
        let again: Vec<SocketAddr> = all.into_iter().filter(|it| !tried.is_bad(it)).collect();
        match tried.connect(&again, until) {
            Some(stream) => Ok(Socket::Tcp(stream)),
            None => Err(tried.told().into()),
        }
    }
}

/// The addresses that were tried, and the last error of each.
struct Tried<'a> {
    is_name: bool,
    ways: &'a KnownInterfaces,
    failures: Vec<(SocketAddr, io::Error)>,
}

impl<'a> Tried<'a> {
    fn new(host: &str, ways: &'a KnownInterfaces) -> Tried<'a> {
        Tried {
            is_name: host.parse::<IpAddr>().is_err(),
            ways,
            failures: Vec::new(),
        }
    }

    /// Tries the addresses in turn. Each gets half of the remaining time, so that one that does not answer leaves some
    /// to the others.
    fn connect(&mut self, addresses: &[SocketAddr], until: Instant) -> Option<TcpStream> {
        let left = until.saturating_duration_since(Instant::now());
        let whole: f64 = (0..addresses.len())
            .map(|turn| 0.5_f64.powi(turn as i32))
            .sum();
        for (turn, address) in addresses.iter().enumerate() {
            let share = left.mul_f64(0.5_f64.powi(turn as i32) / whole);
            let rest = until.saturating_duration_since(Instant::now());
            let share = share.min(rest).max(LEAST);
            // Checked again once connected, before anything is sent: the interface may have gone meanwhile.
            let is_open = || self.ways.open(&[*address]).map_err(io::Error::other);
            let connected = is_open()
                .and_then(|_| TcpStream::connect_timeout(address, share))
                .and_then(|stream| is_open().map(|_| stream));
            match connected {
                Ok(stream) => {
                    // Send without delay; a failure to set this costs some milliseconds.
                    let _ = stream.set_nodelay(true);
                    return Some(stream);
                }
                Err(error) => {
                    self.failures.retain(|(known, _)| known != address);
                    self.failures.push((*address, error));
                }
            }
        }
        None
    }

    /// Whether an address has failed for another reason than a timeout.
    fn is_bad(&self, address: &SocketAddr) -> bool {
        let failed = self.failures.iter().find(|(known, _)| known == address);
        failed.is_some_and(|(_, error)| !is_late(error))
    }

    /// The errors of all addresses.
    fn told(self) -> Unconnected {
        let is_late = self.failures.iter().any(|(_, error)| is_late(error));
        let told = |(address, error): &(SocketAddr, io::Error)| {
            let cause = if self::is_late(error) {
                "no connection in time".to_owned()
            } else {
                error.to_string()
            };
            match self.is_name {
                true => format!("{address}: {cause}"),
                false => cause,
            }
        };
        let causes: Vec<String> = self.failures.iter().map(told).collect();
        Unconnected {
            cause: causes.join(", "),
            is_late,
        }
    }
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
}

/// Connects to a unix socket. A full backlog, or a path on a dead mount, is abandoned in time.
fn unix(path: &Path, until: Instant) -> Result<Socket, Unconnected> {
    let unconnected = |cause: String, is_late| Unconnected { cause, is_late };
    let path = path.to_owned();
    let left = until.saturating_duration_since(Instant::now());
    match threads::within(left, move || UnixStream::connect(path)) {
        Ok(Some(Ok(stream))) => Ok(Socket::Unix(stream)),
        Ok(Some(Err(error))) => Err(unconnected(error.to_string(), false)),
        Ok(None) => Err(unconnected("no connection in time".to_owned(), true)),
        Err(error) => Err(unconnected(error.to_string(), false)),
    }
}
