//! The root file systems that machines boot, and the layer over them that has farewell installed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use nix::fcntl::{Flock, FlockArg};

use crate::support::binary::printed;
use crate::support::roots;

const SOURCE: &str = env!("CARGO_MANIFEST_DIR");

/// What is installed beside the binary, and what makes the layer.
const PARTS: [&str; 6] = [
    "units",
    "packer",
    "README.md",
    "CHANGELOG.md",
    "LICENSE",
    "tests/integration/rig/harness",
];

/// Whose systemd boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Root {
    /// That of the machine on which the tests run.
    Here,
    /// Debian 11, systemd 247.
    Bullseye,
    /// Debian 12, systemd 252.
    Bookworm,
    /// Debian 13, systemd 257.
    Trixie,
}

impl Root {
    /// The one that `FAREWELL_RIG_ROOT` names; this machine's own without it.
    pub fn chosen() -> Root {
        match std::env::var("FAREWELL_RIG_ROOT").as_deref() {
            Err(_) | Ok("" | "here") => Root::Here,
            Ok("bullseye") => Root::Bullseye,
            Ok("bookworm") => Root::Bookworm,
            Ok("trixie") => Root::Trixie,
            Ok(other) => {
                panic!("FAREWELL_RIG_ROOT={other}: not here, bullseye, bookworm or trixie")
            }
        }
    }

    /// Its root directory, to which nobody writes.
    pub fn path(self) -> PathBuf {
        let packages = "systemd,systemd-sysv,dbus,udev,iproute2,procps,curl,python3";
        match self {
            Root::Here => PathBuf::from("/"),
            // Its base files do not merge /usr by themselves.
            Root::Bullseye => roots::bootable("bullseye", &format!("{packages},usrmerge")),
            Root::Bookworm => roots::bootable("bookworm", packages),
            Root::Trixie => roots::bootable("trixie", packages),
        }
    }

    /// The version of its systemd.
    pub fn systemd(self) -> u32 {
        let mut systemd = Command::new("chroot");
        systemd.arg(self.path()).args(["systemctl", "--version"]);
        let said = printed(&mut systemd).unwrap_or_else(|error| panic!("{error}"));
        let version = said.split_whitespace().nth(1).unwrap_or_default();
        let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or_else(|_| panic!("{said}"))
    }

    /// The binary that runs there: the one under test, or the one that is released where the C library is older.
    fn binary(self) -> PathBuf {
        if self != Root::Bullseye {
            return PathBuf::from(env!("CARGO_BIN_EXE_farewell"));
        }
        crate::support::release::program()
    }

    /// The tar of what lies over it in every machine. It is made once for each version of what it consists of.
    pub fn layer(self) -> PathBuf {
        static LAYERS: Mutex<BTreeMap<Root, Result<PathBuf, String>>> = Mutex::new(BTreeMap::new());
        let mut layers = LAYERS
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        // A failure is kept too: each case tells it, and it costs its time once.
        let made = layers.entry(self).or_insert_with(|| self.make_layer());
        made.clone().unwrap_or_else(|error| panic!("{error}"))
    }

    fn make_layer(self) -> Result<PathBuf, String> {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rig");
        fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let name = format!("{self:?}").to_lowercase();
        let lock = File::create(dir.join(format!("{name}.lock"))).map_err(|it| it.to_string())?;
        let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, it)| it.to_string())?;
        let (root, built) = (self.path(), self.binary());
        let mut hasher = DefaultHasher::new();
        (&root, fs::read(&built).map_err(|it| it.to_string())?).hash(&mut hasher);
        for part in PARTS {
            hash(&Path::new(SOURCE).join(part), &mut hasher);
        }
        let layer = dir.join(format!("{name}-{:016x}.tar", hasher.finish()));
        if layer.exists() {
            return Ok(layer);
        }
        for entry in fs::read_dir(&dir).map_err(|it| it.to_string())?.flatten() {
            let file = entry.file_name().to_string_lossy().into_owned();
            if file.starts_with(&format!("{name}-")) {
                let _ = fs::remove_file(entry.path());
            }
        }
        // Its debugging information is ten times as large as the rest.
        let stripped = dir.join(format!("{name}-farewell"));
        printed(Command::new("strip").arg("-o").arg(&stripped).arg(built))?;
        let (work, half) = (
            dir.join(format!("{name}-work")),
            dir.join(format!("{name}-half")),
        );
        let _ = fs::remove_dir(&work);
        fs::create_dir(&work).map_err(|it| it.to_string())?;
        printed(
            Command::new("unshare")
                .args(["-m", "--propagation", "private"])
                .arg(Path::new(SOURCE).join("tests/integration/rig/harness/prepare.sh"))
                .args([&root, &stripped, Path::new(SOURCE), &work, &half]),
        )?;
        let _ = (fs::remove_dir(&work), fs::remove_file(&stripped));
        fs::rename(half, &layer).map_err(|it| it.to_string())?;
        Ok(layer)
    }
}

/// Adds everything at a path, with its name.
fn hash(path: &Path, hasher: &mut impl Hasher) {
    path.hash(hasher);
    if path.is_dir() {
        let entries = fs::read_dir(path).expect("a folder").flatten();
        let mut paths: Vec<PathBuf> = entries.map(|it| it.path()).collect();
        paths.sort();
        for path in paths {
            hash(&path, hasher);
        }
    } else {
        fs::read(path).expect("a file").hash(hasher);
    }
}
