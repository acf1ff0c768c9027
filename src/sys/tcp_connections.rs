//! The TCP connections of a local port, wherever they end: here, in another network namespace, or behind a translated
//! destination (DNAT), as with a container's published port.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::sockets::{self, Socket, State};

/// The kernel's connection tracking table, if it is available.
const TRACKED: &str = "/proc/net/nf_conntrack";

/// The state of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Port {
    /// Connections through which data may still flow.
    pub connections: usize,
    /// Whether a process listens on it, or is reached through it.
    pub is_served: bool,
}

/// The state of each of `ports`, in their order.
///
/// If nobody listens on a port in this network namespace, the service may have one of its own: then the namespaces of
/// other processes are read, as far as permitted (root may).
pub fn of(ports: &[u16]) -> io::Result<Vec<Port>> {
    let mut found = vec![Port::default(); ports.len()];
    count("self", ports, &mut found)?;
    let tracked: Vec<Translated> = translated(&fs::read_to_string(TRACKED).unwrap_or_default())
        .filter(|it| ports.contains(&it.port))
        .collect();
    let is_alone = found.iter().all(|port| port.is_served);
    if is_alone && tracked.is_empty() {
        return Ok(found);
    }
    let mut behind = Vec::new();
    for process in other_namespaces() {
        let mut elsewhere = vec![Port::default(); ports.len()];
        // The process may have ended.
        let _ = count(&process, ports, &mut elsewhere);
        for (port, there) in found.iter_mut().zip(elsewhere) {
            if !port.is_served && there.is_served {
                *port = there;
            }
        }
        if !tracked.is_empty() {
            let _ = sockets::each(&process, |socket| behind.push(socket));
        }
    }
    for connection in tracked {
        for (_, port) in ports
            .iter()
            .zip(&mut found)
            .filter(|(it, _)| **it == connection.port)
        {
            port.is_served = true;
            port.connections += usize::from(connection.is_in_use(&behind));
        }
    }
    Ok(found)
}

/// Adds the sockets of the network namespace of `process`.
fn count(process: &str, ports: &[u16], found: &mut [Port]) -> io::Result<()> {
    sockets::each(process, |socket| {
        let own = ports.iter().zip(&mut *found);
        for (_, port) in own.filter(|(it, _)| **it == socket.local.port()) {
            port.connections += usize::from(socket.is_in_use());
            port.is_served |= socket.state == State::Listen;
        }
    })
}

/// One process of each other network namespace.
fn other_namespaces() -> Vec<String> {
    let Ok(own) = fs::read_link("/proc/self/ns/net") else {
        return Vec::new();
    };
    let mut known: HashSet<PathBuf> = HashSet::from([own]);
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = processes.filter_map(|process| process.file_name().into_string().ok());
    names
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .filter(|name| {
            let namespace = fs::read_link(format!("/proc/{name}/ns/net"));
            namespace.is_ok_and(|namespace| known.insert(namespace))
        })
        .collect()
}

/// A tracked connection to a local port whose destination is translated.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Translated {
    /// The port that the client connected to.
    port: u16,
    /// Where it ends.
    end: SocketAddr,
    /// The peer that the end sees.
    peer: SocketAddr,
}

impl Translated {
    /// Whether data may still flow through it. The kernel's table keeps dead connections for days; if the other
    /// namespace can be read, the state of its socket decides.
    fn is_in_use(&self, others: &[Socket]) -> bool {
        let is_end =
            |socket: &&Socket| same(socket.local, self.end) && same(socket.remote, self.peer);
        let serves = |socket: &Socket| {
            let ip = socket.local.ip().to_canonical();
            socket.state == State::Listen
                && socket.local.port() == self.end.port()
                && (ip == self.end.ip() || is_any(ip))
        };
        match others.iter().find(is_end) {
            Some(socket) => socket.is_in_use(),
            None => !others.iter().any(serves),
        }
    }
}

fn is_any(ip: IpAddr) -> bool {
    ip.is_unspecified()
}

fn same(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port() && one.ip().to_canonical() == other.ip().to_canonical()
}

/// The table's connections with a translated destination through which data may flow. A line has both directions: `ipv4
/// 2 tcp 6 431999 ESTABLISHED src=CLIENT dst=HOST sport=A dport=B src=END dst=PEER sport=C dport=D …`.
fn translated(table: &str) -> impl Iterator<Item = Translated> {
    table.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        if words.nth(2)? != "tcp" {
            return None;
        }
        let state = words.nth(2)?;
        if !matches!(state, "ESTABLISHED" | "FIN_WAIT" | "CLOSE_WAIT") {
            return None;
        }
        let values = |key: &'static str| {
            line.split_ascii_whitespace()
                .filter_map(move |it| it.strip_prefix(key))
        };
        let address = |host: &'static str, port: &'static str, direction: usize| {
            let ip = values(host).nth(direction)?.parse::<IpAddr>().ok()?;
            Some(SocketAddr::new(
                ip,
                values(port).nth(direction)?.parse().ok()?,
            ))
        };
        let asked = address("dst=", "dport=", 0)?;
        let (end, peer) = (address("src=", "sport=", 1)?, address("dst=", "dport=", 1)?);
        (asked != end).then_some(Translated {
            port: asked.port(),
            end,
            peer,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
ipv4     2 tcp      6 431999 ESTABLISHED src=192.0.2.7 dst=192.0.2.1 sport=40000 dport=8080 src=172.17.0.2 dst=192.0.2.7 sport=80 dport=40000 [ASSURED] mark=0 zone=0 use=2
ipv4     2 tcp      6 431999 ESTABLISHED src=192.0.2.7 dst=192.0.2.1 sport=40001 dport=22 src=192.0.2.1 dst=192.0.2.7 sport=22 dport=40001 [ASSURED] mark=0 zone=0 use=2
ipv4     2 tcp      6 119 TIME_WAIT src=192.0.2.7 dst=192.0.2.1 sport=40002 dport=8080 src=172.17.0.2 dst=192.0.2.7 sport=80 dport=40002 [ASSURED] mark=0 zone=0 use=2
ipv4     2 udp      17 29 src=192.0.2.7 dst=192.0.2.1 sport=40003 dport=8080 src=172.17.0.2 dst=192.0.2.7 sport=80 dport=40003 mark=0 zone=0 use=2
";

    #[test]
    fn connections_whose_destination_is_translated_are_found() {
        let found: Vec<Translated> = translated(TABLE).collect();
        let address = |text: &str| text.parse().expect("an address");
        let (end, peer) = (address("172.17.0.2:80"), address("192.0.2.7:40000"));
        assert_eq!(
            found,
            [Translated {
                port: 8080,
                end,
                peer
            }]
        );
        // Nothing is known of where it ends.
        assert!(found[0].is_in_use(&[]));
        let socket = |local: &str, remote: &str, state| Socket {
            local: address(local),
            remote: address(remote),
            state,
            unsent: 0,
            inode: 1,
            user: 0,
        };
        let listener = socket("[::]:80", "[::]:0", State::Listen);
        assert!(!found[0].is_in_use(&[listener]), "its end is gone");
        let open = socket(
            "[::ffff:172.17.0.2]:80",
            "[::ffff:192.0.2.7]:40000",
            State::CloseWait,
        );
        assert!(found[0].is_in_use(&[listener, open]));
        let closed = Socket {
            state: State::Other,
            ..open
        };
        assert!(!found[0].is_in_use(&[listener, closed]));
    }
}
