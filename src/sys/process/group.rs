//! Process groups: their members, their signals, and the table of those that this process has started.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Child;
use std::sync::{Mutex, MutexGuard, RwLock, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::Member;

/// The groups whose leaders are not reaped yet, so that their ids cannot be reused.
static LIVE: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

fn live() -> MutexGuard<'static, Vec<Pid>> {
    LIVE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The group of a child that was started as its leader and is not reaped yet.
pub struct Group {
    leader: Pid,
    /// Its processes that ran at the last check.
    known: Vec<Member>,
}

impl Group {
    /// The group that the child `leader` leads.
    fn of(leader: u32) -> Group {
        let leader = Pid::from_raw(leader.cast_signed());
        live().push(leader);
        Group {
            leader,
            known: Vec::new(),
        }
    }

    /// Sends `signal` to all of it.
    pub fn signal(&self, signal: Signal) {
        send(self.leader, signal);
    }

    /// Whether the leader has ended; does not reap it.
    pub fn leader_has_ended(&self) -> bool {
        self.leader_state() != Ok(WaitStatus::StillAlive)
    }

    /// How the leader ended, without reaping it; `None` for a real-time signal, for which nix has no name.
    pub fn leader_status(&self) -> Option<WaitStatus> {
        self.leader_state().ok()
    }

    fn leader_state(&self) -> nix::Result<WaitStatus> {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        loop {
            match waitid(Id::Pid(self.leader), flags) {
                Err(Errno::EINTR) => {}
                status => return status,
            }
        }
    }

    /// Whether one of its processes still runs. Zombies do not count: reaping them is up to their parents.
    pub fn is_running(&mut self) -> bool {
        // Usually one of those seen last still runs, and then the others need no check.
        let group = self.leader;
        self.known
            .retain(|it| member(&Path::new("/proc").join(it.pid.to_string()), group).is_some());
        if self.known.is_empty() {
            self.known = self.members();
        }
        !self.known.is_empty()
    }

    /// Its processes that still run.
    pub fn members(&self) -> Vec<Member> {
        let Ok(processes) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        let is_process = |entry: &fs::DirEntry| {
            let name = entry.file_name();
            name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
        };
        processes
            .filter_map(Result::ok)
            .filter(is_process)
            .filter_map(|entry| member(&entry.path(), self.leader))
            .collect()
    }

    /// Removes it from the table, right before its leader is reaped.
    pub fn forget(self) {
        live().retain(|leader| *leader != self.leader);
    }
}

/// Whether children may still be started. Locked shared while one is being started.
static OPEN: RwLock<bool> = RwLock::new(true);

/// How long [`kill_all`] waits for children that are being started. A program on a file system that does not answer
/// never starts.
const PATIENCE: Duration = Duration::from_millis(500);

/// Starts a leader and its group, unless [`kill_all`] has been called: nothing would end it any more.
pub fn start<E: From<io::Error>>(
    leader: impl FnOnce() -> Result<Child, E>,
) -> Result<(Group, Child), E> {
    let open = OPEN.read().unwrap_or_else(|poisoned| poisoned.into_inner());
    if !*open {
        let error = io::Error::new(io::ErrorKind::Interrupted, "farewell is about to end");
        return Err(error.into());
    }
    let child = leader()?;
    Ok((Group::of(child.id()), child))
}

/// Sends SIGKILL to every group in the table, and prevents new ones.
pub fn kill_all() {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        match OPEN.try_write() {
            Ok(mut open) => {
                *open = false;
                break;
            }
            Err(TryLockError::Poisoned(poisoned)) => {
                *poisoned.into_inner() = false;
                break;
            }
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(1)),
        }
    }
    // Under the lock, so that no leader is reaped and no id reused meanwhile.
    for leader in live().iter() {
        send(*leader, Signal::SIGKILL);
    }
}

fn send(leader: Pid, signal: Signal) {
    // They fail only if nobody is left, or a child has changed its user; the deadline holds all the same. The leader
    // gets a signal of its own, since it may have moved to another group.
    let _ = killpg(leader, signal);
    let _ = kill(leader, signal);
}

/// The process of `directory` (`/proc/PID`), if it runs in `group`.
fn member(directory: &Path, group: Pid) -> Option<Member> {
    let pid = directory.file_name()?.to_str()?.parse().ok()?;
    let stat = fs::read(directory.join("stat")).ok()?;
    let (name, of) = running(&stat)?;
    (of == group.as_raw()).then_some(Member { pid, name })
}

/// The name and the group in a line of `/proc/PID/stat` (proc_pid_stat(5)), unless the process is a zombie.
fn running(stat: &[u8]) -> Option<(String, i32)> {
    // The name may contain spaces and parentheses.
    let (begin, end) = (
        stat.iter().position(|byte| *byte == b'(')?,
        stat.iter().rposition(|byte| *byte == b')')?,
    );
    let name = String::from_utf8_lossy(stat.get(begin + 1..end)?).into_owned();
    let rest = String::from_utf8_lossy(&stat[end + 1..]);
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let group = fields.nth(1)?.parse().ok()?;
    (!matches!(state, "Z" | "X" | "x")).then_some((name, group))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_found_behind_any_name() {
        let sleeps = running(b"7 (a) b) S 1 42 42 0 -1");
        assert_eq!(sleeps, Some(("a) b".to_owned(), 42)));
        assert_eq!(running(b"7 (sh) Z 1 42 42 0 -1"), None);
        assert_eq!(running(b"7 (sh"), None);
    }
}
