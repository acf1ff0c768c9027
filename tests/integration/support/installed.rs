//! The program where it is installed: its configuration in /etc, /usr/lib and /run, in a mount namespace of its own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::Dir;
use super::binary::Ended;

/// What stands at /etc/farewell, /run/farewell and /usr/lib/farewell while a program runs.
pub struct Installed(pub Dir);

impl Installed {
    pub fn new(name: &str) -> Installed {
        let dir = Dir::new(name);
        for part in ["etc", "run", "usr", "state"] {
            fs::create_dir(dir.0.join(part)).expect("made");
        }
        Installed(dir)
    }

    /// With this main file.
    pub fn with(name: &str, config: &str) -> Installed {
        let installed = Installed::new(name);
        installed.write("etc/farewell.toml", config);
        installed
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.0.join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> &Installed {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, text).expect("written");
        self
    }

    /// What is in a file; empty where there is none.
    pub fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Runs the program under this name, with the files of `units` in /etc/systemd/system, with nothing but the path and its state directory in its environment. The
    /// kernel log is the file `kmsg`.
    pub fn run(&self, name: &str, arguments: &[&str]) -> Ended {
        Ended::of(&mut self.command(name, arguments, &[]))
    }

    /// The same as a command, in further namespaces.
    pub fn command(&self, name: &str, arguments: &[&str], namespaces: &[&str]) -> Command {
        self.write("kmsg", "");
        // Overlays over the parents, so that the mount points cost this machine nothing.
        let script = "set -e; place=$1; program=$2; name=$3; shift 3; \
            mount -t tmpfs none /mnt; cp \"$program\" /mnt/$name; mount --bind \"$place/kmsg\" /dev/kmsg; \
            for pair in etc:/etc run:/run usr:/usr/lib; do \
                from=$place/${pair%%:*}; to=${pair#*:}; \
                mkdir -p /mnt/upper$to/farewell /mnt/work$to; \
                mount -t overlay -o lowerdir=$to,upperdir=/mnt/upper$to,workdir=/mnt/work$to none $to; \
                mount --bind $from $to/farewell; \
            done; \
            [ ! -d $place/units ] || mount --bind $place/units /etc/systemd/system; \
            cd /; exec env -i PATH=/usr/bin:/bin STATE_DIRECTORY=$place/state /mnt/$name \"$@\" </dev/null";
        let mut command = Command::new("unshare");
        command
            .args(namespaces)
            .args(["-m", "--propagation", "private", "sh", "-c", script, "sh"])
            .arg(&self.0.0)
            .arg(env!("CARGO_BIN_EXE_farewell"))
            .arg(name)
            .args(arguments);
        command
    }
}
