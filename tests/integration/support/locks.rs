//! Members of a fleet that take a lock and give it back, without a runner, and with the program itself.

use std::time::Duration;

use farewell::config::facts::Facts;
use farewell::model::deadline::{Deadline, Reason};
use farewell::model::error::Failure;
use farewell::model::intent::{Chain, Intent};
use farewell::model::trigger::Trigger;
use farewell::step::{Action, AttemptContext, Outcome, StepSpec};
use farewell::steps::KINDS;

use super::binary::{Binary, GENEROUS, wait_until};
use super::{Run, read};

/// A member with one lock.
pub struct Member {
    pub run: Run,
    pub step: StepSpec,
}

impl Member {
    /// One that is gone after its run.
    pub fn new(name: &str, keys: &str) -> Member {
        Member::on(Trigger::Poweroff, name, keys)
    }

    pub fn on(trigger: Trigger, name: &str, keys: &str) -> Member {
        Member {
            run: Run {
                facts: Facts::new(trigger, name),
                ..Run::new()
            },
            // A password that stands in the configuration is a warning.
            step: read(&format!("kind = \"lock\"\n{keys}")).0.expect("a lock"),
        }
    }

    pub fn context(&self, time: Duration) -> AttemptContext<'_> {
        AttemptContext {
            attempt_timeout: self.run.attempt_timeout.min(time),
            ..self.run.context(time)
        }
    }

    pub fn take(&self, time: Duration) -> Result<Outcome, Failure> {
        self.step.action.attempt(&self.context(time))
    }

    /// Why it does not get a lock that is held: its time is over, and it has left the queue in the last tenth of it. A
    /// machine that is too slow for that gets more time; `renew` keeps the lock held meanwhile.
    pub fn waits_in_vain(&self, renew: impl Fn()) -> Failure {
        let mut times = [2, 10, 20, 20, 20].map(Duration::from_secs).into_iter();
        loop {
            let time = times.next().expect("a server that answers in two seconds");
            renew();
            let failure = self.take(time).expect_err("it is held");
            if !failure.retryable {
                return failure;
            }
        }
    }

    /// As a runner does: again while it may pass.
    pub fn take_again(&self, time: Duration) -> Result<Outcome, Failure> {
        let deadline = Deadline::after(time, Reason::Timeout);
        loop {
            let left = deadline.left().unwrap_or(Duration::from_millis(1));
            match self.take(left) {
                Err(failure) if failure.retryable && deadline.left().is_some() => {
                    std::thread::sleep(Duration::from_millis(100));
                }
                ended => return ended,
            }
        }
    }

    /// What it owes at the end of the run.
    pub fn close(&self, time: Duration) -> Result<Outcome, Failure> {
        let owed = self.step.held.as_ref().expect("a release");
        owed.release.attempt(&self.context(time))
    }

    pub fn renew(&self, time: Duration) -> Result<Outcome, Failure> {
        let owed = self.step.held.as_ref().expect("a renewal");
        let (_, renewal) = owed.renewal.as_ref().expect("a renewal");
        renewal.attempt(&self.context(time))
    }

    pub fn rehearse(&self, time: Duration) -> Result<String, Failure> {
        self.step.action.rehearse(&self.context(time))
    }

    /// What is to be undone.
    pub fn pending(&self) -> Vec<Intent> {
        self.run.recorder.pending()
    }

    /// Undoes it as the next start does.
    pub fn undo(&self, intent: &Intent, time: Duration) -> Result<Outcome, Failure> {
        undo(intent).attempt(&self.context(time))
    }

    /// Waits until it says that it waits for something with these words in it.
    pub fn waits_for(&self, words: &str) {
        wait_until(words, || {
            self.run.waiting().iter().any(|it| it.contains(words))
        });
    }
}

pub fn undo(intent: &Intent) -> Box<dyn Action> {
    let kind = KINDS.iter().find(|it| it.name == "lock").expect("a kind");
    (kind.undo.expect("an undo"))(&Chain::new(intent.clone())).expect("it is its own")
}

/// A configuration with a lock, and a command behind it.
pub fn config(keys: &str, timeout: &str, script: &str) -> String {
    format!(
        "[farewell]\nbudget = \"100s\"\nreserve = \"20s\"\n\
         [[step]]\nname = \"lock\"\nkind = \"lock\"\ntimeout = {timeout:?}\nattempt-timeout = \"5s\"\non-failure = \"stop\"\n{keys}\n\
         [[step]]\nname = \"in\"\nkind = \"command\"\nargv = [\"/bin/sh\", \"-c\", {script:?}]\ntimeout = \"60s\"\n"
    )
}

/// A process that holds a lock and is killed, with the command that it runs; the place keeps its record.
pub fn die_holding(name: &str, keys: &str) -> Binary {
    let binary = Binary::new(name, "");
    let pid = binary.dir.file("pid");
    binary.configure(&config(
        keys,
        "30s",
        &format!("echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 60"),
    ));
    let run = binary.start(&["run", "--trigger", "poweroff"]);
    wait_until("it is inside", || std::path::Path::new(&pid).exists());
    run.signal(nix::sys::signal::Signal::SIGKILL);
    run.end(GENEROUS);
    let child = std::fs::read_to_string(&pid).expect("read");
    let child = child.trim().parse().expect("a pid");
    let _ = nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(child),
        nix::sys::signal::Signal::SIGKILL,
    );
    binary
}
