//! Asks the kernel (rtnetlink(7)) through which interface it would send a packet, and which interfaces are up.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_indextoname, if_nametoindex};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, SockaddrLike as _,
    recv, sendto, setsockopt, socket, sockopt::ReceiveTimeout,
};
use nix::sys::time::TimeVal;

/// How long to wait for the kernel's answer in seconds; it comes at once.
const PATIENCE: i64 = 2;

/// See linux/netlink.h and linux/rtnetlink.h.
const NLMSG_ERROR: u16 = 2;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const NLM_F_REQUEST: u16 = 1;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;

/// The lengths of nlmsghdr and of the rtmsg that follows it.
const HEADER: usize = 16;
const ROUTE: usize = 12;

/// The interface through which packets to `address` go now; `None` without a route. For an address of this machine it
/// is the interface that has the address, although such packets go through the loopback interface.
pub fn interface_towards(address: SocketAddr) -> io::Result<Option<String>> {
    if let Some(own) = interface_with(address.ip())? {
        return Ok(Some(own));
    }
    // A link-local address of IPv6 comes with its interface.
    let scope = match address {
        SocketAddr::V6(address) => address.scope_id(),
        SocketAddr::V4(_) => 0,
    };
    let index = match scope {
        0 => ask(address.ip().to_canonical())?,
        scope => Some(scope),
    };
    let Some(index) = index else { return Ok(None) };
    let name = if_indextoname(index)?;
    Ok(Some(name.to_string_lossy().into_owned()))
}

/// The interfaces that are up, as `ip link` shows it (IFF_UP).
pub fn interfaces_up() -> io::Result<BTreeSet<String>> {
    let up = getifaddrs()?.filter(|it| it.flags.contains(InterfaceFlags::IFF_UP));
    Ok(up.map(|it| it.interface_name).collect())
}

/// The index of an interface, which network daemons use in file names.
pub fn interface_index(interface: &str) -> io::Result<u32> {
    Ok(if_nametoindex(interface)?)
}

/// The interface that has `address`.
fn interface_with(address: IpAddr) -> io::Result<Option<String>> {
    let address = address.to_canonical();
    let has = |entry: &nix::ifaddrs::InterfaceAddress| {
        let Some(own) = entry.address.filter(|own| own.len() > 0) else {
            return false;
        };
        let v4 = own.as_sockaddr_in().map(|it| IpAddr::V4(it.ip()));
        v4.or_else(|| own.as_sockaddr_in6().map(|it| IpAddr::V6(it.ip()))) == Some(address)
    };
    Ok(getifaddrs()?.find(has).map(|it| it.interface_name))
}

/// Asks for the route to `address`; returns the index of its interface.
fn ask(address: IpAddr) -> io::Result<Option<u32>> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    setsockopt(&socket, ReceiveTimeout, &TimeVal::new(PATIENCE, 0))?;
    let kernel = NetlinkAddr::new(0, 0);
    let fd = socket.as_raw_fd();
    sendto(fd, &question(address), &kernel, MsgFlags::empty())?;
    let mut answer = [0; 8192];
    let length = recv(fd, &mut answer, MsgFlags::empty())?;
    interface_in(&answer[..length])
}

fn question(address: IpAddr) -> Vec<u8> {
    let (family, bytes) = match address {
        IpAddr::V4(address) => (libc_family(AddressFamily::Inet), address.octets().to_vec()),
        IpAddr::V6(address) => (libc_family(AddressFamily::Inet6), address.octets().to_vec()),
    };
    let attribute = 4 + bytes.len();
    let length = HEADER + ROUTE + attribute;
    let mut message = Vec::with_capacity(length);
    let mut put = |bytes: &[u8]| message.extend_from_slice(bytes);
    put(&u32::try_from(length).unwrap_or_default().to_ne_bytes());
    put(&RTM_GETROUTE.to_ne_bytes());
    put(&NLM_F_REQUEST.to_ne_bytes());
    // The sequence number and the sender are not needed for one request on a socket of its own.
    put(&[0; 8]);
    let prefix = u8::try_from(bytes.len() * 8).unwrap_or_default();
    put(&[family, prefix, 0, 0, 0, 0, 0, 0]);
    put(&[0; 4]);
    put(&u16::try_from(attribute).unwrap_or_default().to_ne_bytes());
    put(&RTA_DST.to_ne_bytes());
    put(&bytes);
    message
}

fn libc_family(family: AddressFamily) -> u8 {
    u8::try_from(family as i32).unwrap_or_default()
}

fn interface_in(answer: &[u8]) -> io::Result<Option<u32>> {
    let unexpected_answer = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "unexpected answer from rtnetlink",
        )
    };
    let word = |at: usize| -> Option<u16> {
        Some(u16::from_ne_bytes(answer.get(at..at + 2)?.try_into().ok()?))
    };
    let long = |at: usize| -> Option<[u8; 4]> { answer.get(at..at + 4)?.try_into().ok() };
    match word(4).ok_or_else(unexpected_answer)? {
        NLMSG_ERROR => {
            let error = i32::from_ne_bytes(long(HEADER).ok_or_else(unexpected_answer)?);
            let error = io::Error::from_raw_os_error(-error);
            return match error.kind() {
                io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => Ok(None),
                _ => Err(error),
            };
        }
        RTM_NEWROUTE => {}
        _ => return Err(unexpected_answer()),
    }
    let mut at = HEADER + ROUTE;
    while let (Some(length), Some(kind)) = (word(at), word(at + 2)) {
        if kind == RTA_OIF {
            return Ok(long(at + 4).map(u32::from_ne_bytes));
        }
        // Attributes are aligned to four bytes; one without a length would never end.
        at += usize::from(length.max(4)).next_multiple_of(4);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_leads_to_this_machine() {
        for address in ["127.0.0.1:1", "127.9.9.9:1"] {
            let address = address.parse().expect("an address");
            let found = interface_towards(address).expect("the kernel answers");
            assert_eq!(found.as_deref(), Some("lo"), "{address}");
        }
        assert!(interfaces_up().expect("interfaces").contains("lo"));
    }

    #[test]
    fn a_scope_names_its_interface() {
        let address = "[fe80::1%1]:80".parse().expect("an address");
        let found = interface_towards(address).expect("the kernel answers");
        assert_eq!(found.as_deref(), Some("lo"));
    }

    #[test]
    fn answers_are_read_with_care() {
        assert!(interface_in(&[]).is_err());
        let mut unreachable = vec![0; 36];
        unreachable[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        unreachable[16..20].copy_from_slice(&(-101_i32).to_ne_bytes());
        assert_eq!(interface_in(&unreachable).expect("no route"), None);
        let mut route = vec![0; HEADER + ROUTE];
        route[4..6].copy_from_slice(&RTM_NEWROUTE.to_ne_bytes());
        // An attribute without a length, then the interface.
        route.extend_from_slice(&[0; 4]);
        route.extend_from_slice(&[8, 0, 4, 0]);
        route.extend_from_slice(&7_u32.to_ne_bytes());
        let expected = if cfg!(target_endian = "little") {
            Some(7)
        } else {
            None
        };
        assert_eq!(interface_in(&route).expect("a route"), expected);
        assert_eq!(
            interface_in(&route[..HEADER + ROUTE + 6]).expect("cut"),
            None
        );
    }
}
