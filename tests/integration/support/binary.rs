//! farewell's own program, started as its users start it.

use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::Dir;
use super::signals;

/// What anything may take that ends by itself, on the slowest machine.
pub const GENEROUS: Duration = Duration::from_secs(180);

/// What a process that was killed may take to end. What the tests start would run for longer.
pub const DYING: Duration = Duration::from_secs(30);

/// The variable that every process of a test's runs has in its environment, with the test's directory.
const MARK: &str = "FAREWELL_TEST_MARK";

/// The program with a directory of its own, for its configuration (`farewell.toml`), its records (`state`), its bus (`bus`),
/// and what its steps leave.
pub struct Binary {
    pub dir: Dir,
    pub state: PathBuf,
}

/// A command step that runs `script` in a shell; `more` are further keys.
pub fn sh(name: &str, script: &str, more: &str) -> String {
    format!(
        "[[step]]\nname = \"{name}\"\nkind = \"command\"\nargv = [\"/bin/sh\", \"-c\", '''{script}''']\n{more}\n"
    )
}

/// A script that waits until a file is there.
pub fn until(path: &str) -> String {
    format!("while [ ! -e {path} ]; do sleep 0.01; done")
}

/// The program with nothing in its environment but the path.
pub fn farewell() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_farewell"));
    empty_environment(&mut command);
    command
}

fn empty_environment(command: &mut Command) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path);
}

impl Binary {
    /// One whose directory has this name, which no other test uses; it stands in the configuration for the `@` of each `@/`.
    pub fn new(name: &str, config: &str) -> Binary {
        Binary::within(Dir::new(name), config)
    }

    pub fn within(dir: Dir, config: &str) -> Binary {
        let state = dir.0.join("state");
        let binary = Binary { dir, state };
        binary.configure(config);
        binary
    }

    pub fn configure(&self, config: &str) {
        let place = format!("{}/", self.dir.0.display());
        fs::write(self.config(), config.replace("@/", &place)).expect("written");
    }

    /// The path of the configuration.
    pub fn config(&self) -> String {
        self.dir.file("farewell.toml")
    }

