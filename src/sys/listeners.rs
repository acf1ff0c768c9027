//! Finds who listens at an address of this machine: the sockets of `/proc/net/tcp`, `tcp6` and `unix`
//! (proc_pid_net(5)), and the processes that have them open (`/proc/PID/fd`). The crate `procfs` would cut the path of
//! a unix socket at its first space.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use super::sockets::{self, Socket, State};

/// Who listens at an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listening {
    /// The processes that have the socket open, in the order of their ids; several where one inherited it from the
    /// other, or where they share the port.
    pub holders: Vec<u32>,
    /// Whether there may be others: only root can see the open files of some processes.
    pub is_hidden: bool,
}

/// Who would answer at each of `addresses`, all of which are this machine's; `None` if nobody listens. All processes
/// are scanned once; those that end meanwhile are left out.
pub fn listeners(addresses: &[SocketAddr]) -> io::Result<Vec<Option<Listening>>> {
    let mut sockets = Vec::new();
    sockets::each("self", |socket| {
        if socket.state == State::Listen {
            sockets.push(socket);
        }
    })?;
    let answering = addresses
        .iter()
        .map(|address| answering(&sockets, *address));
    held(answering.collect())
}

/// As [`listeners`], for paths of unix sockets, compared after resolving links.
pub fn socket_listeners(paths: &[&Path]) -> io::Result<Vec<Option<Listening>>> {
    let table = fs::read("/proc/net/unix")?;
    let table = String::from_utf8_lossy(&table);
    let sockets: Vec<(PathBuf, u64)> = table.lines().filter_map(parse_unix).collect();
    let answering = paths.iter().map(|path| {
        let real = real(path);
        let same = sockets
            .iter()
            .filter(|(bound, _)| self::real(bound) == real);
        same.map(|(_, inode)| *inode).collect()
    });
    held(answering.collect())
}

/// The users who made the sockets that would answer at `addresses`, all of which are this machine's.
pub fn users(addresses: &[SocketAddr]) -> io::Result<Vec<u32>> {
    let mut sockets = Vec::new();
    sockets::each("self", |socket| {
        if socket.state == State::Listen {
            sockets.push(socket);
        }
    })?;
    let asked = addresses.iter();
    let inodes: HashSet<u64> = asked.flat_map(|it| answering(&sockets, *it)).collect();
    let users = sockets.iter().filter(|it| inodes.contains(&it.inode));
    Ok(users.map(|it| it.user).collect())
}

/// The path without links; unchanged if it does not exist.
fn real(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// The path and inode in the line of a listening socket (`__SO_ACCEPTCON`): `0000000000000000: 00000002 00000000
/// 00010000 0001 01 4711 /run/app.sock`.
fn parse_unix(line: &str) -> Option<(PathBuf, u64)> {
    let (head, path) = line.split_once(" /")?;
    let mut fields = head.split_ascii_whitespace();
    let flags = u32::from_str_radix(fields.nth(3)?, 16).ok()?;
    let inode = fields.nth(2)?.parse().ok()?;
    (flags & 0x10000 != 0).then(|| (format!("/{path}").into(), inode))
}

/// The processes that have the sockets of each list of inodes open.
fn held(answering: Vec<Vec<u64>>) -> io::Result<Vec<Option<Listening>>> {
    let wanted: HashSet<u64> = answering.iter().flatten().copied().collect();
    if wanted.is_empty() {
        return Ok(vec![None; answering.len()]);
    }
    let (holders, is_hidden) = holders(&wanted)?;
    let listening = |inodes: Vec<u64>| {
        let held = inodes.iter().filter_map(|inode| holders.get(inode));
        let mut holders: Vec<u32> = held.flatten().copied().collect();
        holders.sort_unstable();
        holders.dedup();
        (!inodes.is_empty()).then_some(Listening { holders, is_hidden })
    };
    Ok(answering.into_iter().map(listening).collect())
}

/// The sockets from which the kernel would choose for a connection to `address`: one bound to the address itself comes
/// before one bound to the wildcard address, and that before an IPv6 socket that also accepts IPv4.
fn answering(sockets: &[Socket], address: SocketAddr) -> Vec<u64> {
    let wanted = address.ip().to_canonical();
    let distance = |socket: &Socket| match (socket.local.ip(), wanted) {
        (ip, wanted) if ip.to_canonical() == wanted => Some(0),
        (IpAddr::V4(ip), IpAddr::V4(_)) if ip.is_unspecified() => Some(1),
        (IpAddr::V6(ip), IpAddr::V6(_)) if ip.is_unspecified() => Some(1),
        (IpAddr::V6(ip), IpAddr::V4(_)) if ip.is_unspecified() => Some(2),
        _ => None,
    };
    let near: Vec<(i32, u64)> = sockets
        .iter()
        .filter(|socket| socket.local.port() == address.port())
        .filter_map(|socket| Some((distance(socket)?, socket.inode)))
        .collect();
    let nearest = near.iter().map(|(distance, _)| *distance).min();
    near.iter()
        .filter(|(distance, _)| Some(*distance) == nearest)
        .map(|(_, inode)| *inode)
        .collect()
}

/// The processes that have each of `inodes` open, and whether some processes could not be examined.
fn holders(inodes: &HashSet<u64>) -> io::Result<(HashMap<u64, Vec<u32>>, bool)> {
    let mut holders: HashMap<u64, Vec<u32>> = HashMap::new();
    let mut is_hidden = false;
    let mut is_closed = |error: &io::Error| {
        is_hidden |= error.kind() == io::ErrorKind::PermissionDenied;
    };
    for process in fs::read_dir("/proc")?.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let files = match fs::read_dir(process.path().join("fd")) {
            Ok(files) => files,
            // It has ended, or belongs to another user.
            Err(error) => {
                is_closed(&error);
                continue;
            }
        };
        for file in files.flatten() {
            match fs::read_link(file.path()) {
                Ok(target) => {
                    let inode = target.to_str().and_then(inode);
                    if let Some(inode) = inode.filter(|inode| inodes.contains(inode)) {
                        holders.entry(inode).or_default().push(pid);
                    }
                }
                Err(error) => is_closed(&error),
            }
        }
    }
    Ok((holders, is_hidden))
}

