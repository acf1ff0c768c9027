//! A machine's disk: a root file system with farewell, its units, and what a scenario needs, each at its real place.

use std::fs;
use std::hash::Hash;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::root::Root;
use super::tool;

const SOURCE: &str = env!("CARGO_MANIFEST_DIR");

/// A file of an image.
#[derive(Clone, Hash)]
pub struct Installed {
    pub path: String,
    pub content: Vec<u8>,
    pub executable: bool,
}

impl Installed {
    pub fn text(path: &str, content: &str) -> Installed {
        Installed {
            path: path.to_owned(),
            content: content.as_bytes().to_vec(),
            executable: false,
        }
    }
}

/// Everything that every machine of the lab has beside its release.
pub fn installed() -> Vec<Installed> {
    let mut files = Vec::new();
    for (folder, place) in [
        ("units", place_of_ours as fn(&str) -> Option<String>),
        ("tests/vm/guest", place_of_guest),
    ] {
        let entries = fs::read_dir(Path::new(SOURCE).join(folder)).expect("a folder");
        let mut paths: Vec<PathBuf> = entries.map(|it| it.expect("an entry").path()).collect();
        paths.sort();
        for path in paths {
            let name = path
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            if let Some(place) = place(&name) {
                files.push(Installed {
                    path: place,
                    content: fs::read(&path).expect("read"),
                    executable: executable(&path),
                });
            }
        }
    }
    files.push(Installed {
        path: "/usr/bin/farewell".to_owned(),
        content: binary().to_vec(),
        executable: true,
    });
    files
}

/// Where a package puts a file of units/.
fn place_of_ours(name: &str) -> Option<String> {
    let folder = match Path::new(name).extension()?.to_str()? {
        "service" | "timer" => "/usr/lib/systemd/system",
        "conf" if name.starts_with("org.") => "/usr/share/dbus-1/system.d",
        // A drop-in for those who want it.
        "conf" => "/usr/share/doc/farewell",
        "catalog" => "/usr/lib/systemd/catalog",
        // A sample is for people: each scenario has its own configuration.
        _ => return None,
    };
    Some(format!("{folder}/{name}"))
}

fn place_of_guest(name: &str) -> Option<String> {
    match name {
        "root.sh" => None,
        "app" => Some("/usr/bin/app".to_owned()),
        "farewell.toml" => Some("/etc/farewell/farewell.toml".to_owned()),
        unit if unit.contains('.') => Some(format!("/etc/systemd/system/{unit}")),
        program => Some(format!("/usr/lib/lab/{program}")),
    }
}

fn executable(path: &Path) -> bool {
    let mode = fs::metadata(path).expect("a file").permissions().mode();
    mode & 0o111 != 0
}

/// The binary that Cargo built, without its debugging information, which is ten times as large.
fn binary() -> &'static [u8] {
    static BINARY: OnceLock<Vec<u8>> = OnceLock::new();
    BINARY.get_or_init(|| {
        let stripped = tool::kept().join(format!("farewell-{}", std::process::id()));
        let built = env!("CARGO_BIN_EXE_farewell");
        tool::must(Command::new("strip").arg("-o").arg(&stripped).arg(built));
        let bytes = fs::read(&stripped).expect("read");
        fs::remove_file(&stripped).expect("removed");
        bytes
    })
}

/// Makes a disk of 1.5 GB from a root and what is installed in it.
pub fn make(root: &Root, files: &[Installed], disk: &Path) {
    let tree = disk.with_extension("tree");
    let _ = fs::remove_dir_all(&tree);
    // Links instead of copies, so that this takes half a second: no file of the root is ever written to in place.
    tool::must(
        Command::new("cp")
            .args(["-a", "-l"])
            .arg(&root.path)
            .arg(&tree),
    );
    for file in files {
        let path = tree.join(file.path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        let _ = fs::remove_file(&path);
        fs::write(&path, &file.content).expect("written");
        let mode = if file.executable { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
    }
    enable(&tree, files);
    let _ = fs::remove_file(disk);
    tool::must(
        Command::new("mke2fs")
            .args([
                "-q",
                "-t",
                "ext4",
                "-F",
                "-E",
                "lazy_itable_init=0,lazy_journal_init=0",
                "-d",
            ])
            .args([&tree, disk])
            .arg("1500M"),
    );
    fs::remove_dir_all(&tree).expect("removed");
}

/// Enables what an image build enables, as it does.
fn enable(tree: &Path, files: &[Installed]) {
    let units = [
        "farewell.service",
        "farewell-arm.service",
        "app.service",
        "shell.service",
    ];
    let there = |unit: &&str| {
        files
            .iter()
            .any(|file| file.path.ends_with(&format!("/{unit}")))
    };
    tool::must(
        Command::new("systemctl")
            .args(["--quiet", "--root"])
            .arg(tree)
            .arg("enable")
            .args(units.iter().filter(|unit| there(unit))),
    );
    let generators = tree.join("usr/lib/systemd/system-generators");
    symlink("/usr/bin/farewell", generators.join("farewell-generator")).expect("linked");
}
