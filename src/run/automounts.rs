//! Automounts on the paths of steps. During a shutdown systemd mounts nothing on access ("Host is down"), and after an
//! idle timeout has unmounted one in the middle of a run, an access hangs for ever, since the mount's stop job waits
//! for farewell. So mounts that are missing are started directly, and those that are there are kept in use.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::context::RunContext;
use crate::config::facts::Facts;
use crate::model::deadline::{Deadline, Reason};
use crate::plan::step::Step;
use crate::sys::cancel::{Cancel, Waited};
use crate::sys::dbus::BusError;
use crate::sys::mounts::{Mount, Mounts};
use crate::sys::probe;
use crate::sys::systemd::{self, Manager, escape_path};

/// The pause between two checks whether something is mounted.
const POLL_PAUSE: Duration = Duration::from_millis(50);

/// How long one access to a mount may take; a server that does not answer is not asked again.
const PATIENCE: Duration = Duration::from_secs(10);

/// The shortest and the longest pause between two accesses.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(15)];

/// Has systemd mount what the paths of a step need, where it no longer does so on access. Failures show in the step
/// itself.
pub(super) fn mount_missing(step: &Step, facts: &Facts, deadline: Deadline, cancel: &Cancel) {
    let paths = paths(step, facts);
    if paths.is_empty() {
        return;
    }
    let Ok(mounts) = Mounts::read() else { return };
    let deadline = deadline.earlier(Deadline::after(step.attempt_timeout, Reason::Attempt));
    for place in ancestors(&paths) {
        // What is below it is visible only once it is mounted; a second automount below the first is rare, and fails in
        // the step itself.
        if mounts.top(place).is_some_and(is_systemds)
            && let Err(error) = mount(place, deadline, cancel)
        {
            log::warn!(
                "step {}: {} could not be mounted: {error}",
                step.name,
                place.display()
            );
        }
    }
}

/// Starts the mount unit of an automount that a shutdown is about to stop.
fn mount(place: &Path, deadline: Deadline, cancel: &Cancel) -> Result<(), String> {
    let silent = |error: BusError| format!("systemd: {error}");
    let manager = Manager::connect(deadline).map_err(silent)?;
    let (automount, mount) = (escape_path(place, "automount"), escape_path(place, "mount"));
    let is_stopping = |job: &systemd::Job| job.unit == automount && job.kind == "stop";
    // Without such a job it is mounted on access.
    let jobs = manager.jobs(deadline).map_err(silent)?;
    if !jobs.iter().any(is_stopping) {
        return Ok(());
    }
    log::info!("{} is mounted for this run: {mount}", place.display());
    manager.start_at_once(&mount, deadline).map_err(silent)?;
    while Mounts::read().is_ok_and(|mounts| mounts.top(place).is_some_and(is_systemds)) {
        let names = std::slice::from_ref(&mount);
        for state in manager.states(names, deadline).map_err(silent)? {
            if state.is_down() && !state.is_to_start() {
                return Err(format!("{mount} is {}", state.active));
            }
        }
        let next = deadline.earlier(Deadline::after(POLL_PAUSE, Reason::Attempt));
        if cancel.sleep_until(next) == Waited::Cancelled {
            return Err("told to stop".to_owned());
        }
        if deadline.left().is_none() {
            return Err(format!("{mount} has not started in time"));
        }
    }
    // It is not stopped before the network: like that of every other mount, its stop waits for this run.
    let farewell = manager.unit(systemd::UNIT, deadline).map_err(silent)?;
    if farewell.after.contains(&mount) {
        manager.stop_in_turn(&mount, deadline).map_err(silent)?;
    }
    Ok(())
}

/// The paths that a step uses, as far as they are known.
fn paths(step: &Step, facts: &Facts) -> Vec<PathBuf> {
    let fields = step.dependencies.paths.iter().chain(&step.if_path);
    fields.filter_map(|field| field.get(facts).ok()).collect()
}

/// All directories on the way to the paths, each once, outer ones first.
fn ancestors(paths: &[PathBuf]) -> Vec<&Path> {
    let mut places: Vec<&Path> = paths.iter().flat_map(|path| path.ancestors()).collect();
    places.sort_unstable();
    places.dedup();
    places
}

