//! A machine's disk: a root file system with farewell as README.md installs it, and what the scenarios need.

use std::fs;
use std::hash::Hash;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::root::Root;
use super::tool;

const SOURCE: &str = env!("CARGO_MANIFEST_DIR");

/// Where the source is while it is installed.
const CHECKOUT: &str = "/root/farewell";

/// What of the checkout they find there: what is installed beside the binary, and how.
const SOURCES: [&str; 5] = ["units", "packer", "README.md", "CHANGELOG.md", "LICENSE"];

/// A file of an image.
#[derive(Clone, Hash)]
pub struct Installed {
    pub path: String,
    pub content: Vec<u8>,
    pub executable: bool,
}

/// Everything that every machine of the lab has beside its release.
#[derive(Hash)]
pub struct Contents {
    /// What README.md says, but for the build.
    commands: String,
    /// What these commands find: a checkout, and the binary that Cargo built.
    source: Vec<Installed>,
    /// The lab's own.
    guest: Vec<Installed>,
}

impl Contents {
    pub fn of_this_source() -> Contents {
        let mut source = Vec::new();
        for name in SOURCES {
            checkout(Path::new(name), &mut source);
        }
        source.push(Installed {
            path: format!("{CHECKOUT}/target/release/farewell"),
            content: binary().to_vec(),
            executable: true,
        });
        Contents {
            commands: commands(),
            source,
            guest: files("tests/integration/vm/guest", place_of_guest),
        }
    }
}

/// The commands of README.md that put farewell into an image.
fn commands() -> String {
    let readme = fs::read_to_string(Path::new(SOURCE).join("README.md")).expect("README.md");
    let build = "cargo build --release\n";
    block(&readme, "install")
        .strip_prefix(build)
        .expect("it builds first")
        .to_owned()
}

/// The block of README.md that is marked so.
pub fn block<'a>(readme: &'a str, mark: &str) -> &'a str {
    let mark = format!("<!-- {mark} -->\n```");
    let (_, from) = readme.split_once(&mark).expect("the block is there");
    let (_, from) = from.split_once('\n').expect("it begins");
    let (block, _) = from.split_once("```").expect("it ends");
    block
}

/// The files of a folder, at the places that they have in an image.
fn files(folder: &str, place: impl Fn(&str) -> Option<String>) -> Vec<Installed> {
    let entries = fs::read_dir(Path::new(SOURCE).join(folder)).expect("a folder");
    let mut paths: Vec<PathBuf> = entries.map(|it| it.expect("an entry").path()).collect();
    paths.sort();
    let installed = |path: &PathBuf| {
        let name = path.file_name()?.to_string_lossy().into_owned();
        Some(Installed {
            path: place(&name)?,
            content: fs::read(path).expect("read"),
            executable: executable(path),
        })
    };
    paths.iter().filter_map(installed).collect()
}

/// Adds what of the checkout is at this path, with everything below it.
fn checkout(path: &Path, files: &mut Vec<Installed>) {
    let from = Path::new(SOURCE).join(path);
    if from.is_dir() {
        let entries = fs::read_dir(&from).expect("a folder");
        let mut names: Vec<_> = entries
            .map(|it| it.expect("an entry").file_name())
            .collect();
        names.sort();
        for name in names {
            checkout(&path.join(name), files);
        }
    } else {
        files.push(Installed {
            path: format!("{CHECKOUT}/{}", path.display()),
            content: fs::read(&from).expect("read"),
            executable: executable(&from),
        });
    }
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
pub fn binary() -> &'static [u8] {
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

/// Makes a disk of 1.5 GB: a root, and farewell in it.
pub fn make(root: &Root, contents: &Contents, disk: &Path) {
    let tree = disk.with_extension("tree");
    let _ = fs::remove_dir_all(&tree);
    // Links instead of copies, so that this takes half a second: no file of the root is ever written to in place.
    tool::must(
        Command::new("cp")
            .args(["-a", "-l"])
            .arg(&root.path)
            .arg(&tree),
    );
    install(&tree, contents);
    put(&tree, &contents.guest);
    tool::must(
        Command::new("systemctl")
            .args(["--quiet", "--root"])
            .arg(&tree)
            .args(["enable", "app.service", "shell.service", "srv-shared.mount"]),
    );
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

/// Does what README.md says, in the image.
fn install(tree: &Path, contents: &Contents) {
    put(tree, &contents.source);
    let script = format!("set -eux\ncd {CHECKOUT}\n{}", contents.commands);
    tool::must(
        Command::new("chroot")
            .arg(tree)
            .args(["/bin/sh", "-c", &script]),
    );
    let checkout = tree.join(CHECKOUT.trim_start_matches('/'));
    fs::remove_dir_all(checkout).expect("removed");
}

fn put(tree: &Path, files: &[Installed]) {
    for file in files {
        let path = tree.join(file.path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        let _ = fs::remove_file(&path);
        fs::write(&path, &file.content).expect("written");
        let mode = if file.executable { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
    }
}
