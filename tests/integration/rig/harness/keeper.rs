//! The process that keeps a machine's files over its boots, and clears everything away when the test has ended, however.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::root::Root;

const HARNESS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration/rig/harness");

/// What anything may take that ends by itself, on the slowest machine.
pub const GENEROUS: Duration = Duration::from_secs(180);

/// The files of a machine, and its control group.
pub struct Keeper {
    pub root: Root,
    /// On this machine: the console, the kernel's log, what commands printed.
    pub dir: PathBuf,
    group: PathBuf,
    process: Child,
}

impl Keeper {
    /// Lays a machine's files over a root.
    pub fn new(name: &str, root: Root, lay: impl FnOnce(&Path)) -> Keeper {
        let layer = root.layer();
        let dir = std::env::temp_dir().join(format!("farewell-rig-{name}"));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("files")).expect("made");
        lay(&dir.join("files"));
        let group = groups().join(format!("farewell-rig-{name}"));
        let said = File::create(dir.join("keeper")).expect("a file");
        let process = Command::new("unshare")
            .args(["-m", "--propagation", "private", "sh"])
            .arg(format!("{HARNESS}/keep.sh"))
            .args([&dir, &group, &root.path(), &layer])
            .stdin(Stdio::piped())
            .stdout(said.try_clone().expect("a file"))
            .stderr(said)
            // So that what ends the test from a terminal does not end it before it has cleared away.
            .process_group(0)
            .spawn();
        let mut keeper = Keeper {
            root,
            dir,
            group,
            process: process.expect("unshare"),
        };
        let begun = Instant::now();
        while !keeper.dir.join("kept").exists() {
            let ended = keeper.process.try_wait().expect("waited").is_some();
            if ended || begun.elapsed() > GENEROUS {
                let said = fs::read_to_string(keeper.dir.join("keeper")).unwrap_or_default();
                panic!("the machine's files cannot be laid out (as root?): {said}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        keeper
    }

    /// The command that boots the machine; it ends with it.
    pub fn boot(&self, console: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["-t", &self.process.id().to_string(), "-m", "unshare"])
            .args([
                "-m",
                "-p",
                "-u",
                "-i",
                "-n",
                "--fork",
                "--kill-child=KILL",
                "sh",
            ])
            .arg(format!("{HARNESS}/boot.sh"))
            .args([&self.dir, &self.group, console])
            .stdin(Stdio::null());
        command
    }

    /// Where a file of the machine is on this one, whether it runs or not; but for what is below /run, /dev, /proc and /sys.
    pub fn path(&self, path: &str) -> PathBuf {
        let root = self.dir.join("fs/root");
        let root = root.strip_prefix("/").expect("an absolute path");
        Path::new("/proc")
            .join(self.process.id().to_string())
            .join("root")
            .join(root)
            .join(path.trim_start_matches('/'))
    }

    /// What a file says that the harness keeps of this machine.
    pub fn said(&self, name: &str) -> String {
        let bytes = fs::read(self.dir.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
        if !std::thread::panicking() {
            assert!(
                !self.group.exists(),
                "{} is still there",
                self.group.display()
            );
        }
    }
}

/// Where this machine has its control groups of version 2.
fn groups() -> PathBuf {
    let hybrid = Path::new("/sys/fs/cgroup/unified");
    let place = if hybrid.is_dir() {
        hybrid
    } else {
        Path::new("/sys/fs/cgroup")
    };
    assert!(
        place.join("cgroup.controllers").exists(),
        "no control groups of version 2 are mounted at {}",
        place.display()
    );
    place.to_owned()
}
