//! What the integration tests share: attempts of a step, and the servers that they meet.

pub mod acts;
pub mod binary;
pub mod bus;
pub mod caller;
pub mod case;
pub mod consul;
pub mod daemon;
pub mod dataplane_stand_in;
pub mod etcd;
pub mod eureka;
pub mod fetched;
pub mod fleetlock_stand_in;
pub mod fuse;
pub mod hazelcast;
pub mod installed;
pub mod journal;
pub mod locks;
pub mod loopback;
pub mod manual;
pub mod member;
pub mod nacos_stand_in;
pub mod namespace;
pub mod network;
pub mod nomad_stand_in;
pub mod own_process;
pub mod ports;
pub mod rabbitmq;
pub mod recorded;
pub mod recorder;
pub mod registry;
pub mod release;
pub mod roots;
pub mod s3;
pub mod scene;
pub mod scope;
pub mod search;
pub mod servers;
pub mod signals;
pub mod spellings;
pub mod stand_in;
pub mod stand_in_etcd;
pub mod stand_in_search;
pub mod sticky;
pub mod story;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use farewell::config::document;
use farewell::config::facts::Facts;
use farewell::config::section::{Check, Reading, Section};
use farewell::model::deadline::{Deadline, Reason};
use farewell::model::error::Failure;
use farewell::model::trigger::Trigger;
use farewell::step::{AttemptContext, Outcome, StepSpec};
use farewell::steps::KINDS;
use farewell::sys::cancel::Cancel;
use farewell::sys::http::Http;

use recorder::Recorder;

/// A run without a runner.
pub struct Run {
    pub http: Http,
    pub facts: Facts,
    pub cancel: Cancel,
    pub recorder: Recorder,
    pub attempt_timeout: Duration,
}

impl Run {
    pub fn new() -> Self {
        Run {
            http: Http::new(),
            facts: Facts::new(Trigger::Poweroff, "run-1"),
            cancel: Cancel::new().expect("descriptors"),
            recorder: Recorder::default(),
            attempt_timeout: Duration::from_secs(60),
        }
    }

    /// The context of one attempt that must end within `time`.
    pub fn context(&self, time: Duration) -> AttemptContext<'_> {
        AttemptContext {
            deadline: Deadline::after(time, Reason::Timeout),
            attempt_timeout: self.attempt_timeout,
            cancel: &self.cancel,
            facts: &self.facts,
            http: &self.http,
            events: &self.recorder,
            needed: &Vec::new,
        }
    }

    /// One attempt that must end within `time`.
    pub fn attempt(&self, step: &StepSpec, time: Duration) -> Result<Outcome, Failure> {
        step.action.attempt(&self.context(time))
    }

    /// One rehearsal that must end within `time`.
    pub fn rehearse(&self, step: &StepSpec, time: Duration) -> Result<String, Failure> {
        step.action.rehearse(&self.context(time))
    }

    /// Attempts as a runner makes them: again while the failure passes.
    pub fn retry(&self, step: &StepSpec, time: Duration) -> Result<Outcome, Failure> {
        let deadline = Deadline::after(time, Reason::Timeout);
        loop {
            let left = deadline.left().unwrap_or(Duration::from_millis(1));
            match self.attempt(step, left.min(Duration::from_secs(15))) {
                Err(failure) if failure.retryable && deadline.left().is_some() => {
                    std::thread::sleep(Duration::from_millis(200));
                }
                ended => return ended,
            }
        }
    }

    pub fn waiting(&self) -> Vec<String> {
        self.recorder.waiting()
    }

    pub fn remarks(&self) -> Vec<String> {
        self.recorder.remarks()
    }
}

/// Reads a step from its keys.
pub fn read(text: &str) -> (Option<StepSpec>, Vec<String>, Vec<Check>) {
    let document::Document { table, errors, .. } = document::parse(text);
    assert!(errors.is_empty(), "{errors:?}");
    let reading = Reading::new(Path::new("test.toml"), None, None);
    let section = Section::new(&reading, &table, 1);
    let word = section.word("kind").expect("a kind");
    let kind = KINDS
        .iter()
        .find(|kind| kind.name == word)
        .expect("a known kind");
    let spec = (kind.read)(&section);
    drop(section);
    let (problems, checks) = reading.finish();
    let problems = problems.iter().map(ToString::to_string).collect();
    (spec, problems, checks)
}

/// A step that has no problems.
pub fn step(text: &str) -> StepSpec {
    let (spec, problems, _) = read(text);
    assert!(problems.is_empty(), "{problems:?}");
    spec.expect("a step")
}

/// A step that has no problems but warnings.
pub fn step_with_warnings(text: &str) -> StepSpec {
    let (spec, problems, _) = read(text);
    let is_warning = |it: &String| it.contains(": warning: ");
    assert!(problems.iter().all(is_warning), "{problems:?}");
    spec.expect("a step")
}

/// The problems of a step, on one line each.
pub fn problems(text: &str) -> String {
    read(text).1.join("\n")
}

/// An empty directory of one test, removed with it.
pub struct Dir(pub std::path::PathBuf);

impl Dir {
    pub fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("farewell-test-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a directory");
        Dir(path)
    }

    pub fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// Makes it a directory of credentials that has this one.
    pub fn credential(&self, name: &str, secret: &str) {
        let file = self.0.join(name);
        std::fs::write(&file, secret).expect("written");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("set");
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
