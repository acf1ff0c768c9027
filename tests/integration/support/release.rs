//! What is released: made by packer/packages/release where it is missing or older than its sources, and changed copies of it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::Dir;
use super::binary::Ended;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What of a checkout packer/packages/release reads when it builds no program.
const PACKAGED: [&str; 7] = [
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "packer",
    "units",
];

/// target/dist, as packer/packages/release leaves it.
pub fn dist() -> &'static Path {
    static DIST: OnceLock<PathBuf> = OnceLock::new();
    DIST.get_or_init(|| {
        let mut script = Command::new(Path::new(ROOT).join("packer/packages/release"));
        let said = Ended::of(script.arg("--if-changed"));
        assert_eq!(said.code, 0, "{}\n{}", said.stdout, said.stderr);
        Path::new(ROOT).join("target/dist")
    })
}

/// The released program.
pub fn program() -> PathBuf {
    dist().join("farewell")
}

/// A file of a directory, by how its name ends.
pub fn file_in(dir: &Path, end: &str) -> PathBuf {
    let entries = fs::read_dir(dir).expect("a directory");
    let mut paths = entries.map(|it| it.expect("an entry").path());
    paths
        .find(|path| path.to_string_lossy().ends_with(end))
        .unwrap_or_else(|| panic!("no {end} in {}", dir.display()))
}

/// The released .deb.
pub fn deb() -> PathBuf {
    file_in(dist(), ".deb")
}

/// The released .rpm.
pub fn rpm() -> PathBuf {
    file_in(dist(), ".rpm")
}

/// A copy of what packages are made of, outside of git, for a test to change.
pub struct Copy(pub Dir);

impl Copy {
    pub fn new(name: &str) -> Copy {
        let dir = Dir::new(name);
        let list = Command::new("git")
            .args([
                "ls-files",
                "-z",
                "--cached",
                "--others",
                "--exclude-standard",
                "--",
            ])
            .args(PACKAGED)
            .current_dir(ROOT)
            .output()
            .expect("git");
        assert!(list.status.success(), "{list:?}");
        for name in list.stdout.split(|byte| *byte == 0) {
            let name = Path::new(OsStr::new(std::str::from_utf8(name).expect("UTF-8")));
            let (from, to) = (Path::new(ROOT).join(name), dir.0.join(name));
            if from.is_file() {
                fs::create_dir_all(to.parent().expect("a folder")).expect("made");
                fs::copy(&from, &to).expect("copied");
            }
        }
        Copy(dir)
    }

    /// Replaces what must be in one of its files.
    pub fn replace(&self, file: &str, from: &str, to: &str) -> &Copy {
        let path = self.0.0.join(file);
        let text = fs::read_to_string(&path).expect("a text");
        assert!(text.contains(from), "{file} does not say {from:?}");
        fs::write(path, text.replace(from, to)).expect("written");
        self
    }

    /// packer/packages/release of this copy, which packages a program, in this release's time.
    pub fn script(&self, program: &Path) -> Command {
        let mut time = Command::new("rpm");
        let time = Ended::of(time.args(["-qp", "--qf", "%{BUILDTIME}"]).arg(rpm())).stdout;
        let mut script = Command::new(self.0.0.join("packer/packages/release"));
        script
            .env("SOURCE_DATE_EPOCH", time)
            .arg("--tools")
            .arg(Path::new(ROOT).join("target/release-tools"))
            .arg("--binary")
            .arg(program);
        script
    }

    /// Packages the released program as this revision; where its packages are.
    pub fn revision(&self, number: u32) -> PathBuf {
        let mut script = self.script(&program());
        let said = Ended::of(script.args(["--revision", &number.to_string()]));
        assert_eq!(said.code, 0, "{}\n{}", said.stdout, said.stderr);
        self.0.0.join("target/dist")
    }
}
