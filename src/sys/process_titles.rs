//! Finding processes by their command line, which servers like nginx overwrite with a title.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};

use super::host;

/// A process with its title.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Titled {
    /// Its id.
    pub pid: u32,
    /// Its parent.
    pub parent: u32,
    /// Its user id.
    pub user: u32,
    /// When it began, in clock ticks since boot; distinguishes it from a later process with the same id.
    pub began: u64,
    /// Its command line, with spaces between the arguments.
    pub title: String,
}

/// The processes whose command line begins with `prefix`. Zombies have no command line.
///
/// # Errors
/// If `/proc` cannot be read.
pub fn titled(prefix: &str) -> io::Result<Vec<Titled>> {
    let mut found = Vec::new();
    for process in fs::read_dir("/proc")?.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // Processes that end in between are skipped, here and below.
        let Ok(line) = fs::read(process.path().join("cmdline")) else {
            continue;
        };
        if !line.starts_with(prefix.as_bytes()) {
            continue;
        }
        let words = line.split(|byte| *byte == 0).filter(|it| !it.is_empty());
        let words: Vec<_> = words.map(String::from_utf8_lossy).collect();
        let (Some(parent), Some(began), Ok(about)) = (
            host::process_parent(pid),
            host::process_began(pid.cast_signed()),
            process.metadata(),
        ) else {
            continue;
        };
        found.push(Titled {
            pid,
            parent,
            user: about.uid(),
            began,
            title: words.join(" "),
        });
    }
    Ok(found)
}

/// When a process began, in wall-clock time.
pub fn began_at(process: &Titled) -> Option<SystemTime> {
    let ticks = u64::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok()?;
    let up = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?);
    let began = Duration::from_millis(process.began.saturating_mul(1000) / ticks.max(1));
    SystemTime::now().checked_sub(up.checked_sub(began)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_by_its_command_line() {
        let own = fs::read("/proc/self/cmdline").expect("a command line");
        let program = own.split(|byte| *byte == 0).next().expect("a program");
        let program = String::from_utf8_lossy(program).into_owned();
        let found = titled(&program).expect("a look at /proc");
        let own = found.iter().find(|it| it.pid == std::process::id());
        let own = own.expect("this process");
        assert_eq!(own.parent, std::os::unix::process::parent_id());
        let began = began_at(own).expect("a time");
        assert!(began <= SystemTime::now() && began.elapsed().is_ok_and(|it| it.as_secs() < 3600));
        assert!(!titled("no such program").expect("a look").contains(own));
    }
}
