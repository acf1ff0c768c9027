//! What tests mount in a namespace of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub fn mount(args: &[&str], point: &Path) {
    let mounted = Command::new("mount").args(args).arg(point).status();
    assert!(mounted.expect("mount").success());
}

/// Mounts an ext4 of 16 MiB at `point`, whose image is in memory at `images`.
pub fn ext4(images: &Path, point: &Path) {
    ext4_with(images, point, &[]);
}

/// The same, made with these options.
pub fn ext4_with(images: &Path, point: &Path, options: &[&str]) {
    mount(&["-t", "tmpfs", "x"], images);
    let image = images.join("disk");
    let file = fs::File::create(&image).expect("made");
    file.set_len(16 << 20).expect("grown");
    let made = Command::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4"])
        .args(options)
        .arg(&image)
        .status();
    assert!(made.expect("mke2fs").success());
    mount(&["-o", "loop", image.to_str().expect("text")], point);
}

/// A frozen file system, which thaws at the end; without that it could not be unmounted.
pub struct Frozen(PathBuf);

impl Frozen {
    pub fn freeze(point: &Path) -> Frozen {
        let froze = Command::new("fsfreeze").arg("-f").arg(point).status();
        assert!(froze.expect("fsfreeze").success());
        Frozen(point.to_owned())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("-u").arg(&self.0).status();
    }
}

/// A mount that is gone at the end, so that the directory below can be removed.
pub struct Mounted(PathBuf);

impl Mounted {
    pub fn at(args: &[&str], point: &Path) -> Mounted {
        fs::create_dir_all(point).expect("made");
        mount(args, point);
        Mounted(point.to_owned())
    }

    /// What is mounted there already.
    pub fn found(point: &Path) -> Mounted {
        Mounted(point.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
