//! `wait-mounts`: waits until paths are mounted and answer, and optionally flushes them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::section::{Field, Secrecy, Section, path};
use crate::model::error::{ErrorKind, Failure};
use crate::step::{
    Action, AttemptContext, AttemptPolicy, Dependencies, Kind, Outcome, StepEvents, StepSpec,
};
use crate::sys::mounts::{Mount, Mounts};
use crate::sys::probe::{self, ProbeError};
use crate::sys::sync::Mutex;

/// The kind's entry in the table. Its keys:
///
/// - `paths` (paths; required): a mount point, or a list of them
/// - `sync` (boolean; default false): whether to flush their file systems, which may take all of the step's time
pub const KIND: Kind = Kind {
    name: "wait-mounts",
    read,
    undo: None,
};

/// Between two checks.
const EVERY: Duration = Duration::from_millis(200);

struct WaitMounts {
    paths: Vec<Field<PathBuf>>,
    sync: bool,
}

fn read(section: &Section<'_>) -> Option<StepSpec> {
    let paths = section.required("paths", |section, key| {
        section.texts(key, path, Secrecy::Public)
    });
    let sync = section.boolean("sync").unwrap_or(false);
    section.finish();
    let action = WaitMounts {
        paths: paths?,
        sync,
    };
    let dependencies = Dependencies {
        paths: action.paths.clone(),
        ..Dependencies::default()
    };
    Some(StepSpec {
        dependencies,
        ..StepSpec::new(action, AttemptPolicy::Polled)
    })
}

impl Action for WaitMounts {
    fn attempt(&self, context: &AttemptContext<'_>) -> Result<Outcome, Failure> {
        let paths = self.paths(context)?;
        let waiting = Waiting::new(paths.len(), context.events);
        let wait = |index, path: &Path| {
            let tell = |what| waiting.tell(index, what);
            wait_for(path, self.sync, context, &tell)
        };
        side_by_side(&paths, wait).map(|_| Outcome::Done)
    }

    fn rehearse(&self, context: &AttemptContext<'_>) -> Result<String, Failure> {
        let paths = self.paths(context)?;
        let seen = side_by_side(&paths, |_, path| match check_mount(path, false, context) {
            MountCheck::Good(mount) => Ok(format!("{} ({mount})", path.display())),
            MountCheck::Cancelled => Err(failed(path, ErrorKind::TimedOut, "told to stop")),
            MountCheck::Failed(failure) => Err(failure),
            MountCheck::Wait(kind, cause, mount) => Err(failed(
                path,
                kind,
                &format!("{cause}{}", of(mount.as_ref())),
            )),
        })?;
        let answers = if seen.len() == 1 {
            "is mounted and answers"
        } else {
            "are mounted and answer"
        };
        let flush = if self.sync {
            "; no flush was tried"
        } else {
            ""
        };
        Ok(format!("{} {answers}{flush}", seen.join(", ")))
    }
}

impl WaitMounts {
    fn paths(&self, context: &AttemptContext<'_>) -> Result<Vec<PathBuf>, Failure> {
        let paths = self.paths.iter();
        paths.map(|path| path.get(context.facts)).collect()
    }
}

/// Runs `work` for each of `paths`, and returns all results or all failures as one: a path that hangs must not prevent
/// the flush of others.
fn side_by_side<T: Send>(
    paths: &[PathBuf],
    work: impl Fn(usize, &Path) -> Result<T, Failure> + Sync,
) -> Result<Vec<T>, Failure> {
    let ended: Vec<Result<T, Failure>> = std::thread::scope(|threads| {
        let work = &work;
        let working: Vec<_> = (paths.iter().enumerate())
            .map(|(index, path)| threads.spawn(move || work(index, path)))
            .collect();
        let panicked = || Failure::new(ErrorKind::Panic, "wait-mounts", "a thread of it panicked");
        let working = working.into_iter();
        working
            .map(|it| it.join().unwrap_or_else(|_| Err(panicked())))
            .collect()
    });
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for end in ended {
        match end {
            Ok(value) => good.push(value),
            Err(failure) => bad.push(failure),
        }
    }
    let Some((first, others)) = bad.split_first() else {
        return Ok(good);
    };
    let causes = others.iter().map(|other| format!("; {other}"));
    let mut failure = first.clone();
    failure.cause.extend(causes);
    failure.retryable &= others.iter().all(|other| other.retryable);
    Err(failure)
}

fn failed(path: &Path, kind: ErrorKind, cause: &str) -> Failure {
    Failure::new(kind, path.display().to_string(), cause)
}

