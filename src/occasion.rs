//! Why a run takes place, found out from systemd's job list: the environment of `ExecStop=` says nothing of it.

use std::thread;
use std::time::Duration;

use crate::deadline::{Deadline, Reason};
use crate::sys::bus::Trouble;
use crate::sys::systemd::{self, Job, Manager};
use crate::sys::{packages, signals};
use crate::trigger::Trigger;

/// How long PID 1 may take to say what its jobs are. It may be busy with hundreds of units that stop at once.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long one question may take, and the pause before it is asked again.
const QUESTION: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(50);

/// How long dpkg may take to tell about the package.
const DPKG_PATIENCE: Duration = Duration::from_secs(2);

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
    Farewell(Trigger),
    /// The unit is restarted, or its package changed: no farewell, unless the configuration says so.
    Restart,
}

impl Cause {
    /// The trigger's word, or `restart`.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Farewell(trigger) => trigger.as_str(),
            Cause::Restart => "restart",
        }
    }

    /// The trigger of the run: a restart that is one has `stop`.
    pub fn trigger(self) -> Trigger {
        match self {
            Cause::Farewell(trigger) => trigger,
            Cause::Restart => Trigger::Stop,
        }
    }
}

/// Why a run takes place, and from what that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occasion {
    /// What the run is for.
    pub cause: Cause,
    /// What was seen: "poweroff.target has a start job".
    pub seen: String,
}

impl Occasion {
    fn new(cause: Cause, seen: impl Into<String>) -> Occasion {
        let seen = seen.into();
        Occasion { cause, seen }
    }

    /// What `--trigger` says.
    pub fn given(word: &str) -> Occasion {
        let cause = Trigger::parse(word).map_or(Cause::Restart, Cause::Farewell);
        Occasion::new(cause, "given with --trigger")
    }

    /// Looks why this process runs. Takes at most a few seconds, whatever PID 1 does.
    pub fn find_out() -> Occasion {
        let (occasion, is_stop_job) = Occasion::of_jobs();
        if !is_stop_job {
            return occasion;
        }
        let dpkg = Deadline::after(DPKG_PATIENCE, Reason::Attempt);
        match packages::change_under_way(dpkg) {
            Some(change) => {
                let seen = format!("dpkg is at work on the package ({change})");
                Occasion::new(Cause::Restart, seen)
            }
            None => occasion,
        }
    }

    /// The shutdown that has begun by now, if one has: it may come while a run leaves itself out, and is not told
    /// again.
    pub fn shutdown_by_now() -> Option<Occasion> {
        let (occasion, _) = Occasion::of_jobs();
        let is_end = matches!(occasion.cause, Cause::Farewell(trigger) if trigger != Trigger::Stop);
        is_end.then_some(occasion)
    }

    /// What systemd's jobs say, and whether they say that only the unit is stopped, by whomever.
    fn of_jobs() -> (Occasion, bool) {
        let stop = Cause::Farewell(Trigger::Stop);
        if !systemd::is_booted() {
            return (Occasion::new(stop, "systemd does not run here"), false);
        }
        if !signals::is_started_by_systemd() {
            return (Occasion::new(stop, "started by hand"), false);
        }
        let deadline = Deadline::after(PATIENCE, Reason::Attempt);
        let own = systemd::unit_of("self").unwrap_or_else(|| systemd::UNIT.to_owned());
        match ask(deadline) {
            Err(trouble) => {
                let seen = format!(
                    "PID 1 does not say which ({trouble}), and a shutdown of an unknown kind counts as poweroff"
                );
                let occasion = Occasion::new(Cause::Farewell(Trigger::Poweroff), seen);
                (occasion, false)
            }
            Ok((jobs, state)) => {
                let occasion = judge(&jobs, &state, &own);
                let is_stop_job = occasion.cause == stop && state != "maintenance";
                (occasion, is_stop_job)
            }
        }
    }
}

/// The jobs and the state of the system, asked for again while there is no answer.
fn ask(deadline: Deadline) -> Result<(Vec<Job>, String), Trouble> {
    loop {
        let question = deadline.earlier(Deadline::after(QUESTION, Reason::Attempt));
        let answer = Manager::connect(question).and_then(|manager| {
            let jobs = manager.jobs(question)?;
            Ok((jobs, manager.state(question)?))
        });
        match answer {
            Err(_) if deadline.left().is_some_and(|left| left > PAUSE) => thread::sleep(PAUSE),
            answer => return answer,
        }
    }
}

fn judge(jobs: &[Job], state: &str, own: &str) -> Occasion {
    let has = |unit: &str, kind: &str| jobs.iter().any(|job| job.unit == unit && job.kind == kind);
    // Before its own job: a shutdown that comes during a restart turns that into a stop, or has not done so yet.
    if let Some((target, trigger)) = ENDS.iter().find(|(target, _)| has(target, "start")) {
        let seen = format!("{target} has a start job");
        return Occasion::new(Cause::Farewell(*trigger), seen);
    }
    if state == "stopping" {
        let seen = "the system is stopping, with a target of its own, which counts as poweroff";
        return Occasion::new(Cause::Farewell(Trigger::Poweroff), seen);
    }
    if has(own, "restart") {
        return Occasion::new(Cause::Restart, format!("{own} has a restart job"));
    }
    let seen = match state {
        "maintenance" => "the system goes to rescue mode".to_owned(),
        _ => format!("only {own} is stopped"),
    };
    Occasion::new(Cause::Farewell(Trigger::Stop), seen)
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
        let own = "farewell.service";
        let ends = ENDS.map(|(target, trigger)| {
            let jobs = vec![
                job(own, "stop"),
                job("umount.target", "start"),
                job(target, "start"),
            ];
            (jobs, "stopping", Cause::Farewell(trigger))
        });
        let others = [
            (
                vec![job(own, "stop")],
                "running",
                Cause::Farewell(Trigger::Stop),
            ),
            (
                vec![job(own, "stop"), job("poweroff.target", "verify-active")],
                "degraded",
                Cause::Farewell(Trigger::Stop),
            ),
            (vec![job(own, "restart")], "running", Cause::Restart),
            (
                vec![job("other.service", "restart"), job(own, "stop")],
                "running",
                Cause::Farewell(Trigger::Stop),
            ),
            (
                vec![job(own, "restart"), job("reboot.target", "start")],
                "stopping",
                Cause::Farewell(Trigger::Reboot),
            ),
            (
                vec![job(own, "stop"), job("rescue.target", "start")],
                "maintenance",
                Cause::Farewell(Trigger::Stop),
            ),
            (
                vec![job(own, "stop"), job("my-end.target", "start")],
                "stopping",
                Cause::Farewell(Trigger::Poweroff),
            ),
        ];
        for (jobs, state, cause) in ends.into_iter().chain(others) {
            let occasion = judge(&jobs, state, own);
            assert_eq!(occasion.cause, cause, "{jobs:?} {state}: {}", occasion.seen);
        }
    }
}
