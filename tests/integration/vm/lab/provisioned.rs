//! Packer's provisioners at work without a boot: in a copy of an image's root file system, where nothing but sshd runs.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::image;
use super::machine::GENEROUS;
use super::packed::Packed;
use super::tool;
use crate::support::ports::ports;

const SOURCE: &str = env!("CARGO_MANIFEST_DIR");

/// Lays the root file system, which is gone with its mount namespace, and runs sshd there for root alone.
const ROOM: &str = r#"set -eu; disk=$1; dir=$2; port=$3
    mkdir "$dir/room"
    mount -t tmpfs none "$dir/room"
    cd "$dir/room"
    mkdir lower upper work root
    mount -o loop,ro,noload "$disk" lower
    mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work none root
    mount --rbind /dev root/dev
    mount -t proc none root/proc
    mkdir -p root/run/sshd root/root/.ssh root/var/lib/farewell/runs
    echo 00000000000000000000000000000bad >root/etc/machine-id
    echo >root/var/lib/farewell/runs/1.jsonl
    chmod 700 root/root/.ssh
    cp "$dir/key.pub" root/root/.ssh/authorized_keys
    chroot root ssh-keygen -q -t ed25519 -N '' -f /run/sshd/key
    exec chroot root /usr/sbin/sshd -D -e -p "$port" -h /run/sshd/key -o ListenAddress=127.0.0.1 -o UsePAM=no"#;

/// A root file system with sshd, ended with it.
pub struct Room {
    sshd: Child,
    port: u16,
    dir: PathBuf,
}

impl Room {
    /// One in `dir`, which is made.
    pub fn new(image: &Packed, dir: &Path) -> Room {
        fs::create_dir(dir).expect("made");
        tool::must(
            Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(dir.join("key")),
        );
        let port = ports(1)[0];
        let log = fs::File::create(dir.join("sshd.log")).expect("a file");
        let sshd = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "-m"])
            .args(["--propagation", "private", "sh", "-c", ROOM, "sh"])
            .args([&image.raw, dir])
            .arg(port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("setpriv (apt install util-linux)");
        let mut room = Room {
            sshd,
            port,
            dir: dir.to_owned(),
        };
        let end = Instant::now() + GENEROUS;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = room.sshd.try_wait().expect("it is a child");
            assert!(
                ended.is_none() && Instant::now() < end,
                "sshd does not run: {}",
                fs::read_to_string(dir.join("sshd.log")).unwrap_or_default()
            );
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        room
    }

    /// Has Packer do there what it does on a build machine, with these variables; whether it succeeded, and what it said.
    pub fn provision(&self, variables: &[String]) -> (bool, String) {
        let builders = "[\"source.qemu.farewell\"]";
        let template = Path::new(SOURCE).join("packer/farewell.pkr.hcl");
        let template = fs::read_to_string(template).expect("the template");
        assert!(template.contains(builders), "it has other sources");
        let there = format!(
            "\nsource \"null\" \"farewell\" {{\n  ssh_host = \"127.0.0.1\"\n  ssh_port = {}\n  \
             ssh_username = \"root\"\n  ssh_private_key_file = \"{}\"\n}}\n",
            self.port,
            self.dir.join("key").display()
        );
        let path = self.dir.join("farewell.pkr.hcl");
        let template = template.replace(builders, "[\"source.null.farewell\"]") + &there;
        fs::write(&path, template).expect("written");
        let binary = self.dir.join("farewell");
        fs::write(&binary, image::binary()).expect("written");
        let own = [
            format!("binary={}", binary.display()),
            format!("tree={SOURCE}"),
            format!("output={}", self.dir.join("image").display()),
        ];
        let mut command = Command::new("packer");
        command.arg("build");
        for variable in own.iter().chain(variables) {
            command.args(["-var", variable]);
        }
        let output = command
            .arg(path)
            .current_dir(&self.dir)
            .env("PACKER_NO_COLOR", "1")
            .env("CHECKPOINT_DISABLE", "1")
            .stdin(Stdio::null())
            .output()
            .expect("packer (apt install packer)");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        fs::write(self.dir.join("packer.log"), &said).expect("written");
        (output.status.success(), said)
    }

    /// What a file there has in it; none where there is no such file.
    pub fn file(&self, path: &str) -> Option<String> {
        let root = format!("/proc/{}/root", self.sshd.id());
        fs::read_to_string(Path::new(&root).join(path.trim_start_matches('/'))).ok()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = self.sshd.kill();
        let _ = self.sshd.wait();
    }
}
