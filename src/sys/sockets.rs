//! The TCP sockets of a network namespace, from `/proc/PID/net/tcp` and `tcp6` (proc_pid_net(5)).
//!
//! Parsed here line by line because the crate `procfs` builds a list of the whole table, and fails on one unknown line.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The states of a socket that matter here; their numbers are those of the kernel's `include/net/tcp_states.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Data flows in both directions.
    Established,
    /// This side has closed its direction, and the peer has not acknowledged it.
    FinWait1,
    /// This side has closed its direction; the peer may still send.
    FinWait2,
    /// The peer has closed its direction; this side may still send.
    CloseWait,
    /// Both have closed, and the peer has not acknowledged this side's last bytes.
    LastAck,
    /// As [`State::LastAck`], where both closed at once.
    Closing,
    /// It waits for connections.
    Listen,
    /// Any other state, in which no data flows.
    Other,
}

/// A TCP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// This side's address.
    pub local: SocketAddr,
    /// The peer's address.
    pub remote: SocketAddr,
    pub state: State,
    /// Bytes that the peer has not acknowledged.
    pub unsent: u32,
    /// The inode of the open file; 0 if no process has it open any more (an orphan).
    pub inode: u64,
    /// The uid of its creator.
    pub user: u32,
}

impl Socket {
    /// Whether data may still flow through it, so that ending the process would cut the connection. Not TIME_WAIT, nor
    /// a FIN_WAIT2 that no process has open any more: nobody is left to read.
    pub fn is_in_use(&self) -> bool {
        match self.state {
            State::Established | State::FinWait1 | State::CloseWait => true,
            State::FinWait2 => self.inode != 0,
            State::LastAck | State::Closing => self.unsent > 0,
            State::Listen | State::Other => false,
        }
    }

    /// The socket of a line: `0: 0100007F:1F90 0100007F:D2F0 01 00000000:00000000 00:00000000 00000000 0 0 4711 …`.
    pub(super) fn parse(line: &str) -> Option<Socket> {
        let mut fields = line.split_ascii_whitespace();
        let local = address(fields.nth(1)?)?;
        let remote = address(fields.next()?)?;
        let state = match fields.next()? {
            "01" => State::Established,
            "04" => State::FinWait1,
            "05" => State::FinWait2,
            "08" => State::CloseWait,
            "09" => State::LastAck,
            "0B" => State::Closing,
            "0A" => State::Listen,
            _ => State::Other,
        };
        let (unsent, _) = fields.next()?.split_once(':')?;
        Some(Socket {
            local,
            remote,
            state,
            unsent: u32::from_str_radix(unsent, 16).ok()?,
            user: fields.nth(2)?.parse().ok()?,
            inode: fields.nth(1)?.parse().ok()?,
        })
    }
}

/// Calls `tell` with every TCP socket of the network namespace of `process`, a name in `/proc`: a number, or `self`.
///
/// # Errors
/// Any I/O error, also if the process has ended.
pub fn each(process: &str, mut tell: impl FnMut(Socket)) -> io::Result<()> {
    for table in ["tcp", "tcp6"] {
        let file = match File::open(format!("/proc/{process}/net/{table}")) {
            // Without IPv6 there is no such table.
            Err(error) if error.kind() == io::ErrorKind::NotFound && table == "tcp6" => continue,
            file => file?,
        };
        let mut lines = BufReader::new(file);
        let mut line = String::new();
        while lines.read_line(&mut line)? > 0 {
            // The first line is the header.
            Socket::parse(&line).into_iter().for_each(&mut tell);
            line.clear();
        }
    }
    Ok(())
}

/// The address in `0100007F:1F90`.
fn address(field: &str) -> Option<SocketAddr> {
    let (host, port) = field.rsplit_once(':')?;
    Some(SocketAddr::new(
        ip(host)?,
        u16::from_str_radix(port, 16).ok()?,
    ))
}

/// Each group of eight digits is a 32-bit word in this machine's byte order.
fn ip(digits: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let word = u32::from_str_radix(digits.get(at..at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    match digits.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(address: &str, state: &str, queue: &str, inode: u64) -> String {
        format!(
            "   0: {address} 0100007F:D2F0 {state} {queue}:00000000 00:00000000 00000000  1000        0 {inode} 1 0"
        )
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn lines_are_understood() {
        for (address, expected) in [
            ("0100007F:1F90", "127.0.0.1:8080"),
            ("00000000:0050", "0.0.0.0:80"),
            ("00000000000000000000000001000000:0050", "[::1]:80"),
            (
                "0000000000000000FFFF00000100007F:0051",
                "[::ffff:127.0.0.1]:81",
            ),
        ] {
            let expected = Socket {
                local: expected.parse().expect("an address"),
                remote: "127.0.0.1:54000".parse().expect("an address"),
                state: State::Listen,
                unsent: 16,
                inode: 4711,
                user: 1000,
            };
            assert_eq!(
                Socket::parse(&line(address, "0A", "00000010", 4711)),
                Some(expected)
            );
        }
        assert_eq!(
            Socket::parse("  sl  local_address rem_address   st tx_queue"),
            None
        );
        assert_eq!(Socket::parse(&line("0100007:1F90", "0A", "0", 1)), None);
    }

    #[test]
    fn a_socket_is_in_use_while_data_may_flow() {
        let is_in_use = |state: &str, queue: &str, inode| {
            let line = line("0100007F:1F90", state, queue, inode);
            Socket::parse(&line).expect("a socket").is_in_use()
        };
        let (none, some) = ("00000000", "00000001");
        for (state, queue, inode, expected) in [
            ("01", none, 1, true),
            ("02", none, 1, false),
            ("03", none, 0, false),
            ("04", none, 0, true),
            ("05", none, 1, true),
            ("05", none, 0, false),
            ("06", none, 0, false),
            ("08", none, 1, true),
            ("09", none, 1, false),
            ("09", some, 0, true),
            ("0A", none, 1, false),
            ("0B", none, 1, false),
            ("0B", some, 1, true),
        ] {
            assert_eq!(
                is_in_use(state, queue, inode),
                expected,
                "{state} {queue} {inode}"
            );
        }
    }
}
