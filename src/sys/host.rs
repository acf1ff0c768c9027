//! The identity of this machine.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::path::Path;
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrLike as _;

use super::files;
use crate::model::machine::Machine;

/// The host's name, as the kernel knows it.
pub fn hostname() -> io::Result<String> {
    line("/proc/sys/kernel/hostname")
}

/// The id of this installation, see machine-id(5).
///
/// # Errors
/// If there is none, as in a fresh image.
pub fn machine_id() -> io::Result<String> {
    let id = line("/etc/machine-id")?;
    if id.is_empty() || id == "uninitialized" {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "/etc/machine-id is not initialised",
        ));
    }
    Ok(id)
}

/// The hardware's UUID from the firmware or hypervisor; see `/sys/class/dmi` in the kernel's ABI documentation
/// (sysfs-firmware-dmi-tables) and dmidecode(8).
///
/// # Errors
/// If the hardware has none, or this process is not root.
pub fn product_uuid() -> io::Result<String> {
    line("/sys/class/dmi/id/product_uuid")
}

/// This machine, as far as it can be known.
pub fn machine() -> Machine {
    let product = product_uuid().ok();
    Machine {
        id: machine_id().ok(),
        product: product.filter(|uuid| !uuid.is_empty()),
    }
}

/// The kernel's id of this boot; see random(4).
pub fn boot_id() -> io::Result<String> {
    line("/proc/sys/kernel/random/boot_id")
}

fn line(path: &str) -> io::Result<String> {
    Ok(fs::read_to_string(Path::new(path))?.trim().to_owned())
}

/// The parent of a process; `None` if the process is gone. See proc(5), `/proc/pid/stat`.
pub fn process_parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after) = stat.rsplit_once(')')?;
    after.split_whitespace().nth(1)?.parse().ok()
}

/// When a process began, in clock ticks since boot; `None` if it is gone. See proc(5), `/proc/pid/stat`.
pub fn process_began(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may contain anything, even parentheses.
    let (_, after) = stat.rsplit_once(')')?;
    after.split_whitespace().nth(19)?.parse().ok()
}

/// The source address of the default route, which the kernel would put into a packet to the outside. No packet is sent.
pub fn default_address() -> io::Result<IpAddr> {
    // Addresses reserved for documentation (RFC 5737, RFC 3849): only the default route covers them.
    let towards = |from: &str, to: &str| {
        let socket = UdpSocket::bind((from, 0))?;
        socket.connect((to, 9))?;
        socket.local_addr().map(|address| address.ip())
    };
    towards("0.0.0.0", "192.0.2.1").or_else(|_| towards("::", "2001:db8::1"))
}

/// The first address of an interface, IPv4 before IPv6, link-local ones last.
///
/// # Errors
/// If there is no such interface, or it has no address.
pub fn interface_address(interface: &str) -> io::Result<IpAddr> {
    let addresses = addresses_where(|name| name == interface)?;
    let first = addresses.into_iter().min_by_key(|address| match address {
        IpAddr::V4(_) => 0,
        IpAddr::V6(address) if address.is_unicast_link_local() => 2,
        IpAddr::V6(_) => 1,
    });
    let nothing = || {
        io::Error::new(
            io::ErrorKind::NotFound,
            format!("interface {interface} has no address"),
        )
    };
    first.ok_or_else(nothing)
}

/// The addresses of all interfaces.
pub fn addresses() -> io::Result<Vec<IpAddr>> {
    addresses_where(|_| true)
}

fn addresses_where(is_wanted: impl Fn(&str) -> bool) -> io::Result<Vec<IpAddr>> {
    Ok(getifaddrs()?
        .filter(|entry| is_wanted(&entry.interface_name))
        .filter_map(|entry| entry.address)
        .filter(|address| address.len() > 0)
        .filter_map(|address| {
            let v4 = address.as_sockaddr_in().map(|it| IpAddr::V4(it.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|it| IpAddr::V6(it.ip())))
        })
        .collect())
}

/// The addresses of a host name or literal address. A lookup that does not end is abandoned after `patience`.
///
/// # Errors
/// The resolver's error; `TimedOut` after `patience`.
pub fn resolve(host: &str, port: u16, patience: Duration) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let host = host.to_owned();
    files::within(patience, move || {
        Ok((host.as_str(), port).to_socket_addrs()?.collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_have_a_beginning() {
        let own = i32::try_from(std::process::id()).expect("a pid");
        assert!(process_began(own) > process_began(1));
        assert_eq!(process_began(i32::MAX), None);
        assert_eq!(
            process_parent(std::process::id()),
            Some(std::os::unix::process::parent_id())
        );
    }

    #[test]
    fn the_loopback_interface_has_its_address() {
        assert_eq!(
            interface_address("lo").expect("lo is up"),
            IpAddr::from([127, 0, 0, 1])
        );
        assert!(interface_address("no-such-interface").is_err());
        assert!(addresses().is_ok_and(|all| all.contains(&IpAddr::from([127, 0, 0, 1]))));
        let patience = Duration::from_secs(10);
        let loopback = SocketAddr::from(([127, 0, 0, 1], 7));
        assert_eq!(resolve("127.0.0.1", 7, patience).ok(), Some(vec![loopback]));
        assert!(resolve("localhost", 7, patience).is_ok_and(|all| !all.is_empty()));
    }
}
