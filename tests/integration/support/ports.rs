//! Ports for servers that bind them later, which nobody else gets in the meantime.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::{Mutex, PoisonError};

/// The lowest port that is given: below are those of well-known servers and of examples.
const LOWEST: u16 = 20_000;

/// What reserves a port among all test processes of a network: an abstract socket with its number in its name, which the
/// kernel removes with the process.
static RESERVED: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());

/// This many ports at which nobody listens, reserved until the process ends. The kernel gives none of them to an outgoing
/// connection or to who binds port 0, since they are outside of its own range.
pub fn ports(count: usize) -> Vec<u16> {
    let kernels = ephemeral();
    let candidates: Vec<u16> = (LOWEST..u16::MAX)
        .filter(|port| !kernels.contains(port))
        .collect();
    let begin = fastrand::usize(..candidates.len());
    let (before, after) = candidates.split_at(begin);
    let free: Vec<u16> = after
        .iter()
        .chain(before)
        .copied()
        .filter(|port| reserve(*port))
        .take(count)
        .collect();
    assert_eq!(free.len(), count, "no free ports outside of {kernels:?}");
    free
}

/// The ports that the kernel gives by itself.
fn ephemeral() -> std::ops::RangeInclusive<u16> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").expect("/proc");
    let mut bounds = text
        .split_whitespace()
        .map(|it| it.parse().expect("a port"));
    let mut bound = || bounds.next().expect("two numbers");
    bound()..=bound()
}

fn reserve(port: u16) -> bool {
    let name = format!("farewell-test-port-{port}");
    let name = SocketAddr::from_abstract_name(name).expect("a short name");
    let Ok(reservation) = UnixListener::bind_addr(&name) else {
        return false;
    };
    let is_free = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
        && UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok();
    if is_free {
        let mut reserved = RESERVED.lock().unwrap_or_else(PoisonError::into_inner);
        reserved.push(reservation);
    }
    is_free
}
