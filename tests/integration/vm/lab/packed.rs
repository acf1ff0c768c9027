//! An image that Packer makes of a clean clone, with the commands of README.md, and the machines that boot from it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Instant;

use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;

use super::base::Base;
use super::frozen::frozen;
use super::image;
use super::machine::Machine;
use super::stage::Stage;
use super::tool;
use crate::support::release;

const SOURCE: &str = env!("CARGO_MANIFEST_DIR");

/// What of a clone the image is made from.
const PARTS: [&str; 5] = [
    "HEAD:README.md",
    "HEAD:CHANGELOG.md",
    "HEAD:LICENSE",
    "HEAD:packer",
    "HEAD:units",
];

/// An image that nobody writes to.
pub struct Packed {
    /// The disk that Packer has made, as debugfs reads it.
    pub raw: PathBuf,
    /// What Packer has said.
    pub said: String,
    /// How it has started QEMU.
    pub qemu: String,
    /// What its manifest says.
    pub manifest: Value,
    _lock: Flock<File>,
}

/// The image of a release: the one that is kept, or a new one.
pub fn packed(release: &str) -> &'static Packed {
    static BOOKWORM: OnceLock<Option<Packed>> = OnceLock::new();
    static TRIXIE: OnceLock<Option<Packed>> = OnceLock::new();
    let cell = if release == "bookworm" {
        &BOOKWORM
    } else {
        &TRIXIE
    };
    // A failure is kept too: each scenario tells it, and it costs its time once.
    let made = cell.get_or_init(|| std::panic::catch_unwind(|| make(release)).ok());
    let Some(packed) = made else {
        panic!("there is no image of {release}: see above");
    };
    packed
}

fn make(release: &str) -> Packed {
    let root = &frozen(release).root;
    let kept = tool::kept().join(release);
    // For one process at a time: another one may make another image in its place.
    let lock = File::create(kept.join("packed.lock")).expect("a file");
    let lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error);
    let lock = lock.expect("locked");
    let base = Base::within(&kept, root);
    let clone = kept.join("clone");
    clean_clone(&clone);
    let parts = tool::must(git().arg("-C").arg(&clone).arg("rev-parse").args(PARTS));
    let config = Path::new(SOURCE).join("tests/integration/vm/image/farewell.toml");
    let key = tool::key((
        &base.key,
        parts,
        fs::read(&config).expect("the configuration"),
        fs::read(release::program()).expect("the released program"),
        tool::must(Command::new("packer").arg("version")),
        include_str!("packed.rs"),
    ));
    let dir = kept.join(format!("packed-{key}"));
    let said = dir.join("packer.log");
    if !said.exists() {
        if !base.disk.exists() {
            base.make(release, root);
        }
        let begun = Instant::now();
        let half = tool::half(&dir);
        build(&clone, &half, &base.disk, &config);
        fs::rename(half, &dir).expect("renamed");
        tool::say(format_args!(
            "{release}: its image is built, {} s",
            begun.elapsed().as_secs()
        ));
    }
    fs::remove_dir_all(&clone).expect("removed");
    let manifest = fs::read(dir.join("manifest.json")).expect("a manifest");
    let debug = fs::read_to_string(dir.join("debug.log")).expect("what Packer has done");
    let started = debug
        .lines()
        .find(|it| it.contains("qemu-system-x86_64: ["));
    Packed {
        raw: dir.join("image.raw"),
        said: fs::read_to_string(said).expect("what Packer has said"),
        qemu: started.expect("it has started QEMU").to_owned(),
        manifest: serde_json::from_slice(&manifest).expect("JSON"),
        _lock: lock,
    }
}

/// Clones what is committed here.
fn clean_clone(to: &Path) {
    let _ = fs::remove_dir_all(to);
    let from = format!("file://{SOURCE}");
    tool::must(git().args(["clone", "-q", "--depth", "1", &from]).arg(to));
}

/// git, which otherwise looks into no checkout of somebody else.
fn git() -> Command {
    let mut git = Command::new("git");
    git.envs([
        ("GIT_CONFIG_COUNT", "1"),
        ("GIT_CONFIG_KEY_0", "safe.directory"),
        ("GIT_CONFIG_VALUE_0", "*"),
    ]);
    git
}

