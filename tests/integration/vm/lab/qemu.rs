//! A machine in QEMU: its process, and QMP, over which its power button is pressed and its processors are halted.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::root::Root;

/// What an answer of QMP may take; a frozen guest's memory is read before the first one.
const PATIENCE: Duration = Duration::from_secs(120);

/// A console that is easy to read, for nobody to log in, and neither guards nor modules that an emulated processor has no
/// use for.
const KERNEL: &str = "root=/dev/vda rw console=ttyS0 loglevel=3 SYSTEMD_COLORS=0 systemd.getty_auto=no mitigations=off";

/// A QEMU process, killed with it.
pub struct Qemu {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<Value>,
    events: Vec<String>,
}

/// What a machine boots.
pub enum Boot<'a> {
    /// The kernel of a root file system, which is on the disk too.
    Kernel(&'a Root),
    /// The disk by itself, with cloud-init's seed on a second one.
    Disk { seed: &'a Path },
}

/// Where a machine's disk is.
pub struct Disk<'a> {
    pub path: &'a Path,
    pub format: &'a str,
}

impl Qemu {
    /// Starts a machine in `dir`, which gets its console, its shell and what QEMU complains about; with `memory` it
    /// wakes up from there once it is told to go on.
    pub fn start(dir: &Path, boot: &Boot, disk: &Disk, memory: Option<&Path>) -> Qemu {
        let errors = std::fs::File::create(dir.join("qemu.log")).expect("a file");
        // However the test ends, by SIGKILL too, its machine ends with it.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "qemu-system-x86_64"])
            .args([
                "-accel",
                "tcg,thread=multi",
                "-nodefaults",
                "-cpu",
                "max",
                "-m",
                "1024",
                "-smp",
                "2",
            ])
            // The host is not going to crash in the middle of a test.
            .arg("-drive")
            .arg(format!(
                "file={},format={},if=virtio,cache=unsafe",
                disk.path.display(),
                disk.format
            ))
            .args([
                "-netdev",
                "user,id=net",
                "-device",
                // It never boots from the network.
                "virtio-net-pci,netdev=net,romfile=",
            ])
            .args(["-display", "none", "-monitor", "none", "-qmp", "stdio"])
            .args(["-serial", "file:console.log"])
            .args([
                "-chardev",
                "pipe,id=shell,path=shell",
                "-serial",
                "chardev:shell",
            ])
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors);
        match boot {
            Boot::Kernel(root) => {
                command.arg("-kernel").arg(root.boot("vmlinuz-"));
                command.arg("-initrd").arg(root.boot("initrd.img-"));
                command.args(["-append", KERNEL]);
            }
            Boot::Disk { seed } => {
                let drive = format!("file={},format=raw,if=virtio,readonly=on", seed.display());
                command.arg("-drive").arg(drive);
            }
        }
        if let Some(memory) = memory {
            command.arg("-incoming");
            command.arg(format!("exec:cat '{}'", memory.display()));
        }
        let mut child = command.spawn().expect("setpriv (apt install util-linux)");
        let stdin = child.stdin.take().expect("a pipe");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let (send, lines) = channel();
        std::thread::spawn(move || {
            let lines = stdout.lines().map_while(Result::ok);
            for line in lines.filter_map(|line| serde_json::from_str(&line).ok()) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        let mut qemu = Qemu {
            child,
            stdin,
            lines,
            events: Vec::new(),
        };
        qemu.execute("qmp_capabilities", json!({}));
        if memory.is_some() {
            // What is asked of it before its memory is there gets lost.
            qemu.wait_for_status("paused");
        }
        qemu
    }

    /// Executes a command of QMP; what it returns.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Value {
        let request = json!({ "execute": command, "arguments": arguments });
        writeln!(self.stdin, "{request}").expect("QEMU reads");
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("QEMU does not answer {command}"));
            if let Some(event) = line["event"].as_str() {
                self.events.push(event.to_owned());
            } else if let Some(error) = line.get("error") {
                panic!("QMP {command}: {error}");
            } else if let Some(value) = line.get("return") {
                return value.clone();
            }
        }
    }

    /// Executes a command that only people have; what it says.
    pub fn monitor(&mut self, command: &str) -> String {
        let arguments = json!({ "command-line": command });
        let said = self.execute("human-monitor-command", arguments);
        said.as_str().unwrap_or_default().trim().to_owned()
    }

    /// Lets the guest's processors go on.
    pub fn go_on(&mut self) {
        self.execute("cont", json!({}));
    }

    /// Halts the guest's processors: to everybody else it is dead, but its connections are not closed.
    pub fn halt(&mut self) {
        self.execute("stop", json!({}));
    }

    /// Writes the memory of a halted guest to a file.
    pub fn save(&mut self, memory: &Path) {
        let fast = json!({ "max-bandwidth": 10_000_000_000_u64 });
        self.execute("migrate-set-parameters", fast);
        let uri = format!("exec:cat > '{}'", memory.display());
        self.execute("migrate", json!({ "uri": uri }));
        let end = Instant::now() + PATIENCE;
        loop {
            let told = self.execute("query-migrate", json!({}));
            match told["status"].as_str() {
                Some("completed") => return,
                Some("failed" | "cancelled") => panic!("the guest is not frozen: {told}"),
                _ => assert!(Instant::now() < end, "the guest is not frozen yet: {told}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn wait_for_status(&mut self, status: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            let told = self.execute("query-status", json!({}));
            if told["status"] == status {
                return;
            }
            assert!(Instant::now() < end, "the guest is {told}, not {status}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the process is gone; whether it is.
    pub fn ended(&mut self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self
                    .events
                    .extend(line["event"].as_str().map(str::to_owned)),
                Err(RecvTimeoutError::Timeout) => return false,
                Err(RecvTimeoutError::Disconnected) => {
                    self.child.wait().expect("waited for");
                    return true;
                }
            }
        }
    }

    /// Ends the process as if the power were cut, but with the disk as the guest has left it.
    pub fn cut(&mut self) {
        let _ = writeln!(self.stdin, "{}", json!({ "execute": "quit" }));
        if !self.ended(Duration::from_secs(20)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