fn is_systemds(mount: &Mount) -> bool {
    mount.fs_type == "autofs" && mount.source.starts_with("systemd-")
}

/// The idle timeout of a systemd automount; `None` for other mounts and for an automount without one.
fn idle(mount: &Mount) -> Option<Duration> {
    let mut options = mount.options.split(',');
    let seconds = options.find_map(|option| option.strip_prefix("timeout=")?.parse().ok())?;
    (is_systemds(mount) && seconds > 0).then(|| Duration::from_secs(seconds))
}

/// Keeps the automounts of a run's steps in use until it is dropped.
pub(super) struct KeepInUse(Option<Arc<Cancel>>);

impl Drop for KeepInUse {
    fn drop(&mut self) {
        if let Some(cancel) = &self.0 {
            cancel.cancel(Duration::ZERO);
        }
    }
}

impl KeepInUse {
    /// Starts, if a step uses a path and an automount of this machine has an idle timeout.
    pub(super) fn start(run: &Arc<RunContext>) -> KeepInUse {
        let uses_path = |step: &Step| !step.dependencies.paths.is_empty() || step.if_path.is_some();
        let has_one = || Mounts::read().is_ok_and(|it| it.iter().any(|it| idle(it).is_some()));
        if !run.plan.steps.iter().any(uses_path) || !has_one() {
            return KeepInUse(None);
        }
        let Ok(cancel) = Cancel::new().map(Arc::new) else {
            return KeepInUse(None);
        };
        let (run, its) = (run.clone(), cancel.clone());
        let keep = move || {
            let steps = run.plan.steps.iter();
            let paths: Vec<PathBuf> = steps.flat_map(|step| paths(step, &run.facts)).collect();
            keep_in_use(ancestors(&paths), &its);
        };
        let started = thread::Builder::new().name("automounts".into()).spawn(keep);
        if let Err(error) = started {
            log::warn!("automounts may be unmounted during this run: {error}");
        }
        KeepInUse(Some(cancel))
    }
}

/// Accesses each of `places` that is mounted, often enough for its idle timeout. It is not kept open, so that a step
/// may unmount it.
fn keep_in_use(mut places: Vec<&Path>, cancel: &Cancel) {
    loop {
        let Ok(mounts) = Mounts::read() else { return };
        let idle = |place: &Path| mounts.iter().filter(|it| it.point == place).find_map(idle);
        places.retain(|place| {
            let is_mounted = !mounts.top(place).is_some_and(is_systemds);
            if idle(place).is_none() || !is_mounted {
                return idle(place).is_some();
            }
            let patience = Deadline::after(PATIENCE, Reason::Attempt);
            let touched = probe::exists(place, patience, cancel);
            !matches!(touched, Err(probe::ProbeError::TimedOut(_)))
        });
        let Some(shortest) = places.iter().filter_map(|place| idle(place)).min() else {
            return;
        };
        let pause = (shortest / 5).clamp(PAUSES[0], PAUSES[1]);
        if cancel.sleep(pause) == Waited::Cancelled {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_timeouts_are_those_of_systemd() {
        let mounts = Mounts::parse(
            b"41 22 0:51 / /mnt/a rw - autofs systemd-1 rw,fd=50,pgrp=1,timeout=60,minproto=5\n\
              42 22 0:52 / /mnt/b rw - autofs systemd-1 rw,fd=50,pgrp=1,timeout=0\n\
              43 22 0:53 / /mnt/c rw - autofs /etc/auto.misc rw,timeout=60\n\
              44 22 0:54 / /mnt/d rw - tmpfs systemd-1 rw,timeout=60\n",
        );
        let idle: Vec<_> = mounts.iter().map(idle).collect();
        assert_eq!(idle, [Some(Duration::from_secs(60)), None, None, None]);
    }

    #[test]
    fn places_are_outer_ones_first() {
        let paths = [PathBuf::from("/mnt/a/b"), PathBuf::from("/mnt/c")];
        let expected = ["/", "/mnt", "/mnt/a", "/mnt/a/b", "/mnt/c"];
        assert_eq!(ancestors(&paths), expected.map(Path::new));
    }
}
