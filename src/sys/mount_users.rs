//! Finds what keeps a file system busy: processes with something open on it, and mounts on top of it.

use std::fs;
use std::path::{Path, PathBuf};

use super::mounts::Mounts;

/// What keeps `place` busy: `812 (sleep)` for a process, `the mount of /data/inner` for a mount on top of it; at most
/// `limit` of them, as far as /proc shows them. The file system itself is not touched, since it may not answer.
pub fn holders(place: &Path, limit: usize) -> Vec<String> {
    let mounts = Mounts::read().unwrap_or_default();
    let mut found: Vec<String> = (mounts.below(place))
        .map(|other| format!("the mount of {}", other.display()))
        .collect();
    let processes = fs::read_dir("/proc").into_iter().flatten();
    for entry in processes.filter_map(Result::ok) {
        if found.len() >= limit {
            break;
        }
        let name = entry.file_name();
        let Some(pid) = name
            .to_str()
            .filter(|it| it.bytes().all(|it| it.is_ascii_digit()))
        else {
            continue;
        };
        if uses(&entry.path(), place) {
            let program = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            found.push(format!("{pid} ({})", program.trim_end()));
        }
    }
    found.truncate(limit);
    found
}

/// Whether a process has a file, directory, program or mapping below `place`.
fn uses(process: &Path, place: &Path) -> bool {
    let is_below =
        |link: PathBuf| fs::read_link(link).is_ok_and(|target| target.starts_with(place));
    let links = ["cwd", "root", "exe"].map(|link| process.join(link));
    let open = fs::read_dir(process.join("fd")).into_iter().flatten();
    let open = open.filter_map(Result::ok).map(|entry| entry.path());
    links.into_iter().chain(open).any(is_below) || maps(process, place)
}

fn maps(process: &Path, place: &Path) -> bool {
    let maps = fs::read(process.join("maps")).unwrap_or_default();
    let maps = String::from_utf8_lossy(&maps);
    maps.lines()
        .filter_map(|line| line.find('/').map(|at| &line[at..]))
        .any(|path| Path::new(path).starts_with(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_file_and_a_working_directory_are_found() {
        let place = std::env::temp_dir().join(format!("farewell-holders-{}", std::process::id()));
        fs::create_dir(&place).expect("made");
        assert_eq!(holders(&place, 5), Vec::<String>::new());
        let own = std::process::id();
        let file = fs::File::create(place.join("x")).expect("made");
        let found = holders(&place, 5);
        assert!(
            found.len() == 1 && found[0].starts_with(&format!("{own} (")),
            "{found:?}"
        );
        drop(file);
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .current_dir(&place)
            .spawn()
            .expect("started");
        let found = holders(&place, 5);
        child.kill().expect("killed");
        child.wait().expect("ended");
        fs::remove_dir_all(&place).expect("removed");
        assert!(
            found
                .iter()
                .any(|it| it.starts_with(&format!("{} (", child.id()))),
            "{found:?}"
        );
    }
}