/// The inode in `socket:[4711]`.
fn inode(target: &str) -> Option<u64> {
    let inode = target.strip_prefix("socket:[")?.strip_suffix(']')?;
    inode.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_unix_socket_is_found_by_its_path_and_by_a_link() {
        let directory = std::env::temp_dir().join(format!("farewell-unix-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let [path, link, other] = ["a b.sock", "link", "other"].map(|it| directory.join(it));
        let _listener = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
        let _other = std::os::unix::net::UnixDatagram::bind(&other).expect("a socket");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        let found = socket_listeners(&[&path, &link, &other]).expect("/proc");
        let me = Some(vec![std::process::id()]);
        let holders = found.into_iter().map(|it| it.map(|it| it.holders));
        assert_eq!(holders.collect::<Vec<_>>(), [me.clone(), me, None]);
        fs::remove_dir_all(&directory).expect("removed");
    }

    #[test]
    fn the_nearest_socket_answers() {
        let sockets: Vec<Socket> = [
            "127.0.0.1:1",
            "0.0.0.0:1",
            "[::]:1",
            "[::]:2",
            "[::1]:3",
            "10.0.0.1:4",
            "127.0.0.1:1",
        ]
        .into_iter()
        .zip(1..)
        .map(|(address, inode)| Socket {
            local: address.parse().expect("an address"),
            remote: "0.0.0.0:0".parse().expect("an address"),
            state: State::Listen,
            unsent: 0,
            inode,
            user: 0,
        })
        .collect();
        for (address, expected) in [
            ("127.0.0.1:1", &[1, 7][..]),
            ("127.0.0.2:1", &[2]),
            ("[::1]:1", &[3]),
            ("127.0.0.1:2", &[4]),
            ("[::ffff:127.0.0.1]:2", &[4]),
            ("127.0.0.1:3", &[]),
            ("127.0.0.1:4", &[]),
            ("127.0.0.1:5", &[]),
        ] {
            let address = address.parse().expect("an address");
            assert_eq!(answering(&sockets, address), expected, "{address}");
        }
    }

    #[test]
    fn this_process_is_found_by_its_sockets() {
        for (bind, ask) in [
            ("127.0.0.1", "127.0.0.1"),
            ("0.0.0.0", "127.0.0.1"),
            ("::1", "::1"),
            ("::", "::1"),
            // Both families at once, which is how the standard library binds.
            ("::", "127.0.0.1"),
        ] {
            let listener = TcpListener::bind((bind, 0)).expect("a port");
            let port = listener.local_addr().expect("an address").port();
            let address = SocketAddr::new(ask.parse().expect("an address"), port);
            let nobody = SocketAddr::new(address.ip(), 0);
            let found = listeners(&[address, nobody]).expect("/proc");
            // A child that another test starts may have it too for a moment, until it runs its program.
            let own = std::process::id();
            let is_found = found[0]
                .as_ref()
                .is_some_and(|it| it.holders.contains(&own));
            assert!(is_found, "{bind} {ask}: {found:?}");
            assert_eq!(found[1], None);
        }
    }
}
