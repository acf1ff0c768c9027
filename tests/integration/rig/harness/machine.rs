//! A machine that runs.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::console::Console;
use super::end::{End, story};
use super::keeper::{GENEROUS, Keeper};
use super::life::Life;
use super::network::Cable;
use crate::support::binary::{self, Ended};
use crate::support::journal::Journal;

/// A machine of a case; whatever happens, nothing of it is left when this is gone.
pub struct Machine {
    keeper: Option<Keeper>,
    /// The process outside whose child is PID 1, and which ends with it.
    process: Child,
    console: Option<Console>,
    pid1: Pid,
    /// To the test, where it has one.
    cable: Option<Cable>,
    commands: AtomicU32,
}

/// A PID 1 that does nothing until this is gone.
pub struct Frozen(Pid);

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

/// A command that runs in a machine; killed with this.
pub struct Running {
    child: Child,
    script: String,
    place: PathBuf,
    begun: Instant,
}

impl Machine {
    pub(super) fn boot(keeper: Keeper, networked: bool, unbooted: bool) -> Machine {
        let log = File::options()
            .create(true)
            .append(true)
            .open(keeper.dir.join("boot"));
        let log = log.expect("a file");
        let console = Console::new(&keeper.dir.join("console"));
        let mut command = keeper.boot(&console.terminal);
        command.stdout(log.try_clone().expect("a file")).stderr(log);
        let process = command.spawn().expect("nsenter");
        let mut machine = Machine {
            keeper: Some(keeper),
            process,
            console: Some(console),
            pid1: Pid::from_raw(0),
            cable: None,
            commands: AtomicU32::new(0),
        };
        machine.find_pid1();
        machine.cable = networked.then(|| Cable::lay(machine.pid1));
        if !unbooted {
            machine.wait_for_boot();
        }
        machine
    }

    fn find_pid1(&mut self) {
        let begun = Instant::now();
        let id = self.process.id();
        loop {
            let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
            let child = children.unwrap_or_default().trim().to_owned();
            let name = fs::read_to_string(format!("/proc/{child}/comm")).unwrap_or_default();
            if name.trim() == "systemd" {
                self.pid1 = Pid::from_raw(child.parse().expect("a number"));
                return;
            }
            let ended = self.process.try_wait().expect("waited");
            assert!(ended.is_none(), "no PID 1: {ended:?}");
            assert!(begun.elapsed() < GENEROUS, "no PID 1");
            pause();
        }
    }

    /// Waits until everything that starts at the boot has started, or failed.
    pub fn wait_for_boot(&self) {
        self.wait_for(
            "case $(systemctl is-system-running) in running | degraded) ;; *) false ;; esac",
        );
    }

    /// Waits until `farewell start` has ended well since farewell.service became active.
    pub fn wait_for_start(&self) {
        // A soft reboot keeps what systemd knows of the last time.
        self.wait_for(
            "active=$(systemctl show -P ActiveEnterTimestampMonotonic farewell.service)
             ended=$(systemctl show -P ExecMainExitTimestampMonotonic farewell-start.service)
             test \"$ended\" -gt \"$active\" && ! systemctl -q is-failed farewell-start.service",
        );
    }

    fn keeper(&self) -> &Keeper {
        self.keeper.as_ref().expect("until it has ended")
    }

    /// PID 1 outside of the machine.
    pub fn pid1(&self) -> Pid {
        self.pid1
    }

