//! Sends journal entries by journald's native protocol over a nonblocking socket.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};

use crate::sys::sync::Mutex;

/// Where journald listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// The `MESSAGE_ID` of the line that says how much was dropped.
pub const DROPPED: &str = "e7d01b92ff7536ebf524884da94860b8";

/// The longest entry: a longer one needs a file descriptor instead of a datagram.
const ENTRY: usize = (64 << 10) - 1;
/// The longest field except the message.
const FIELD: usize = 4 << 10;
/// The most bytes of entries kept while journald does not accept them.
const BACKLOG: usize = 512 << 10;
/// The socket's send buffer; the default holds three long entries.
const SEND_BUFFER: usize = 8 << 20;

/// The shortest and the longest pause between two attempts to send what was kept.
const PAUSES: [Duration; 2] = [Duration::from_micros(100), Duration::from_millis(2)];

const CUT: &str = " … (cut)";

/// A socket to journald. Entries that it does not accept at once are kept, up to a limit, and sent before the next one.
#[derive(Debug)]
pub struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
    backlog: Mutex<Backlog>,
}

#[derive(Debug, Default)]
struct Backlog {
    entries: VecDeque<Vec<u8>>,
    bytes: usize,
    dropped: u64,
    untold: u64,
}

impl Journal {
    /// A socket to the journald at `path`; it is not contacted before the first entry.
    pub fn at(path: &Path) -> io::Result<Journal> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        // Root may exceed the system's limit; others get as much as it allows.
        if setsockopt(&socket, sockopt::SndBufForce, &SEND_BUFFER).is_err() {
            let _ = setsockopt(&socket, sockopt::SndBuf, &SEND_BUFFER);
        }
        Ok(Journal {
            socket,
            path: path.to_owned(),
            backlog: Mutex::default(),
        })
    }

    /// Sends an entry: its syslog priority, its message, and other fields by their names. Fields with names that
    /// journald does not accept are left out.
    pub fn send(&self, priority: u8, message: &str, fields: &[(&str, &str)]) {
        let entry = encode(priority, message, fields);
        let mut backlog = self.backlog.lock();
        if !self.retry(&mut backlog) || self.offer(&entry).is_err() {
            backlog.keep(entry);
        }
    }

    /// Sends kept entries until none is left, for at most `limit`. Returns whether none is left.
    pub fn flush(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let (mut pause, mut kept) = (PAUSES[0], usize::MAX);
        loop {
            let left = {
                let mut backlog = self.backlog.lock();
                if self.retry(&mut backlog) {
                    return true;
                }
                backlog.entries.len()
            };
            if Instant::now() >= end {
                return false;
            }
            // poll(2) does not report room in the queue of a peer to which the socket is not connected. That queue may hold
            // no more than ten entries, so a journald that reads is not left waiting.
            pause = match left < kept {
                true => PAUSES[0],
                false => (pause * 2).min(PAUSES[1]),
            };
            kept = left;
            std::thread::sleep(pause);
        }
    }

    /// How many entries were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.backlog.lock().dropped
    }

    /// Sends kept entries, oldest first. Returns whether none is left.
    fn retry(&self, backlog: &mut Backlog) -> bool {
        if backlog.untold > 0 {
            // The oldest entries are dropped first, so this notice is in their place.
            let message = format!(
                "{} entries were dropped because journald did not accept them",
                backlog.untold
            );
            if self
                .offer(&encode(4, &message, &[("MESSAGE_ID", DROPPED)]))
                .is_err()
            {
                return false;
            }
            backlog.untold = 0;
        }
        while let Some(entry) = backlog.entries.front() {
            if self.offer(entry).is_err() {
                return false;
            }
            backlog.bytes -= entry.len();
            backlog.entries.pop_front();
        }
        true
    }

    /// Sends one datagram to the path, without a connection: journald may come back with another socket.
    fn offer(&self, entry: &[u8]) -> io::Result<()> {
        self.socket.send_to(entry, &self.path).map(drop)
    }
}

