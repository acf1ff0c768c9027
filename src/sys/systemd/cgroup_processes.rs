//! The processes in a unit's control group, read from the kernel: PID 1 forgets them when it considers the unit
//! inactive.

use std::fs;
use std::path::{Path, PathBuf};

use super::path_in;
use super::unit::{Unit, own_interface};

/// A process of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// The program that it runs.
    pub command: String,
}

/// Mount points of control groups: the unified hierarchy; on a hybrid system the unified one below it, and systemd's
/// own.
const HIERARCHIES: [&str; 3] = [
    "/sys/fs/cgroup",
    "/sys/fs/cgroup/unified",
    "/sys/fs/cgroup/systemd",
];

/// The control group of a unit, derived from its slice and name if systemd has forgotten it. `None` for a unit without
/// processes of its own.
pub fn control_group(unit: &Unit) -> Option<String> {
    if !unit.control_group.is_empty() {
        return Some(unit.control_group.clone());
    }
    own_interface(&unit.id)?;
    let slice = match unit.id.strip_suffix(".slice") {
        Some("-") => return None,
        Some(_) => return Some(format!("{}{}", root(), slice_path(&unit.id))),
        None if unit.slice.is_empty() => return None,
        None => slice_path(&unit.slice),
    };
    // systemd escapes names that clash with the kernel's own files.
    let is_own = unit.id.starts_with(['_', '.']) || unit.id.starts_with("cgroup.");
    let escape = if is_own { "_" } else { "" };
    Some(format!("{}{slice}/{escape}{}", root(), unit.id))
}

/// `/a.slice/a-b.slice` for `a-b.slice`.
fn slice_path(slice: &str) -> String {
    let Some(stem) = slice.strip_suffix(".slice").filter(|it| *it != "-") else {
        return String::new();
    };
    let ends = stem.match_indices('-').map(|(at, _)| at);
    let ends = ends.chain([stem.len()]);
    ends.map(|end| format!("/{}.slice", &stem[..end])).collect()
}

/// The root of PID 1's hierarchy: empty except for a systemd in a container.
fn root() -> String {
    let groups = fs::read_to_string("/proc/1/cgroup").unwrap_or_default();
    let path = path_in(&groups).unwrap_or_default();
    let root = path.strip_suffix("/init.scope").unwrap_or_default();
    root.to_owned()
}

/// The processes in `control_group` and below it, without groups of the units in `except`, and without zombies.
pub fn remaining(control_group: &str, except: &[String]) -> Vec<Process> {
    let mut pids = Vec::new();
    for hierarchy in HIERARCHIES {
        let place = PathBuf::from(format!("{hierarchy}{control_group}"));
        collect(&place, except, &mut pids);
    }
    pids.sort_unstable();
    pids.dedup();
    pids.into_iter().filter_map(process).collect()
}

fn collect(place: &Path, except: &[String], pids: &mut Vec<u32>) {
    // It is gone, or exists in only one of the hierarchies of a hybrid system.
    let Ok(text) = fs::read_to_string(place.join("cgroup.procs")) else {
        return;
    };
    pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
    let Ok(entries) = fs::read_dir(place) else {
        return;
    };
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let is_spared = name
            .to_str()
            .is_some_and(|name| except.iter().any(|it| it == name));
        if !is_spared && entry.file_type().is_ok_and(|it| it.is_dir()) {
            collect(&entry.path(), except, pids);
        }
    }
}

/// A process by its id, with its program; `None` if it has ended.
fn process(pid: u32) -> Option<Process> {
    if has_ended(pid) {
        return None;
    }
    // Its arguments may contain anything, even passwords.
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let program = line.split(|byte| *byte == 0).next().unwrap_or_default();
    let command = match program {
        [] => fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default(),
        program => String::from_utf8_lossy(program).into_owned(),
    };
    let command = command.trim_end().to_owned();
    Some(Process { pid, command })
}

/// Whether a process has ended, reaped or not.
pub fn has_ended(pid: u32) -> bool {
    let Ok(stat) = fs::read(format!("/proc/{pid}/stat")) else {
        return true;
    };
    // After its name, which may contain spaces and parentheses.
    let end = stat.iter().rposition(|byte| *byte == b')');
    let state = end.and_then(|end| stat.get(end + 2));
    matches!(state, Some(b'Z' | b'X' | b'x'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_nested_by_their_names() {
        assert_eq!(slice_path("-.slice"), "");
        assert_eq!(slice_path("system.slice"), "/system.slice");
        assert_eq!(
            slice_path("user-1000-x.slice"),
            "/user.slice/user-1000.slice/user-1000-x.slice"
        );
    }

    #[test]
    fn the_control_group_follows_from_slice_and_name() {
        let unit = |id: &str, slice: &str, group: &str| Unit {
            id: id.to_owned(),
            slice: slice.to_owned(),
            control_group: group.to_owned(),
            ..Unit::default()
        };
        let found = |it: Unit| control_group(&it);
        assert_eq!(
            found(unit("a.service", "", "/x/a.service")).as_deref(),
            Some("/x/a.service")
        );
        let end = |it: Unit, end: &str| found(it).is_some_and(|path| path.ends_with(end));
        assert!(end(
            unit("a@1.service", "system-a.slice", ""),
            "/system.slice/system-a.slice/a@1.service"
        ));
        assert!(end(unit("_x.service", "system.slice", ""), "/__x.service"));
        assert!(end(unit("a-b.slice", "a.slice", ""), "/a.slice/a-b.slice"));
        assert_eq!(found(unit("a.target", "", "")), None);
        assert_eq!(found(unit("a.service", "", "")), None);
    }

    #[test]
    fn a_process_is_told_by_its_program_alone() {
        let own = process(std::process::id()).expect("it runs");
        let program = std::env::args().next().expect("its name");
        assert_eq!((own.pid, own.command), (std::process::id(), program));
        let mut child = std::process::Command::new("true").spawn().expect("true");
        let id = child.id();
        // Until it has ended it is there, and then it is a zombie.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while !has_ended(id) {
            assert!(std::time::Instant::now() < end, "true has not ended");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert_eq!(process(id), None);
        child.wait().expect("it has ended");
    }
}