    /// Where a file of the machine is on this one.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.pid1))
    }

    /// What is in a file of the machine; empty where there is none.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    /// Writes a file in the machine.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }

    /// Starts a script in the machine, by root's bash in a fresh environment.
    pub fn start(&self, script: &str) -> Running {
        let number = self.commands.fetch_add(1, Ordering::Relaxed);
        let place = self.keeper().dir.join(format!("command-{number}"));
        let file = |end: &str| File::create(place.with_extension(end)).expect("a file");
        let mut command = Command::new("nsenter");
        command
            // Without a fork of its own: it would stop itself where the shutdown stops its child, and never reap it.
            .args([
                "-F",
                "-t",
                &self.pid1.to_string(),
                "-m",
                "-p",
                "-u",
                "-i",
                "-n",
                "-C",
                "-r",
                "-w",
            ])
            .args(["env", "-i", "HOME=/root", "LANG=C.UTF-8", "TERM=dumb"])
            .arg("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            // Only what this shell starts is in the machine's PID namespace.
            .args(["bash", "-c", "bash -c \"$0\"; exit $?", script])
            .stdin(Stdio::null())
            .stdout(file("out"))
            .stderr(file("err"));
        Running {
            child: command.spawn().expect("nsenter"),
            script: script.to_owned(),
            place,
            begun: Instant::now(),
        }
    }

    /// Runs a script in the machine to its end.
    pub fn sh(&self, script: &str) -> Ended {
        self.start(script).end()
    }

    /// Runs a script that must succeed; what it printed.
    pub fn must(&self, script: &str) -> String {
        let said = self.sh(script);
        assert_eq!(said.code, 0, "{script}\n{}{}", said.stdout, said.stderr);
        said.stdout.trim_end().to_owned()
    }

    /// Waits until a script succeeds.
    pub fn wait_for(&self, script: &str) {
        let begun = Instant::now();
        loop {
            let said = self.sh(script);
            if said.code == 0 {
                return;
            }
            assert!(
                begun.elapsed() < GENEROUS,
                "waited in vain: {script}: {said:?}"
            );
            pause();
        }
    }

    /// Waits until something is so.
    pub fn wait_until(&self, what: &str, is_so: impl Fn(&Machine) -> bool) {
        let begun = Instant::now();
        while !is_so(self) {
            assert!(begun.elapsed() < GENEROUS, "waited in vain: {what}");
            pause();
        }
    }

    /// Waits until an application has written `NAME WHAT` to /rig/log.
    pub fn wait_for_life(&self, name: &str, what: &str) {
        self.wait_until(&format!("{name} {what}"), |it| {
            it.life().at(name, what).is_some()
        });
    }

    /// A property of a unit.
    pub fn property(&self, unit: &str, property: &str) -> String {
        self.must(&format!("systemctl show -P {property} -- '{unit}'"))
    }

    /// A unit's ActiveState.
    pub fn state(&self, unit: &str) -> String {
        self.property(unit, "ActiveState")
    }

    /// Writes farewell.toml, and has systemd and farewell take it over, as `farewell start` does at the boot.
    pub fn configure(&self, toml: &str) {
        self.write("/etc/farewell/farewell.toml", toml);
        self.must("systemctl daemon-reload && systemctl start farewell-start.service");
    }

    /// Runs the farewell as `systemctl stop farewell` does, and waits for its end; what `farewell report --json` says.
    pub fn farewell(&self) -> Value {
        self.must("systemctl start farewell.service && systemctl stop farewell.service");
        self.report()
    }

    /// What `farewell report --json` says of the last run.
    pub fn report(&self) -> Value {
        let said = self.sh("farewell report --json");
        serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"))
    }

    /// The state of a step in the last run.
    pub fn step(&self, name: &str) -> String {
        binary::step_of(&self.report(), name)["state"]
            .as_str()
            .expect("a state")
            .to_owned()
    }

    /// What the applications wrote so far.
    pub fn life(&self) -> Life {
        Life::read(&self.read("/rig/log"))
    }

    /// What was written to the console so far.
    pub fn console(&self) -> String {
        self.keeper().said("console")
    }

    /// The journal so far.
    pub fn journal(&self) -> Journal {
        self.must("journalctl --sync");
        Journal::read(&self.keeper().path("/var/log/journal"), "")
            .unwrap_or_else(|it| panic!("{it}"))
    }

    /// PID 1 does nothing any more until what this returns is gone.
    pub fn freeze(&self) -> Frozen {
        kill(self.pid1, Signal::SIGSTOP).expect("it is there");
        Frozen(self.pid1)
    }

    /// Runs this in the machine's network, where 127.0.0.1 is its own; sockets stay there.
    pub fn in_network<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let network = File::open(format!("/proc/{}/ns/net", self.pid1)).expect("a network");
        let thread = move || {
            setns(network, CloneFlags::CLONE_NEWNET).expect("as root");
            act()
        };
        std::thread::scope(|scope| scope.spawn(thread).join().expect("no panic"))
    }

    /// Runs a script that ends the machine, and waits for the end of PID 1.
    pub fn end(self, script: &str) -> End {
        let _ends_with_it = self.start(script);
        self.ended()
    }

    /// Waits until PID 1 has ended.
    pub fn ended(mut self) -> End {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.process.try_wait().expect("waited") {
                break status;
            }
            assert!(begun.elapsed() < GENEROUS, "it does not go down");
            pause();
        };
        // With all that was written to it.
        self.console = None;
        let keeper = self.keeper.take().expect("not ended");
        End::new(keeper, signal(status), self.cable.is_some())
    }

    /// Says everything that helps to understand a failure.
    fn tell(&self) {
        println!("{}", story(self.keeper()));
        if self.pid1.as_raw() != 0 {
            let said = self.sh("timeout -k 1 20 systemctl list-jobs --no-pager; timeout -k 1 20 systemctl --failed --no-pager");
            println!("--- jobs and failed units\n{}{}", said.stdout, said.stderr);
        }
    }
}

fn signal(status: ExitStatus) -> Option<Signal> {
    let number = status.signal().or(status.code().map(|it| it - 128))?;
    Signal::try_from(number).ok()
}

pub(super) fn pause() {
    std::thread::sleep(std::time::Duration::from_millis(30));
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() && self.keeper.is_some() {
            // A second panic that left this would end all other tests with this one.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.tell()));
        }
        drop(self.keeper.take());
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Running {
    /// Waits for its end.
    pub fn end(mut self) -> Ended {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("waited") {
                break status;
            }
            assert!(
                begun.elapsed() < GENEROUS,
                "does not end: {}\n{:?}",
                self.script,
                self.said(-1)
            );
            std::thread::sleep(std::time::Duration::from_millis(5));
        };
        self.said(status.code().unwrap_or(-1))
    }

    /// Whether it has ended.
    pub fn is_over(&mut self) -> bool {
        self.child.try_wait().expect("waited").is_some()
    }

    fn said(&self, code: i32) -> Ended {
        let text = |end: &str| {
            let bytes = fs::read(self.place.with_extension(end)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Ended {
            code,
            stdout: text("out"),
            stderr: text("err"),
            took: self.begun.elapsed(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
