//! A step of the plan.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::config::section::Field;
use crate::model::trigger::{ComesBack, Trigger};
use crate::step::{Action, AttemptPolicy, CapturedName, Dependencies, Held};

/// The shortest default of `attempt-timeout`.
const SHORTEST_ATTEMPT: Duration = Duration::from_secs(2);

/// The `attempt-timeout` of a step that is retried, where the configuration gives none.
pub fn attempt_timeout(timeout: Duration) -> Duration {
    (timeout / 3).max(SHORTEST_ATTEMPT)
}

/// What a failure of a step means for those that have not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// Nothing: they run anyway.
    Continue,
    /// They are cancelled, except those marked `always`.
    Stop,
}

/// A step of the plan. Other steps are named by their index in it.
pub struct Step {
    /// Its unique name.
    pub name: String,
    /// The name of its kind.
    pub kind: &'static str,
    /// The steps that must have ended before it begins.
    pub after: Vec<usize>,
    /// The limit of the whole step.
    pub timeout: Duration,
    /// The limit of one attempt.
    pub attempt_timeout: Duration,
    /// How many attempts are made at most; `None`: as many as the time allows.
    pub attempts: Option<u32>,
    /// What its failure means for the others.
    pub on_failure: OnFailure,
    /// The triggers that it runs on.
    pub when: Vec<Trigger>,
    /// The path that must exist for it to run.
    pub if_path: Option<Field<PathBuf>>,
    /// The unit that must be loaded and not inactive for it to run.
    pub if_unit: Option<Field<String>>,
    /// Whether it runs even after a stop, or when only the reserve is left.
    pub always: bool,
    /// Units that must still run while it runs.
    pub needs: Vec<String>,
    /// What an attempt does.
    pub action: Arc<dyn Action>,
    /// How attempts use its time.
    pub policy: AttemptPolicy,
    /// The time it needs to end after cancellation.
    pub grace: Duration,
    /// What it uses on this machine.
    pub dependencies: Dependencies,
    /// What it captures for later steps.
    pub captures: Vec<CapturedName>,
    /// What it uses of other steps, as it is written: known only while a run lasts.
    pub uses: Vec<String>,
    /// Whether `farewell start` may have to undo it.
    pub is_undone: bool,
    /// Whether it may stop the application.
    pub may_stop: bool,
    /// What it holds until the end of the run.
    pub held: Option<Held>,
    /// Whether it removes something that is not restored.
    pub is_permanent: bool,
    /// Whether it releases what another step holds, at the end of every run, even of one that is told to end at once.
    pub is_release: bool,
}

impl Step {
    /// A step that runs on every trigger, waits for no other, and retries `action` for as long as `timeout` allows.
    pub fn new(
        name: String,
        kind: &'static str,
        action: Arc<dyn Action>,
        timeout: Duration,
    ) -> Step {
        Step {
            name,
            kind,
            after: Vec::new(),
            timeout,
            attempt_timeout: attempt_timeout(timeout).min(timeout),
            attempts: None,
            on_failure: OnFailure::Continue,
            when: Trigger::ALL.to_vec(),
            if_path: None,
            if_unit: None,
            always: false,
            needs: Vec::new(),
            action,
            policy: AttemptPolicy::Retried,
            grace: Duration::ZERO,
            dependencies: Dependencies::default(),
            captures: Vec::new(),
            uses: Vec::new(),
            is_undone: false,
            may_stop: false,
            held: None,
            is_permanent: false,
            is_release: false,
        }
    }

    /// Why it is skipped on `trigger`, if it is. A machine that comes back misses what was deleted for good: if it is unknown
    /// whether it does, such a step runs only if its `when` leaves out restarts.
    pub fn skipped(&self, trigger: Trigger, comes_back: ComesBack) -> Option<String> {
        if !self.when.contains(&trigger) {
            return Some(format!("not on {trigger}"));
        }
        let is_for_restarts = self.when.iter().any(|it| it.restarts());
        (self.is_permanent && is_for_restarts && comes_back == ComesBack::Unknown).then(|| {
            "it deletes for good, and it is unknown whether this machine comes back; it then runs only if its \
             `when` leaves out reboot, kexec and soft-reboot"
                .to_owned()
        })
    }
}