    /// The verb, its arguments, and the two options.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_farewell"));
        command.args(arguments);
        command.arg("--config").arg(self.config());
        command.arg("--state").arg(&self.state);
        self.dress(&mut command);
        command
    }

    /// Marks what a command starts, and takes away what this process got from others.
    pub fn dress(&self, command: &mut Command) {
        empty_environment(command);
        // The machine's own bus is none of a test's business; where there is one in its directory, it has started it.
        command.env("DBUS_SYSTEM_BUS_ADDRESS", self.bus());
        command.env(MARK, &self.dir.0).stdin(Stdio::null());
    }

    /// The address of the bus of its own, if it has one.
    pub fn bus(&self) -> String {
        format!("unix:path={}", self.dir.file("bus"))
    }

    pub fn start(&self, arguments: &[&str]) -> Running {
        Running::spawn(&mut self.command(arguments))
    }

    /// A run as systemd starts it.
    pub fn start_by_systemd(&self) -> Running {
        let mut command = Command::new("/bin/sh");
        let script = "export SYSTEMD_EXEC_PID=$$; exec \"$0\" run --config \"$1\" --state \"$2\"";
        command.args(["-c", script, env!("CARGO_BIN_EXE_farewell")]);
        command.arg(self.config()).arg(&self.state);
        self.dress(&mut command);
        Running::spawn(&mut command)
    }

    /// Runs a verb to its end.
    pub fn verb(&self, arguments: &[&str]) -> Ended {
        self.start(arguments).end(GENEROUS)
    }

    /// What `report --json` says of the last run; `null` where there is none yet.
    pub fn report(&self) -> Value {
        serde_json::from_str(&self.verb(&["report", "--json"]).stdout).unwrap_or_default()
    }

    /// Waits until a step of the last run is in this state.
    pub fn wait_for(&self, step: &str, state: &str) {
        let what = format!("{step} to be {state}");
        wait_until(&what, || step_of(&self.report(), step)["state"] == state);
    }

    /// What a step left in a file; empty when there is none.
    pub fn text(&self, name: &str) -> String {
        fs::read_to_string(self.dir.0.join(name)).unwrap_or_default()
    }

    pub fn words(&self) -> Vec<String> {
        let text = self.text("words");
        text.split_whitespace().map(str::to_owned).collect()
    }

    pub fn exists(&self, name: &str) -> bool {
        self.dir.0.join(name).exists()
    }

    pub fn touch(&self, name: &str) {
        fs::write(self.dir.0.join(name), "").expect("written");
    }

    /// The records, oldest first.
    pub fn records(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.state.join("runs")) else {
            return Vec::new();
        };
        let mut paths: Vec<_> = entries.map(|it| it.expect("an entry").path()).collect();
        paths.sort();
        paths
    }

    /// The whole lines of the last record.
    pub fn lines(&self) -> Vec<String> {
        let record = self.records().pop();
        let bytes = record.and_then(|path| fs::read(path).ok());
        let text = String::from_utf8(bytes.unwrap_or_default()).expect("UTF-8");
        let lines = text.split_inclusive('\n').filter(|it| it.ends_with('\n'));
        lines.map(str::to_owned).collect()
    }

    /// The processes that this test's runs left, by the mark in their environment. Those that were killed get the time that
    /// a busy machine takes to end them.
    pub fn left(&self) -> Vec<String> {
        let begun = Instant::now();
        loop {
            let marked = self.marked();
            if marked.is_empty() || begun.elapsed() > DYING {
                let name = |pid: &u32| {
                    let command = fs::read_to_string(format!("/proc/{pid}/cmdline"));
                    format!("{pid}: {}", command.unwrap_or_default())
                };
                return marked.iter().map(name).collect();
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn marked(&self) -> Vec<u32> {
        let mark = format!("{MARK}={}\0", self.dir.0.display());
        let processes = fs::read_dir("/proc").expect("/proc").flatten();
        let marked = |path: &PathBuf| {
            let environment = fs::read(path.join("environ")).unwrap_or_default();
            String::from_utf8_lossy(&environment).contains(&mark)
        };
        let pid = |path: PathBuf| path.file_name()?.to_str()?.parse().ok();
        processes
            .map(|it| it.path())
            .filter(marked)
            .filter_map(pid)
            .collect()
    }
}

impl Drop for Binary {
    /// Where a run was killed, or a test has failed, its commands go on.
    fn drop(&mut self) {
        for pid in self.marked() {
            signals::kill(pid);
        }
    }
}

/// Waits until something is so.
pub fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < GENEROUS, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A process of a test, killed with it.
pub struct Running {
    child: Option<Child>,
    streams: Vec<Stream>,
    begun: Instant,
    pub pid: u32,
}

/// What comes out of a process.
struct Stream {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

/// A process that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code, or the negative number of the signal that ended it.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Ended {
    /// Runs a command to its end. A build of what is released or of an image takes minutes, and other builds may be under
    /// way.
    pub fn of(command: &mut Command) -> Ended {
        Running::spawn(command).end(20 * GENEROUS)
    }
}

impl Running {
    pub fn spawn(command: &mut Command) -> Running {
        let begun = Instant::now();
        let spawned = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = spawned.expect("started");
        let pid = child.id();
        let streams = vec![
            collect(child.stdout.take().expect("a pipe")),
            collect(child.stderr.take().expect("a pipe")),
        ];
        let child = Some(child);
        Running {
            child,
            streams,
            begun,
            pid,
        }
    }

    /// Signals it; nothing happens when it has ended.
    pub fn signal(&self, signal: Signal) {
        // It was not waited for, so that the number is still its own.
        signals::send(self.pid, signal);
    }

    /// What it has printed so far.
    pub fn told(&self) -> String {
        let bytes = self.streams[0].bytes.lock().expect("no panic");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits for its end.
    pub fn end(mut self, limit: Duration) -> Ended {
        let begun = Instant::now();
        let status = loop {
            let child = self.child.as_mut().expect("not ended");
            if let Some(status) = child.try_wait().expect("waited") {
                break status;
            }
            assert!(begun.elapsed() < limit, "does not end");
            std::thread::sleep(Duration::from_millis(1));
        };
        let took = self.begun.elapsed();
        self.child = None;
        let mut texts = self.streams.drain(..).map(|stream| {
            stream.thread.join().expect("read");
            let bytes = std::mem::take(&mut *stream.bytes.lock().expect("no panic"));
            String::from_utf8(bytes).expect("UTF-8")
        });
        Ended {
            code: status
                .code()
                .unwrap_or_else(|| -status.signal().unwrap_or_default()),
            stdout: texts.next().expect("two"),
            stderr: texts.next().expect("two"),
            took,
        }
    }
}

fn collect(mut stream: impl Read + Send + 'static) -> Stream {
    let bytes: Arc<Mutex<Vec<u8>>> = Arc::default();
    let collected = bytes.clone();
    let thread = std::thread::spawn(move || {
        let mut buffer = [0; 1 << 16];
        loop {
            match stream.read(&mut buffer).expect("read") {
                0 => return,
                length => collected
                    .lock()
                    .expect("no panic")
                    .extend(&buffer[..length]),
            }
        }
    });
    Stream { bytes, thread }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What it printed, as JSON.
pub fn json(ended: &Ended) -> Value {
    assert_eq!(ended.code, 0, "{ended:?}");
    serde_json::from_str(&ended.stdout).expect("JSON")
}

/// A step of a report, by its name; `null` where there is none.
pub fn step_of<'a>(report: &'a Value, name: &str) -> &'a Value {
    let steps = report["steps"].as_array().map_or(&[][..], Vec::as_slice);
    let step = steps.iter().find(|step| step["name"] == name);
    step.unwrap_or(&Value::Null)
}

/// The steps of a report with their states: `a done, b failed`.
pub fn states(report: &Value) -> String {
    let steps = report["steps"].as_array().expect("steps");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let states = steps.iter();
    let states = states.map(|step| format!("{} {}", text(&step["name"]), text(&step["state"])));
    states.collect::<Vec<_>>().join(", ")
}

/// What a program printed that must succeed, or else what it complained about.
pub fn printed(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}: {}", output.status, said.trim()))
}
