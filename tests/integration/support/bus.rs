//! A run on a bus of its own, and those who look at it there.

use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::binary::{Binary, Ended, GENEROUS, Running, sh, until, wait_until};
use super::daemon::Daemon;
use super::signals;

pub const NAME: &str = "org.farewell.Agent1";
pub const PATH: &str = "/org/farewell/Agent1";

/// What makes a command one of somebody who may do nothing.
pub const NOBODY: [&str; 4] = [
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
];

/// A step that waits for a file, and says when it does.
pub fn gate(name: &str) -> String {
    let script = format!("touch @/{name}-on; {}", until(&format!("@/{name}-go")));
    sh(name, &script, "timeout = \"80s\"")
}

/// A configuration and a state directory, and a bus that may be there.
pub struct Scene {
    pub binary: Binary,
    pub bus: Option<Daemon>,
}

impl Scene {
    pub fn new(name: &str, config: &str) -> Scene {
        let mut scene = Scene::without_bus(name, config);
        scene.start_bus();
        scene
    }

    pub fn without_bus(name: &str, config: &str) -> Scene {
        let binary = Binary::new(&format!("dbus-{name}"), config);
        Scene { binary, bus: None }
    }

    pub fn start_bus(&mut self) {
        self.bus = Some(Daemon::start(&self.binary.dir.0, true));
    }

    pub fn signal_bus(&self, signal: Signal) {
        let pid = self.bus.as_ref().expect("a bus").pid();
        signals::send(pid, signal);
    }

    pub fn spawn(&self, words: &[&str]) -> Running {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        self.binary.dress(&mut command);
        Running::spawn(&mut command)
    }

    /// busctl on the bus of the test, by root or after `before`.
    pub fn busctl(&self, before: &[&str], arguments: &[&str]) -> Ended {
        let address = format!("--address={}", self.binary.bus());
        let words = [before, &["busctl", "--json=short", &address], arguments].concat();
        self.spawn(&words).end(GENEROUS)
    }

    pub fn property_by(&self, before: &[&str], name: &str) -> Option<Value> {
        let ended = self.busctl(before, &["get-property", NAME, PATH, NAME, name]);
        let value: Value = serde_json::from_str(&ended.stdout).ok()?;
        Some(value["data"].clone())
    }

    pub fn property(&self, name: &str) -> Value {
        self.property_by(&[], name).expect("a run on the bus")
    }

    pub fn wait_for_name(&self) {
        wait_until("the run is on the bus", || {
            self.property_by(&[], "RunId").is_some()
        });
    }

    /// Hears everything on the bus from now on.
    pub fn monitor(&self) -> Monitor {
        let address = format!("--address={}", self.binary.bus());
        let monitor = self.spawn(&["busctl", "--json=short", &address, "monitor"]);
        let ask = [
            "call",
            "org.freedesktop.DBus",
            "/",
            "org.freedesktop.DBus",
            "GetId",
        ];
        wait_until("the monitor hears", || {
            self.busctl(&[], &ask);
            monitor.told().contains("GetId")
        });
        Monitor(monitor)
    }

    /// `farewell status` of somebody whose state directory is `state`, not root's.
    pub fn status(&self, before: &[&str], state: &str, arguments: &[&str]) -> Running {
        let farewell = env!("CARGO_BIN_EXE_farewell");
        let mut command = match before {
            [] => Command::new(farewell),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(farewell);
                command
            }
        };
        command.arg("status").args(arguments);
        self.binary.dress(&mut command);
        command.env("STATE_DIRECTORY", self.binary.dir.file(state));
        Running::spawn(&mut command)
    }
}

/// What was heard on the bus.
pub struct Monitor(Running);

impl Monitor {
    /// The signals of the run: their members and bodies.
    pub fn signals(&self) -> Vec<(String, Value)> {
        let told = self.0.told();
        let whole = told.split_inclusive('\n').filter(|it| it.ends_with('\n'));
        let messages = whole.map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let mine = messages.filter(|it| it["type"] == "signal" && it["path"] == PATH);
        mine.map(|it| {
            let member = it["member"].as_str().expect("a member").to_owned();
            (member, it["payload"]["data"].clone())
        })
        .collect()
    }

    pub fn count(&self, member: &str) -> usize {
        let signals = self.signals();
        signals.iter().filter(|(name, _)| name == member).count()
    }

    /// The signals up to the end of the run.
    pub fn all(&self) -> Vec<(String, Value)> {
        wait_until("the end was heard", || self.count("RunFinished") > 0);
        self.signals()
    }
}
