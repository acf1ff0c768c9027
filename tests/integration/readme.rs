//! README.md shows what the quick start really prints.
//!
//! `FAREWELL_UPDATE_README=1 cargo test --test integration readme::` writes the output of this machine into it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

const HEAD: &str = "<!-- quickstart -->\n```text\n";
const COMMAND: &str = "cargo run --release -- run --config units/quickstart.toml";

/// A copy of what the quick start reads, in a directory of its own, so that it leaves nothing elsewhere.
struct Room(PathBuf);

impl Room {
    fn new() -> Room {
        static ROOMS: AtomicU32 = AtomicU32::new(0);
        let number = ROOMS.fetch_add(1, Ordering::Relaxed);
        let name = format!("farewell-readme-{}-{number}", std::process::id());
        let room = std::env::temp_dir().join(name);
        fs::create_dir_all(room.join("units")).expect("a directory");
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("units/quickstart.toml");
        fs::copy(from, room.join("units/quickstart.toml")).expect("copied");
        Room(room)
    }

    fn entries(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("a directory");
        let name = |entry: std::io::Result<fs::DirEntry>| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("UTF-8")
        };
        let mut names: Vec<String> = entries.map(name).collect();
        names.sort();
        names
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What the quick start prints, in the environment that .cargo/config.toml makes.
fn quick_start(room: &Room) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_farewell"))
        .args(["run", "--config", "units/quickstart.toml"])
        .current_dir(&room.0)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("PWD", &room.0)
        .env("HOME", "/nonexistent")
        .env("STATE_DIRECTORY", "target/quickstart")
        .env("LANG", "C.UTF-8")
        .output()
        .expect("it runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && errors.is_empty(),
        "{}: {errors}",
        output.status
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The lines without what differs from run to run: times, ids, names of hosts, and the lengths of bars. Sorted, since
/// side-by-side steps end in any order.
fn shape(text: &str) -> Vec<String> {
    let word = |word: &str| {
        let word = word.trim_matches(['█', '◂', ']']);
        let number = word.trim_end_matches([',', ')', ':', 's']);
        if number.parse::<f64>().is_ok() {
            "N".to_owned()
        } else if word.contains("Z-") {
            "RUN".to_owned()
        } else {
            word.to_owned()
        }
    };
    let line = |line: &str| {
        let host = line
            .split_once("notice | ")
            .and_then(|(_, told)| told.split_once(" left"));
        let line = host.map_or(line.to_owned(), |(host, _)| line.replace(host, "HOST"));
        let words: Vec<String> = line.split_whitespace().map(word).collect();
        let units = ["", "ms", "s", "min"];
        let words = words
            .into_iter()
            .filter(|word| !units.contains(&word.trim_end_matches(':')));
        words.collect::<Vec<_>>().join(" ")
    };
    let mut lines: Vec<String> = text.lines().map(line).collect();
    lines.sort();
    lines
}

#[test]
fn the_readme_shows_what_the_quick_start_prints() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(&path).expect("README.md");
    assert!(readme.contains(COMMAND), "README.md names the command");
    let (before, rest) = readme
        .split_once(HEAD)
        .expect("the block of the quick start");
    let (shown, after) = rest.split_once("```").expect("the end of the block");
    let room = Room::new();
    let printed = quick_start(&room);
    assert_eq!(
        room.entries(),
        ["target", "units"],
        "it leaves nothing outside of target/"
    );
    if std::env::var_os("FAREWELL_UPDATE_README").is_some() {
        fs::write(&path, format!("{before}{HEAD}{printed}```{after}")).expect("written");
    } else {
        assert_eq!(
            shape(shown),
            shape(&printed),
            "printed:\n{printed}\nshown:\n{shown}"
        );
    }
}

#[test]
fn the_readme_knows_every_kind_and_every_member() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"))
        .expect("README.md");
    for kind in farewell::steps::KINDS {
        let row = format!("| `{}` |", kind.name);
        assert!(readme.contains(&row), "{} is missing", kind.name);
    }
    let registries = farewell::steps::deregister::REGISTRIES
        .iter()
        .map(|it| it.name);
    let clusters = farewell::steps::wait_safe::CLUSTERS
        .iter()
        .map(|it| it.name);
    let vias = farewell::steps::lock::LOCKS.iter().map(|it| it.name);
    for (key, names) in [
        ("registry", registries.collect::<Vec<_>>()),
        ("cluster", clusters.collect()),
        ("via", vias.collect()),
    ] {
        let (_, rest) = readme
            .split_once(&format!("| `{key} =` | keys |"))
            .expect("its table");
        let table = rest.split("\n\n").next().unwrap_or_default();
        for name in names {
            assert!(
                table.contains(&format!("`{name}`")),
                "{key} = {name} is missing"
            );
        }
    }
}

#[test]
fn the_readme_s_configuration_is_right() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"))
        .expect("README.md");
    let (_, rest) = readme.split_once("```toml\n").expect("a configuration");
    let (configuration, _) = rest.split_once("```").expect("its end");
    let room = Room::new();
    fs::write(room.0.join("farewell.toml"), configuration).expect("written");
    let output = Command::new(env!("CARGO_BIN_EXE_farewell"))
        .args(["check", "--image", "--config", "farewell.toml"])
        .current_dir(&room.0)
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        told, "farewell check: 1 file; 3 steps; no problems\n",
        "{output:?}"
    );
}
