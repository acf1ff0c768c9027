//! Detects the trigger of a run from systemd's job list: the environment of `ExecStop=` does not tell it.

mod inquiry;

use std::time::Duration;

use log::Level;

use crate::logging::message_id;
use crate::model::deadline::{Deadline, Reason};
use crate::model::trigger::{Diagnosis, Trigger};
use crate::sys::package_manager;
use crate::sys::systemd::{self, Job};

use inquiry::Answer;
pub use inquiry::Inquiry;

/// The time limit for an answer of dpkg.
const DPKG_PATIENCE: Duration = Duration::from_secs(2);

/// What an unknown shutdown means, in messages.
const UNKNOWN: &str =
    "it counts as poweroff: locks are released, and what deletes for good is skipped";

/// The targets that end the system, and what they mean; see systemd.special(7).
const ENDS: [(&str, Trigger); 5] = [
    ("poweroff.target", Trigger::Poweroff),
    ("reboot.target", Trigger::Reboot),
    ("halt.target", Trigger::Halt),
    ("kexec.target", Trigger::Kexec),
    ("soft-reboot.target", Trigger::SoftReboot),
];

/// What a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A farewell.
    Farewell(Diagnosis),
    /// The unit is restarted, or its package changed: no farewell, unless the configuration says so.
    Restart,
}

impl Cause {
    /// The trigger's word, or `restart`.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Farewell(diagnosis) => diagnosis.trigger().as_str(),
            Cause::Restart => "restart",
        }
    }

    /// Why the run takes place: a restart that is one has `stop`.
    pub fn diagnosis(self) -> Diagnosis {
        match self {
            Cause::Farewell(diagnosis) => diagnosis,
            Cause::Restart => Trigger::Stop.into(),
        }
    }
}

/// Why a run takes place, and what shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetectedTrigger {
    /// What the run is for.
    pub cause: Cause,
    /// The evidence: "poweroff.target has a start job".
    pub seen: String,
}

impl DetectedTrigger {
    fn new(cause: Cause, seen: impl Into<String>) -> DetectedTrigger {
        let seen = seen.into();
        DetectedTrigger { cause, seen }
    }

    fn farewell(trigger: Trigger, seen: impl Into<String>) -> DetectedTrigger {
        DetectedTrigger::new(Cause::Farewell(trigger.into()), seen)
    }

    fn unknown_shutdown(seen: &str) -> DetectedTrigger {
        let cause = Cause::Farewell(Diagnosis::UnknownShutdown);
        DetectedTrigger::new(cause, format!("{seen}; {UNKNOWN}"))
    }

    /// The trigger of `--trigger`.
    pub fn given(word: &str) -> DetectedTrigger {
        let cause = Trigger::parse(word).map_or(Cause::Restart, |it| Cause::Farewell(it.into()));
        DetectedTrigger::new(cause, "given with --trigger")
    }

    /// Whether this is a shutdown of unknown kind.
    pub fn is_unknown(&self) -> bool {
        self.cause == Cause::Farewell(Diagnosis::UnknownShutdown)
    }

    /// A warning of a shutdown of unknown kind.
    pub(super) fn warning(&self) -> Option<String> {
        (self.is_unknown()).then(|| format!("the kind of this shutdown is unknown: {}", self.seen))
    }

    /// Logs the trigger of the run with this ID, and what it was seen by.
    pub(super) fn log(&self, run: &str) {
        let trigger = self.cause.diagnosis().trigger();
        let fields = [
            ("FAREWELL_RUN", run),
            ("FAREWELL_TRIGGER", trigger.as_str()),
        ];
        let text = format!("trigger {trigger}: {}", self.seen);
        let level = match self.is_unknown() {
            true => Level::Warn,
            false => Level::Info,
        };
        message_id::TRIGGER.log(level, &text, &fields);
    }

    /// Detects why this process runs. Takes no longer than `inquiry` allows, plus [`DPKG_PATIENCE`], whatever PID 1 does.
    pub fn find_out(inquiry: &Inquiry<'_>) -> DetectedTrigger {
        match Found::of_jobs(inquiry) {
            Found::Silence(seen) => DetectedTrigger::unknown_shutdown(&seen),
            Found::Seen(detected, IsStopJob(false)) => detected,
            Found::Seen(detected, IsStopJob(true)) => {
                let dpkg = Deadline::after(DPKG_PATIENCE, Reason::Attempt);
                match package_manager::change_under_way(dpkg) {
                    Some(change) => {
                        let seen = format!("dpkg is changing the package ({change})");
                        DetectedTrigger::new(Cause::Restart, seen)
                    }
                    None => detected,
                }
            }
        }
    }

    /// The shutdown that has begun by now, if any: it may begin while a run skips itself, and is not announced
    /// again. If PID 1 is silent, the earlier result stands.
    pub fn shutdown_by_now(inquiry: &Inquiry<'_>) -> Option<DetectedTrigger> {
        let Found::Seen(detected, _) = Found::of_jobs(inquiry) else {
            return None;
        };
        let is_end = matches!(detected.cause, Cause::Farewell(it) if it.trigger() != Trigger::Stop);
        is_end.then_some(detected)
    }
}

