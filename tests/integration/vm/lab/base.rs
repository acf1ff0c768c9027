//! The disk that Packer begins with: the root file system of a release made bootable, with what a cloud image has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use super::root::Root;
use super::tool;

const SOURCE: &str = env!("CARGO_MANIFEST_DIR");

/// A disk that nobody writes to.
pub struct Base {
    pub disk: PathBuf,
    pub key: String,
}

impl Base {
    /// Where it is, or is to be, among what is kept of a release.
    pub fn within(kept: &Path, root: &Root) -> Base {
        let read = |name: &str| fs::read(Path::new(SOURCE).join("tests/integration/vm").join(name));
        let parts = ["image/base.sh", "guest/shell", "guest/shell.service"];
        let parts = parts.map(|it| read(it).expect("a file of the lab"));
        let key = tool::key((&root.key, parts));
        let disk = kept.join(format!("base-{key}/base.qcow2"));
        Base { disk, key }
    }

    /// Makes it, and removes those that another recipe has made.
    pub fn make(&self, release: &str, root: &Root) {
        let begun = Instant::now();
        let dir = self.disk.parent().expect("a folder");
        let half = tool::half(dir);
        tool::must(
            Command::new("unshare")
                .args(["-m", "--propagation", "private"])
                .arg(Path::new(SOURCE).join("tests/integration/vm/image/base.sh"))
                .args([&root.path, &half])
                .arg(Path::new(SOURCE).join("tests/integration/vm/guest")),
        );
        fs::rename(half, dir).expect("renamed");
        tool::say(format_args!(
            "{release}: the base of its image is built, {} s",
            begun.elapsed().as_secs()
        ));
    }
}