impl Backlog {
    fn keep(&mut self, entry: Vec<u8>) {
        self.bytes += entry.len();
        self.entries.push_back(entry);
        while self.bytes > BACKLOG {
            let Some(oldest) = self.entries.pop_front() else {
                return;
            };
            self.bytes -= oldest.len();
            self.dropped += 1;
            self.untold += 1;
        }
    }
}

/// Whether this process's standard error goes to the journal, so that nothing is lost by going there directly.
pub fn stderr_is_journal() -> bool {
    std::env::var("JOURNAL_STREAM").is_ok_and(|stream| is_stream(&stream, io::stderr()))
}

/// Whether standard output goes to the journal too, as it does in a unit.
pub fn stdout_is_journal() -> bool {
    std::env::var("JOURNAL_STREAM").is_ok_and(|stream| is_stream(&stream, io::stdout()))
}

fn is_stream(stream: &str, file: impl std::os::fd::AsFd) -> bool {
    nix::sys::stat::fstat(file).is_ok_and(|it| stream == format!("{}:{}", it.st_dev, it.st_ino))
}

fn encode(priority: u8, message: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut entry = Vec::with_capacity(256 + message.len().min(ENTRY));
    field(&mut entry, "PRIORITY", &priority.to_string());
    field(&mut entry, "SYSLOG_IDENTIFIER", "farewell");
    for (name, value) in fields {
        let room = ENTRY.saturating_sub(entry.len());
        // Leaves room for a message of some size beside the fields.
        if is_name(name) && room > 3 * FIELD {
            field(&mut entry, name, &cut(value, FIELD));
        }
    }
    // Name, two line ends and a length.
    let room = ENTRY.saturating_sub(entry.len() + "MESSAGE".len() + 10);
    field(&mut entry, "MESSAGE", &cut(message, room));
    entry
}

fn field(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        // Writing to a vector cannot fail.
        let _ = entry.write_all(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

/// journald's own rule; it would discard the whole entry for a name of another form.
fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_uppercase())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

fn cut(value: &str, limit: usize) -> std::borrow::Cow<'_, str> {
    if value.len() <= limit {
        return value.into();
    }
    let mut end = limit.saturating_sub(CUT.len());
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{CUT}", &value[..end]).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_encoded() {
        let fields = [
            ("FAREWELL_STEP", "leave"),
            ("lower", "x"),
            ("_PID", "1"),
            ("TWO", "a\nb"),
        ];
        let entry = encode(6, "it went", &fields);
        assert_eq!(
            entry,
            b"PRIORITY=6\nSYSLOG_IDENTIFIER=farewell\nFAREWELL_STEP=leave\n\
              TWO\n\x03\0\0\0\0\0\0\0a\nb\nMESSAGE=it went\n"
        );
    }

    #[test]
    fn long_entries_are_cut_between_characters() {
        let long = "ü\n".repeat(ENTRY);
        let many: Vec<(&str, &str)> = std::iter::repeat_n(("LONG", long.as_str()), 40).collect();
        for fields in [&many[..0], &many[..1], &many[..]] {
            let entry = encode(6, &long, fields);
            assert!(entry.len() <= ENTRY, "{}", entry.len());
            assert!(entry.len() > ENTRY - 4, "{}", entry.len());
            assert!(entry.ends_with(format!("{CUT}\n").as_bytes()));
        }
    }

    #[test]
    fn the_stream_is_known_by_its_numbers() {
        let file = std::fs::File::open("/dev/null").expect("it is there");
        let stat = nix::sys::stat::fstat(&file).expect("it has one");
        let stream = format!("{}:{}", stat.st_dev, stat.st_ino);
        assert!(is_stream(&stream, &file));
        assert!(!is_stream(&format!("{stream}1"), &file));
    }
}
