//! The real binary with a configuration and a state directory of its own.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Dir;
use super::program::farewell;

/// A place to run farewell in.
pub struct Binary {
    pub dir: Dir,
}

/// How a verb ended.
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Binary {
    /// A place of that name, which no other test uses, with this configuration.
    pub fn new(name: &str, config: &str) -> Binary {
        let binary = Binary {
            dir: Dir::new(name),
        };
        binary.configure(config);
        binary
    }

    pub fn configure(&self, config: &str) {
        std::fs::write(self.dir.file("farewell.toml"), config).expect("written");
    }

    /// `farewell VERB…` with its configuration, its state directory and an empty environment.
    pub fn command(&self, verb: &[&str]) -> Command {
        let mut command = farewell();
        command
            .args(verb)
            .args(["--config", &self.dir.file("farewell.toml")])
            .args(["--state", &self.dir.file("state")])
            .stdin(Stdio::null());
        command
    }

    pub fn start(&self, verb: &[&str]) -> Child {
        self.command(verb)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts")
    }

    pub fn verb(&self, verb: &[&str]) -> Ended {
        let begun = Instant::now();
        let output = self.command(verb).output().expect("it starts");
        Ended {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
            took: begun.elapsed(),
        }
    }

    /// What `report --json` prints; `null` where there is no run yet.
    pub fn report(&self) -> Value {
        serde_json::from_str(&self.verb(&["report", "--json"]).stdout).unwrap_or_default()
    }

    /// Waits until a step is in this state.
    pub fn wait_for(&self, step: &str, state: &str) {
        let end = Instant::now() + Duration::from_secs(60);
        while step_of(&self.report(), step)["state"] != state {
            assert!(Instant::now() < end, "{step} is not {state} after 60 s");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A step of a report, by its name.
pub fn step_of(report: &Value, name: &str) -> Value {
    let steps = report["steps"].as_array().map_or(&[][..], Vec::as_slice);
    let step = steps.iter().find(|step| step["name"] == name);
    step.cloned().unwrap_or_default()
}
