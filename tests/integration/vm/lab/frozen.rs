//! A machine of each release that was booted once, and frozen when it was up and idle.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

use super::image::{self, Contents};
use super::qemu::{Boot, Disk, Qemu};
use super::root::Root;
use super::shell::Shell;
use super::tool;

/// What a boot may take while another machine boots beside it.
pub const BOOT: Duration = Duration::from_secs(300);

/// A frozen machine, which nobody changes as long as this is there.
pub struct Frozen {
    pub root: Root,
    pub disk: PathBuf,
    pub memory: PathBuf,
    _lock: Flock<File>,
}

/// The frozen machine of a release: the one that is kept, or a new one.
pub fn frozen(release: &str) -> &'static Frozen {
    static BOOKWORM: OnceLock<Result<Frozen, String>> = OnceLock::new();
    static TRIXIE: OnceLock<Result<Frozen, String>> = OnceLock::new();
    let cell = match release {
        "bookworm" => &BOOKWORM,
        "trixie" => &TRIXIE,
        _ => panic!("no such release: {release}"),
    };
    // A failure is kept too, so that it is told by each scenario but costs its time once.
    let made = cell.get_or_init(|| {
        std::panic::catch_unwind(|| make(release)).map_err(|cause| {
            let text = cause.downcast_ref::<String>().cloned();
            text.unwrap_or_else(|| "see above".to_owned())
        })
    });
    match made {
        Ok(frozen) => frozen,
        Err(error) => panic!("there is no frozen {release}: {error}"),
    }
}

fn make(release: &str) -> Frozen {
    let kept = tool::kept().join(release);
    fs::create_dir_all(&kept).expect("a directory");
    let locked = |how| {
        let file = File::create(kept.join("lock")).expect("a file");
        Flock::lock(file, how)
            .map_err(|(_, error)| error)
            .expect("locked")
    };
    let contents = Contents::of_this_source();
    let version = tool::must(Command::new("qemu-system-x86_64").arg("--version"));
    let root = Root::within(&kept);
    let dir = kept.join(format!(
        "frozen-{}",
        tool::key((&root.key, &contents, include_str!("qemu.rs"), version))
    ));
    let (disk, memory) = (dir.join("disk"), dir.join("memory"));
    // Shared while it is in use, exclusive while it is made: another process may run other scenarios of this release.
    let mut lock = locked(FlockArg::LockShared);
    while !memory.exists() {
        drop(lock);
        let exclusive = locked(FlockArg::LockExclusive);
        if !root.path.exists() {
            root.make(release);
        }
        if !memory.exists() {
            freeze(release, &root, &contents, &dir);
        }
        drop(exclusive);
        lock = locked(FlockArg::LockShared);
    }
    Frozen {
        root,
        disk,
        memory,
        _lock: lock,
    }
}

fn freeze(release: &str, root: &Root, contents: &Contents, dir: &Path) {
    let half = tool::half(dir);
    let begun = Instant::now();
    let disk = half.join("disk");
    image::make(root, contents, &disk);
    tool::say(format_args!(
        "{release}: booting, 20 to 60 s (console: {})",
        half.join("console.log").display()
    ));
    let mut shell = Shell::lay(&half);
    let drive = Disk {
        path: &disk,
        format: "raw",
    };
    let mut qemu = Qemu::start(&half, &Boot::Kernel(root), &drive, None);
    assert!(shell.wait(BOOT), "{release} does not boot");
    let settled = shell.run("/usr/lib/lab/settled", BOOT);
    assert!(
        settled.as_ref().is_some_and(|it| it.code == 0),
        "{release} does not come to rest: {settled:?}"
    );
    tool::say(format_args!(
        "{release}: up after {} s, freezing",
        begun.elapsed().as_secs()
    ));
    qemu.halt();
    qemu.save(&half.join("memory"));
    qemu.cut();
    fs::rename(&half, dir).expect("renamed");
    tool::say(format_args!(
        "{release}: frozen, {} s in all",
        begun.elapsed().as_secs()
    ));
}
