//! A machine of a scenario.

use std::fs;
use std::io::{BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use super::clients::Clients;
use super::end::{self, BEGINS, End};
use super::frozen::{BOOT, frozen};
use super::qemu::{Boot, Disk, Qemu};
use super::shell::{Answer, Shell};
use super::stage::Stage;
use crate::support::ports::ports;
use crate::support::registry::Registry;
use crate::support::servers::read_request;

/// What a command may take that ends by itself, on the slowest machine.
pub const GENEROUS: Duration = Duration::from_secs(120);

/// What a machine may take to go down, beside what its farewell takes.
const DOWN: Duration = Duration::from_secs(240);

/// A machine, ended with it; what it has left is read even then.
pub struct Machine {
    qemu: Qemu,
    shell: Shell,
    dir: PathBuf,
    disk: PathBuf,
    format: &'static str,
    read: bool,
}

impl Machine {
    /// One that is up and idle: a layer of its own over the frozen machine's disk, and the frozen memory.
    pub fn wake(stage: &Stage) -> Machine {
        let frozen = frozen(stage.release);
        let disk = stage.dir.join("disk");
        super::tool::must(
            Command::new("qemu-img")
                .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
                .args([&frozen.disk, &disk]),
        );
        let mut machine = Machine::start(stage, disk, "qcow2", Some(&frozen.memory));
        machine.qemu.go_on();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.expect("after 1970").as_secs_f64();
        let (tag, begins) = BEGINS.split_once(": ").expect("a tag");
        // Its clock still tells the time at which it was frozen.
        machine.must(&format!("date -s @{now} && logger -t {tag} '{begins}'"));
        machine
    }

    /// One that boots for the first time from a copy of an image, with a seed for cloud-init, in a directory of its own.
    pub fn instance(dir: &Path, disk: PathBuf, seed: &Path) -> Machine {
        Machine::begin(dir.to_owned(), &Boot::Disk { seed }, disk, "raw", None)
    }

    fn start(
        stage: &Stage,
        path: PathBuf,
        format: &'static str,
        memory: Option<&PathBuf>,
    ) -> Machine {
        let boot = Boot::Kernel(&frozen(stage.release).root);
        let memory = memory.map(PathBuf::as_path);
        Machine::begin(stage.dir.clone(), &boot, path, format, memory)
    }

    fn begin(
        dir: PathBuf,
        boot: &Boot,
        path: PathBuf,
        format: &'static str,
        memory: Option<&Path>,
    ) -> Machine {
        let shell = Shell::lay(&dir);
        let disk = Disk {
            path: &path,
            format,
        };
        let qemu = Qemu::start(&dir, boot, &disk, memory);
        Machine {
            qemu,
            shell,
            dir,
            disk: path,
            format,
            read: false,
        }
    }

    /// Waits until a machine that boots has its shell, early in its boot.
    pub fn wait_for_shell(&self) {
        assert!(self.shell.wait(BOOT), "it does not boot");
    }

    /// Runs a script in the machine.
    pub fn run(&mut self, script: &str) -> Answer {
        self.within(script, GENEROUS)
    }

    fn within(&mut self, script: &str, patience: Duration) -> Answer {
        let answer = self.shell.run(script, patience);
        answer.unwrap_or_else(|| panic!("no answer after {} s: {script}", patience.as_secs()))
    }

    /// Runs a script that must succeed; what it printed.
    pub fn must(&mut self, script: &str) -> String {
        let answer = self.run(script);
        assert_eq!(answer.code, 0, "{script}\n{}", answer.text);
        answer.text.trim_end().to_owned()
    }

    /// Runs a script that ends the machine before it can answer.
    pub fn leave(&mut self, script: &str) {
        self.shell.say(script);
    }

    /// Waits until a script succeeds.
    pub fn wait_for(&mut self, script: &str) {
        self.wait_within(script, GENEROUS);
    }

    /// Waits until cloud-init has done on a first boot all that it does.
    pub fn wait_for_cloud_init(&mut self) {
        self.wait_within("test -e /run/cloud-init/result.json", BOOT);
    }

    fn wait_within(&mut self, script: &str, patience: Duration) {
        let end = Instant::now() + patience;
        while self.run(script).code != 0 {
            assert!(Instant::now() < end, "waited in vain: {script}");
        }
    }

    pub fn write(&mut self, path: &str, text: &str) {
        self.must(&format!(
            "mkdir -p $(dirname {path}) && cat >{path} <<'END OF FILE'\n{text}\nEND OF FILE"
        ));
    }

    /// Brings a file of this host into the machine; its path there.
    pub fn bring(&mut self, file: &Path) -> String {
        let name = file.file_name().expect("a name").to_string_lossy();
        let content = fs::read(file).expect("read");
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let sent = std::thread::spawn(move || -> std::io::Result<()> {
            let mut stream = BufReader::new(listener.accept()?.0);
            read_request(&mut stream);
            let length = content.len();
            write!(
                stream.get_mut(),
                "HTTP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\n"
            )?;
            stream.get_mut().write_all(&content)
        });
        // Its name for the host's loopback.
        let url = format!("http://registry:{port}/");
        self.must(&format!("curl -fsS -o '/root/{name}' {url}"));
        sent.join().expect("no panic").expect("sent");
        format!("/root/{name}")
    }

    /// Gives the machine its configuration, as an image or cloud-init does, and lets farewell and systemd see it.
    pub fn configure(&mut self, config: &str) {
        self.write("/etc/farewell/farewell.toml", config);
        self.must("systemctl daemon-reload && systemctl start farewell-start.service");
    }

    /// Clients of the application, outside of the machine.
    pub fn clients(&mut self, registry: &Registry) -> Clients {
        let port = ports(1)[0];
        let forward = format!("hostfwd_add tcp:127.0.0.1:{port}-:8080");
        let said = self.qemu.monitor(&forward);
        assert_eq!(said, "", "{forward}");
        Clients::start(registry, ([127, 0, 0, 1], port).into())
    }

    /// Presses the power button once, heard or not.
    pub fn tap_power_button(&mut self) {
        self.qemu.execute("system_powerdown", serde_json::json!({}));
    }

    /// Presses the power button until the machine goes down.
    pub fn press_power_button(&mut self) {
        let before = self.console().len();
        for _ in 0..20 {
            self.tap_power_button();
            let end = Instant::now() + Duration::from_secs(3);
            while Instant::now() < end {
                if self.console()[before..].contains("Stop") {
                    return;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        panic!("it does not hear its power button");
    }

    pub fn console(&self) -> String {
        end::console(&self.dir)
    }

    /// Waits until the machine has written this to its console.
    pub fn wait_for_console(&self, part: &str) {
        let end = Instant::now() + GENEROUS;
        while !self.console().contains(part) {
            assert!(Instant::now() < end, "the console does not say {part:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the machine has powered itself off; what it has left.
    pub fn powered_off(mut self) -> End {
        assert!(self.qemu.ended(DOWN), "it does not power off");
        self.end()
    }

    /// Cuts its power, once its journal is on the disk; what it has left.
    pub fn cut(mut self) -> End {
        // systemd 252 answers the first one before the journal is on the disk; and not every file system, since a share of
        // a server that is dead would be waited for.
        self.must("journalctl --sync && sync -f /var/log/journal");
        self.qemu.cut();
        self.end()
    }

    /// Waits until the machine has gone down and is here again: its farewell is armed, or was refused.
    pub fn wait_for_boot(&mut self) {
        self.wait_for_shell();
        self.wait_for("systemctl is-active farewell.service farewell-arm.service");
    }

    /// Waits until `farewell start` has ended well since farewell.service became active.
    pub fn wait_for_start(&mut self) {
        // A soft reboot keeps what systemd knows of the last time.
        self.wait_for(
            "active=$(systemctl show -P ActiveEnterTimestampMonotonic farewell.service)
             ended=$(systemctl show -P ExecMainExitTimestampMonotonic farewell-start.service)
             test \"$ended\" -gt \"$active\" && ! systemctl -q is-failed farewell-start.service",
        );
    }

    fn end(&mut self) -> End {
        self.read = true;
        let end = End::read(&self.dir, &self.disk()).unwrap_or_else(|error| panic!("{error}"));
        for file in [
            &self.disk,
            &self.dir.join("shell.in"),
            &self.dir.join("shell.out"),
        ] {
            fs::remove_file(file).expect("removed");
        }
        end
    }

    fn disk(&self) -> Disk<'_> {
        Disk {
            path: &self.disk,
            format: self.format,
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.read {
            return;
        }
        // A scenario that failed: whoever looks for the reason needs what the machine has said so far.
        self.qemu.cut();
        if let Err(error) = End::read(&self.dir, &self.disk()) {
            super::tool::say(error);
        }
    }
}