/// Whether systemd's jobs show that only the unit is being stopped.
struct IsStopJob(bool);

/// The result of a detection.
enum Found {
    Seen(DetectedTrigger, IsStopJob),
    /// No answer; what was asked, and for how long.
    Silence(String),
}

impl Found {
    fn of_jobs(inquiry: &Inquiry<'_>) -> Found {
        let stop = |seen| {
            Found::Seen(
                DetectedTrigger::farewell(Trigger::Stop, seen),
                IsStopJob(false),
            )
        };
        if !systemd::is_booted() {
            return stop("systemd is not running on this machine");
        }
        if !systemd::is_command_of_unit() {
            return stop("started by hand");
        }
        let own = systemd::unit_of("self").unwrap_or_else(|| systemd::UNIT.to_owned());
        let (jobs, state) = match inquiry.ask() {
            Answer::Queue(jobs, state) => (jobs, state),
            Answer::Kind(trigger) => {
                let seen = format!("systemd does not say why, and logind prepares for {trigger}");
                return Found::Seen(DetectedTrigger::farewell(trigger, seen), IsStopJob(false));
            }
            Answer::Nothing(seen) => return Found::Silence(seen),
        };
        match judge(&jobs, &state, &own) {
            Some(detected) => {
                let is_stop = detected.cause == Cause::Farewell(Trigger::Stop.into());
                let is_stop_job = is_stop && state != "maintenance";
                Found::Seen(detected, IsStopJob(is_stop_job))
            }
            None => {
                let seen = "the system is stopping, with a target of its own";
                let detected = match inquiry.kind_of_shutdown() {
                    Some(trigger) => DetectedTrigger::farewell(
                        trigger,
                        format!("{seen}, and logind prepares for {trigger}"),
                    ),
                    None => DetectedTrigger::unknown_shutdown(seen),
                };
                Found::Seen(detected, IsStopJob(false))
            }
        }
    }
}

/// The target with a start job that ends the system, if there is one.
fn end(jobs: &[Job]) -> Option<(&'static str, Trigger)> {
    let starts = |target: &str| {
        let is_it = |job: &Job| job.unit == target && job.kind == "start";
        jobs.iter().any(is_it)
    };
    ENDS.into_iter().find(|(target, _)| starts(target))
}

/// The trigger that the jobs and the state of the system show; `None` for a shutdown by an unknown target.
fn judge(jobs: &[Job], state: &str, own: &str) -> Option<DetectedTrigger> {
    // Before its own job: a shutdown during a restart turns that into a stop, perhaps not yet.
    if let Some((target, trigger)) = end(jobs) {
        let seen = format!("{target} has a start job");
        return Some(DetectedTrigger::farewell(trigger, seen));
    }
    if state == "stopping" {
        return None;
    }
    let is_restarted = |job: &Job| job.unit == own && job.kind == "restart";
    if jobs.iter().any(is_restarted) {
        let seen = format!("{own} has a restart job");
        return Some(DetectedTrigger::new(Cause::Restart, seen));
    }
    let seen = match state {
        "maintenance" => "the system goes to rescue mode".to_owned(),
        _ => format!("only {own} is stopped"),
    };
    Some(DetectedTrigger::farewell(Trigger::Stop, seen))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_tell_the_trigger() {
        let job = |unit: &str, kind: &str| Job {
            unit: unit.to_owned(),
            kind: kind.to_owned(),
            state: "waiting".to_owned(),
        };
        let known = |trigger: Trigger| Cause::Farewell(trigger.into());
        let own = "farewell.service";
        let ends = ENDS.map(|(target, trigger)| {
            let jobs = vec![
                job(own, "stop"),
                job("umount.target", "start"),
                job(target, "start"),
            ];
            (jobs, "stopping", Some(known(trigger)))
        });
        let others = [
            (
                vec![job(own, "stop")],
                "running",
                Some(known(Trigger::Stop)),
            ),
            (
                vec![job(own, "stop"), job("poweroff.target", "verify-active")],
                "degraded",
                Some(known(Trigger::Stop)),
            ),
            (vec![job(own, "restart")], "running", Some(Cause::Restart)),
            (
                vec![job("other.service", "restart"), job(own, "stop")],
                "running",
                Some(known(Trigger::Stop)),
            ),
            (
                vec![job(own, "restart"), job("reboot.target", "start")],
                "stopping",
                Some(known(Trigger::Reboot)),
            ),
            (
                vec![job(own, "stop"), job("rescue.target", "start")],
                "maintenance",
                Some(known(Trigger::Stop)),
            ),
            (
                vec![job(own, "stop"), job("my-end.target", "start")],
                "stopping",
                None,
            ),
        ];
        for (jobs, state, cause) in ends.into_iter().chain(others) {
            let detected = judge(&jobs, state, own);
            let seen = detected.map(|it| it.cause);
            assert_eq!(seen, cause, "{jobs:?} {state}");
        }
    }
}