/// Does what README.md says in the clone, but for the build of the release, which is there already.
fn build(clone: &Path, half: &Path, base: &Path, config: &Path) {
    let readme = fs::read_to_string(clone.join("README.md")).expect("README.md");
    let block = image::block(&readme, "packer");
    let (built, commands) = block.split_once('\n').expect("it builds first");
    let (_, place) = built.rsplit_once(' ').expect("it says where the binary is");
    assert!(commands.contains(place), "the binary is {place}: {block}");
    let place = clone.join(place);
    fs::create_dir_all(place.parent().expect("a folder")).expect("made");
    fs::copy(release::program(), &place).expect("copied");
    let licenses = "third-party-licenses.txt";
    fs::copy(
        release::dist().join(licenses),
        place.with_file_name(licenses),
    )
    .expect("copied");

    let key = half.join("key");
    tool::must(
        Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "build-machine", "-f"])
            .arg(&key),
    );
    let public = fs::read_to_string(half.join("key.pub")).expect("a key");
    let seed = half.join("seed");
    fs::create_dir(&seed).expect("made");
    let user_data = format!(
        "#cloud-config\nusers:\n  - name: builder\n    sudo: ALL=(ALL) NOPASSWD:ALL\n    \
         shell: /bin/bash\n    ssh_authorized_keys: [{}]\n",
        public.trim()
    );
    fs::write(seed.join("user-data"), user_data).expect("written");
    fs::write(seed.join("meta-data"), "instance-id: i-build-machine\n").expect("written");

    let log = half.join("packer.log.part");
    let out = File::create(&log).expect("a file");
    let status = Command::new("sh")
        .args(["-eu", "-c", commands])
        .current_dir(clone)
        .envs([
            ("base", base),
            ("config", config),
            ("PKR_VAR_ssh_private_key_file", &key),
            ("PKR_VAR_seed", &seed),
            ("PACKER_CACHE_DIR", &half.join("cache")),
        ])
        .env("PKR_VAR_ssh_username", "builder")
        .env("PKR_VAR_accelerator", "tcg")
        .env("CHECKPOINT_DISABLE", "1")
        .env("PACKER_NO_COLOR", "1")
        .env("PACKER_LOG", "1")
        .env("PACKER_LOG_PATH", half.join("debug.log"))
        .stdin(std::process::Stdio::null())
        .stderr(out.try_clone().expect("a file"))
        .stdout(out)
        .status()
        .expect("sh");
    let said = fs::read_to_string(&log).expect("what Packer has said");
    assert!(status.success(), "{commands}\n{said}");
    let manifest = clone.join("farewell-image-manifest.json");
    fs::copy(manifest, half.join("manifest.json")).expect("a manifest");
    tool::must(
        Command::new("qemu-img")
            .args(["convert", "-f", "qcow2", "-O", "raw"])
            .arg(clone.join("farewell-image/farewell.qcow2"))
            .arg(half.join("image.raw")),
    );
    fs::rename(log, half.join("packer.log")).expect("renamed");
}

impl Packed {
    /// What a file of the image has in it; none where there is no such file.
    pub fn file(&self, path: &str) -> Option<String> {
        read(&self.raw, path)
    }

    /// The names in a folder of the image; none where there is no such folder.
    pub fn names(&self, path: &str) -> Vec<String> {
        let list = tool::must(
            Command::new("debugfs")
                .args(["-R", &format!("ls -p {path}")])
                .arg(&self.raw),
        );
        let names = list.lines().filter_map(|it| it.split('/').nth(5));
        let names = names.filter(|it| !["", ".", ".."].contains(it));
        names.map(str::to_owned).collect()
    }

    /// A machine that boots from a copy of it with this seed; `machine_id` is what the copy has at /etc/machine-id.
    pub fn instance(
        &self,
        stage: &Stage,
        name: &str,
        machine_id: &str,
        user_data: &str,
    ) -> Machine {
        let dir = stage.dir.join(name);
        fs::create_dir(&dir).expect("made");
        let disk = dir.join("disk");
        tool::must(
            Command::new("cp")
                .arg("--sparse=always")
                .args([&self.raw, &disk]),
        );
        if !machine_id.is_empty() {
            let text = dir.join("machine-id");
            fs::write(&text, machine_id).expect("written");
            let write = format!("write {} /etc/machine-id", text.display());
            for command in ["rm /etc/machine-id", &write] {
                tool::must(
                    Command::new("debugfs")
                        .args(["-w", "-R", command])
                        .arg(&disk),
                );
            }
            assert_eq!(read(&disk, "/etc/machine-id").as_deref(), Some(machine_id));
        }
        let seed = dir.join("seed");
        fs::create_dir(&seed).expect("made");
        let meta_data = format!("instance-id: i-{name}\nlocal-hostname: host-{name}\n");
        fs::write(seed.join("meta-data"), meta_data).expect("written");
        fs::write(seed.join("user-data"), user_data).expect("written");
        let disc = dir.join("seed.iso");
        tool::must(
            Command::new("mkisofs")
                .args(["-quiet", "-volid", "cidata", "-joliet", "-rock", "-output"])
                .args([&disc, &seed]),
        );
        Machine::instance(&dir, disk, &disc)
    }
}

/// What a file of a file system has in it.
fn read(disk: &Path, path: &str) -> Option<String> {
    let output = Command::new("debugfs")
        .args(["-R", &format!("cat {path}")])
        .arg(disk)
        .output()
        .expect("debugfs (apt install e2fsprogs)");
    let complaint = String::from_utf8_lossy(&output.stderr);
    let there = !complaint.contains("File not found");
    there.then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
