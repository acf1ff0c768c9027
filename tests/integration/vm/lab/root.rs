//! The root file system of a release, made by mmdebstrap from this machine's own package sources, and kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use super::tool;

/// A machine of the lab, what its scenarios do, and nothing else.
const PACKAGES: &str = "curl,dbus,iproute2,kexec-tools,linux-image-cloud-amd64,nfs-common,nfs-kernel-server,\
    procps,python3,systemd,systemd-sysv,udev";

/// What turns them into a machine of the lab.
const CUSTOMISED: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/integration/vm/guest/root.sh"
);

/// A root file system that nobody writes to.
pub struct Root {
    pub path: PathBuf,
    pub key: String,
}

impl Root {
    /// Where it is, or is to be, among what is kept of a release.
    pub fn within(kept: &Path) -> Root {
        let key = tool::key((PACKAGES, fs::read(CUSTOMISED).expect("root.sh")));
        let path = kept.join(format!("root-{key}"));
        Root { path, key }
    }

    /// The file in /boot whose name begins so: a release has one kernel.
    pub fn boot(&self, name: &str) -> PathBuf {
        let entries = fs::read_dir(self.path.join("boot")).expect("/boot");
        let mut paths = entries.map(|it| it.expect("an entry").path());
        paths
            .find(|it| {
                it.file_name()
                    .is_some_and(|it| it.to_string_lossy().starts_with(name))
            })
            .unwrap_or_else(|| panic!("no {name} in /boot"))
    }

    /// Makes it, and removes those that another recipe has made.
    pub fn make(&self, release: &str) {
        tool::say(format_args!(
            "{release}: building its root file system, one to two minutes"
        ));
        let begun = Instant::now();
        let half = tool::half(&self.path);
        tool::must(
            Command::new("mmdebstrap")
                .args([
                    "--quiet",
                    "--mode=root",
                    "--format=directory",
                    "--variant=minbase",
                ])
                .arg(format!("--include={PACKAGES}"))
                .arg(format!("--customize-hook={CUSTOMISED}"))
                .arg(release)
                .arg(&half),
        );
        fs::rename(&half, &self.path).expect("renamed");
        tool::say(format_args!(
            "{release}: its root file system is built, {} s",
            begun.elapsed().as_secs()
        ));
    }
}