/// Appends the mount to a message.
fn of(mount: Option<&Mount>) -> String {
    mount.map_or_else(String::new, |mount| format!(" ({mount})"))
}

/// What the paths wait for, reported as one.
struct Waiting<'a> {
    events: &'a dyn StepEvents,
    each: Mutex<Vec<Option<String>>>,
}

impl<'a> Waiting<'a> {
    fn new(count: usize, events: &'a dyn StepEvents) -> Self {
        Waiting {
            events,
            each: Mutex::new(vec![None; count]),
        }
    }

    fn tell(&self, index: usize, what: Option<String>) {
        let mut each = self.each.lock();
        if each[index] != what {
            each[index] = what;
            let all: Vec<&str> = each.iter().flatten().map(String::as_str).collect();
            if !all.is_empty() {
                self.events.waiting(&all.join(", "));
            }
        }
    }
}

fn wait_for(
    path: &Path,
    sync: bool,
    context: &AttemptContext<'_>,
    tell: &dyn Fn(Option<String>),
) -> Result<(), Failure> {
    let failed = |kind, cause: &str| failed(path, kind, cause);
    let mut last: Option<Failure> = None;
    loop {
        let (kind, cause, what) = match check_mount(path, sync, context) {
            MountCheck::Good(_) => {
                tell(None);
                return Ok(());
            }
            MountCheck::Cancelled => return Err(failed(ErrorKind::TimedOut, "told to stop")),
            MountCheck::Failed(failure) => return Err(failure),
            MountCheck::Wait(kind, cause, mount) => {
                let of = of(mount.as_ref());
                let what = format!("{}{of}: {cause}", path.display());
                (kind, format!("{cause}{of}"), what)
            }
        };
        // A last check that the deadline cut short is less informative than the one before.
        if let (ErrorKind::TimedOut, None, Some(last)) = (kind, context.deadline.left(), last) {
            return Err(last);
        }
        let failure = failed(kind, &cause);
        tell(Some(what));
        if !context.pause(EVERY) {
            return Err(failure);
        }
        last = Some(failure);
    }
}

/// The result of one check of a path.
enum MountCheck {
    Good(Mount),
    Cancelled,
    /// A permanent failure.
    Failed(Failure),
    /// A temporary failure: its kind, its cause, and the mount.
    Wait(ErrorKind, String, Option<Mount>),
}

fn check_mount(path: &Path, sync: bool, context: &AttemptContext<'_>) -> MountCheck {
    // Read before the probe, too: it names the mount if the probe gets no answer.
    let mounts = Mounts::read().unwrap_or_default();
    let probe = match probe::probe(path, context.request(), context.cancel) {
        Ok(probe) => probe,
        Err(ProbeError::Cancelled) => return MountCheck::Cancelled,
        Err(error) => {
            let mount = mounts
                .around(path)
                .filter(|mount| mount.point != Path::new("/"));
            let kind = match error {
                ProbeError::TimedOut(_) => ErrorKind::TimedOut,
                _ => ErrorKind::Mount,
            };
            return MountCheck::Wait(kind, error.to_string(), mount.cloned());
        }
    };
    // Read again, since the probe may have triggered an automount.
    let mounts = match Mounts::read() {
        Ok(mounts) => mounts,
        Err(error) => return MountCheck::Wait(ErrorKind::Mount, error.to_string(), None),
    };
    let on = mounts.with_id(probe.mount);
    let Some(mount) = on.filter(|mount| mount.point == probe.canonical) else {
        let cause = "not a mount point (the bare directory under it is there)";
        return MountCheck::Wait(ErrorKind::Mount, cause.to_owned(), None);
    };
    if mount.fs_type == "autofs" {
        let cause = "not mounted yet (only its automount is there)";
        return MountCheck::Wait(ErrorKind::Mount, cause.to_owned(), None);
    }
    if !sync {
        return MountCheck::Good(mount.clone());
    }
    // A flush is not restarted after each attempt-timeout, since its progress counts.
    match probe::sync(&probe.canonical, context.deadline, context.cancel) {
        Ok(()) => MountCheck::Good(mount.clone()),
        Err(ProbeError::Cancelled) => MountCheck::Cancelled,
        Err(ProbeError::TimedOut(_)) => {
            let cause = "its flush has not ended".to_owned();
            MountCheck::Wait(ErrorKind::TimedOut, cause, Some(mount.clone()))
        }
        // The kernel reports lost writes once; another flush would succeed without them.
        Err(ProbeError::Io(error)) => {
            let cause = format!("not everything could be flushed: {error}");
            let failure = Failure::new(ErrorKind::Io, path.display().to_string(), cause);
            MountCheck::Failed(failure.retryable(false))
        }
    }
}
