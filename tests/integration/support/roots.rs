//! Root file systems of Debian's releases with next to nothing in them, and machines that are no more than such a root.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use super::binary::Ended;

/// Enough to run a program that is not static, and the shell.
pub const SHELL: &str = "base-files,dash";

/// Enough to install packages: dpkg, and what maintainer scripts call; systemd's programs with nothing running.
pub const DPKG: &str = "base-files,coreutils,dash,diffutils,dpkg,findutils,grep,init-system-helpers,libc-bin,sed,systemd,tar";

/// The root of a release with these packages unpacked, made once and kept below target/. Nobody writes to it.
pub fn root(suite: &str, packages: &str) -> PathBuf {
    make(suite, packages, "extract")
}

/// The same with these packages and all that is essential installed, so that systemd boots it.
pub fn bootable(suite: &str, packages: &str) -> PathBuf {
    make(suite, packages, "minbase")
}

fn make(suite: &str, packages: &str, variant: &str) -> PathBuf {
    let roots = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/roots");
    fs::create_dir_all(&roots).expect("made");
    let mut name = format!("{suite}-{}", packages.replace(',', "+"));
    if variant != "extract" {
        name = format!("{name}-{variant}");
    }
    let lock = fs::File::create(roots.join(format!("{name}.lock"))).expect("a file");
    let lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error);
    let _lock = lock.expect("locked");
    let root = roots.join(&name);
    if !root.exists() {
        // Half a root must never be taken for one.
        let half = roots.join(format!("{name}.half"));
        // From the mirror that this machine's own sources name, since not every suite is on every one.
        let script = "mirror() { apt-get indextargets --format '$(ORIGIN) $(LABEL) $(REPO_URI)' 'Identifier: Packages' |
                sed -n 's/^Debian Debian //p' | head -n 1; }
            uri=$(mirror); [ -n \"$uri\" ] || { apt-get -qq update && uri=$(mirror); }
            exec mmdebstrap --mode=root --format=directory --variant=$4 --include=$2 $1 $3 \\
                \"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri $1 main\"";
        let attempt = || {
            let _ = fs::remove_dir_all(&half);
            let mut shell = Command::new("sh");
            shell.args(["-c", script, "sh", suite, packages]);
            Ended::of(shell.arg(&half).arg(variant))
        };
        // A mirror that many ask at once refuses now and then.
        let mut said = attempt();
        for _ in 0..5 {
            if said.code != 0 {
                thread::sleep(Duration::from_secs(15));
                said = attempt();
            }
        }
        assert_eq!(said.code, 0, "mmdebstrap {suite}: {said:?}");
        fs::rename(&half, &root).expect("renamed");
    }
    root
}

/// A root of a test's own, in which programs run; gone with it.
pub struct Machine(PathBuf);

impl Machine {
    pub fn new(name: &str, suite: &str, packages: &str) -> Machine {
        let from = root(suite, packages);
        let place = from
            .parent()
            .expect("a folder")
            .join(format!("machine-{name}"));
        let _ = fs::remove_dir_all(&place);
        // Links in place of copies: whatever changes a file here makes a new one, as dpkg and rpm do.
        let said = Ended::of(Command::new("cp").arg("-al").arg(from).arg(&place));
        assert_eq!(said.code, 0, "{said:?}");
        Machine(place)
    }

    /// Its root directory.
    pub fn root(&self) -> &Path {
        &self.0
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name.trim_start_matches('/'))
    }

    pub fn has(&self, name: &str) -> bool {
        self.path(name).symlink_metadata().is_ok()
    }

    /// What is in a file; empty where there is none.
    pub fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        let _ = fs::remove_file(&path);
        fs::write(path, text).expect("written");
    }

    /// A program of a few lines.
    pub fn executable(&self, name: &str, text: &str) {
        self.write(name, text);
        let mode = PermissionsExt::from_mode(0o755);
        fs::set_permissions(self.path(name), mode).expect("set");
    }

    /// Lays a file of this host into its root directory; its path there.
    pub fn bring(&self, file: &Path) -> String {
        let name = file.file_name().expect("a name").to_string_lossy();
        fs::copy(file, self.path(&name)).expect("copied");
        format!("/{name}")
    }

    /// Runs a script in it, with its own /proc.
    pub fn run(&self, script: &str) -> Ended {
        let enter = "mount -t proc proc \"$1/proc\" && exec chroot \"$1\" /bin/sh -c \"$2\"";
        Ended::of(
            Command::new("unshare")
                .args(["-m", "--propagation", "private", "sh", "-c", enter, "sh"])
                .arg(&self.0)
                .arg(script)
                .env_clear()
                .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
                .env("DEBIAN_FRONTEND", "noninteractive")
                .stdin(std::process::Stdio::null()),
        )
    }

    /// Runs a script that must succeed; what it printed, errors after the rest.
    pub fn must(&self, script: &str) -> String {
        let said = self.run(script);
        assert_eq!(said.code, 0, "{script}\n{}{}", said.stdout, said.stderr);
        format!("{}{}", said.stdout, said.stderr)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
