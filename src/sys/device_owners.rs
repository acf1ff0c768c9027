//! Finds the processes that serve a FUSE file system or hold a tunnel's interface.

use std::fs;
use std::io;
use std::path::Path;

/// A process that has a device file open, and its fdinfo.
struct Holder {
    pid: u32,
    /// `/proc/PID/fdinfo/FD`.
    about: String,
}

/// The processes that have the TUN or TAP interface `interface` open (`iff:` in fdinfo, drivers/net/tun.c).
pub fn tunnel_holders(interface: &str) -> io::Result<Vec<u32>> {
    let is_its = |holder: &Holder| {
        let name = holder
            .about
            .lines()
            .find_map(|line| line.strip_prefix("iff:"));
        name.is_some_and(|name| name.trim() == interface)
    };
    let holders = holders(Path::new("/dev/net/tun"))?;
    Ok(pids(holders.iter().filter(|holder| is_its(holder))))
}

/// The processes that serve the FUSE file system at `point`, whose device number is `device`. From Linux 6.18 on fdinfo
/// shows the connection. Before, it is the process with the mount point in its command line, or the only process that
/// serves FUSE file systems. Empty if it cannot be determined.
pub fn fuse_servers(point: &Path, device: u64) -> io::Result<Vec<u32>> {
    let holders = holders(Path::new("/dev/fuse"))?;
    let connection = |holder: &Holder| -> Option<u64> {
        let mut lines = holder.about.lines();
        lines
            .find_map(|line| line.strip_prefix("fuse_connection:"))
            .and_then(|number| number.trim().parse().ok())
    };
    let own = holders.iter().filter(|it| connection(it) == Some(device));
    let own = pids(own);
    if !own.is_empty() || holders.iter().any(|it| connection(it).is_some()) {
        return Ok(own);
    }
    let named = pids(holders.iter().filter(|holder| names(holder.pid, point)));
    let all = pids(holders.iter());
    Ok(match (named.is_empty(), all.len()) {
        (false, _) => named,
        (true, 1) => all,
        (true, _) => Vec::new(),
    })
}

/// Whether the command line of a process has `point` in it as a word, or at the end of one (`--mount=/mnt/x`).
fn names(pid: u32, point: &Path) -> bool {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let point = point.as_os_str().as_encoded_bytes();
    let is_one = |word: &[u8]| {
        let word = word.strip_suffix(b"/").unwrap_or(word);
        let before = word.strip_suffix(point);
        before.is_some_and(|before| before.is_empty() || before.ends_with(b"="))
    };
    command.split(|byte| *byte == 0).any(is_one)
}

fn pids<'a>(holders: impl Iterator<Item = &'a Holder>) -> Vec<u32> {
    let mut pids: Vec<u32> = holders.map(|it| it.pid).collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// The processes that have `device` open, without those that end meanwhile, and those of other users unless this
/// process is root.
fn holders(device: &Path) -> io::Result<Vec<Holder>> {
    let mut holders = Vec::new();
    for process in fs::read_dir("/proc")?.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Ok(files) = fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        for file in files.flatten() {
            if fs::read_link(file.path()).is_ok_and(|target| target == device) {
                let about = process.path().join("fdinfo").join(file.file_name());
                let about = fs::read_to_string(about).unwrap_or_default();
                holders.push(Holder { pid, about });
            }
        }
    }
    Ok(holders)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_is_found_in_a_command_line() {
        let own = std::process::id();
        let program = std::env::current_exe().expect("a program");
        assert!(names(own, &program));
        assert!(!names(own, Path::new("/no/such/place")));
    }

    #[test]
    fn open_devices_have_their_holders() {
        let _open = fs::File::open("/dev/null").expect("/dev/null");
        let found = holders(Path::new("/dev/null")).expect("/proc");
        let own: Vec<_> = found
            .iter()
            .filter(|it| it.pid == std::process::id())
            .collect();
        assert!(own.iter().any(|it| it.about.contains("pos:")));
        assert!(tunnel_holders("no-such-0").expect("/proc").is_empty());
    }
}
