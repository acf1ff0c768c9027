//! `wait-mounts`: waits until paths are mounted and answer, and flushes them where it is asked to.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::config::section::{Field, Secrecy, Section, path};
use crate::model::deadline::{Deadline, Reason};
use crate::model::error::{Failure, Word};
use crate::step::{Action, Blueprint, Effect, Kind, Pace, Scope, Ties, Voice};
use crate::sys::cancel::Waited;
use crate::sys::mounts::{Mount, Mounts};
use crate::sys::probe::{self, Trouble};

/// The kind's entry in the table. Its keys:
///
/// - `paths` (paths; required): a path where something is mounted, or a list of them
/// - `sync` (boolean; default false): whether their file systems are flushed, which counts as one look that may take
///   all of the step's time
pub const KIND: Kind = Kind {
    name: "wait-mounts",
    read,
    undo: None,
};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(200);

struct WaitMounts {
    paths: Vec<Field<PathBuf>>,
    sync: bool,
}

fn read(section: &Section<'_>) -> Option<Blueprint> {
    let paths = section.required("paths", |section, key| {
        section.texts(key, path, Secrecy::Public)
    });
    let sync = section.boolean("sync").unwrap_or(false);
    section.finish();
    let action = WaitMounts {
        paths: paths?,
        sync,
    };
    let ties = Ties {
        paths: action.paths.clone(),
        ..Ties::default()
    };
    Some(Blueprint {
        ties,
        ..Blueprint::new(action, Pace::Polled)
    })
}

impl Action for WaitMounts {
    fn attempt(&self, scope: &Scope<'_>) -> Result<Effect, Failure> {
        let paths = self.paths(scope)?;
        let waits = Waits::new(paths.len(), scope.voice);
        let wait = |index, path: &Path| {
            let tell = |what| waits.tell(index, what);
            wait_for(path, self.sync, scope, &tell)
        };
        side_by_side(&paths, wait).map(|_| Effect::Done)
    }

    fn rehearse(&self, scope: &Scope<'_>) -> Result<String, Failure> {
        let paths = self.paths(scope)?;
        let seen = side_by_side(&paths, |_, path| match look(path, false, scope) {
            Look::Good(mount) => Ok(format!("{} ({mount})", path.display())),
            Look::Cancelled => Err(failed(path, Word::TimedOut, "told to stop")),
            Look::Lost(failure) => Err(failure),
            Look::Wait(word, cause, mount) => Err(failed(
                path,
                word,
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
    fn paths(&self, scope: &Scope<'_>) -> Result<Vec<PathBuf>, Failure> {
        let paths = self.paths.iter();
        paths.map(|path| path.get(scope.facts)).collect()
    }
}

/// What `work` comes to for each of `paths`, or all their failures as one: a path that hangs must not keep the others
/// from their flush.
fn side_by_side<T: Send>(
    paths: &[PathBuf],
    work: impl Fn(usize, &Path) -> Result<T, Failure> + Sync,
) -> Result<Vec<T>, Failure> {
    let ended: Vec<Result<T, Failure>> = std::thread::scope(|threads| {
        let work = &work;
        let working: Vec<_> = (paths.iter().enumerate())
            .map(|(index, path)| threads.spawn(move || work(index, path)))
            .collect();
        let panicked = || Failure::new(Word::Panic, "wait-mounts", "a thread of it panicked");
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
    failure.passing &= others.iter().all(|other| other.passing);
    Err(failure)
}

fn failed(path: &Path, word: Word, cause: &str) -> Failure {
    Failure::new(word, path.display().to_string(), cause)
}

/// The mount that something is said of, behind it.
fn of(mount: Option<&Mount>) -> String {
    mount.map_or_else(String::new, |mount| format!(" ({mount})"))
}

/// What the paths wait for, told as one.
struct Waits<'a> {
    voice: &'a dyn Voice,
    each: Mutex<Vec<Option<String>>>,
}

impl<'a> Waits<'a> {
    fn new(count: usize, voice: &'a dyn Voice) -> Self {
        Waits {
            voice,
            each: Mutex::new(vec![None; count]),
        }
    }

    fn tell(&self, index: usize, what: Option<String>) {
        let mut each = self.each.lock().unwrap_or_else(PoisonError::into_inner);
        if each[index] != what {
            each[index] = what;
            let all: Vec<&str> = each.iter().flatten().map(String::as_str).collect();
            if !all.is_empty() {
                self.voice.waiting(&all.join(", "));
            }
        }
    }
}

fn wait_for(
    path: &Path,
    sync: bool,
    scope: &Scope<'_>,
    tell: &dyn Fn(Option<String>),
) -> Result<(), Failure> {
    let failed = |word, cause: &str| failed(path, word, cause);
    let mut last: Option<Failure> = None;
    loop {
        let (word, cause, what) = match look(path, sync, scope) {
            Look::Good(_) => {
                tell(None);
                return Ok(());
            }
            Look::Cancelled => return Err(failed(Word::TimedOut, "told to stop")),
            Look::Lost(failure) => return Err(failure),
            Look::Wait(word, cause, mount) => {
                let of = of(mount.as_ref());
                let what = format!("{}{of}: {cause}", path.display());
                (word, format!("{cause}{of}"), what)
            }
        };
        // A last look that the deadline cut short says less than the one before it.
        if let (Word::TimedOut, None, Some(last)) = (word, scope.deadline.left(), last) {
            return Err(last);
        }
        let failure = failed(word, &cause);
        tell(Some(what));
        let next = scope
            .deadline
            .earlier(Deadline::after(EVERY, Reason::Attempt));
        match scope.cancel.sleep_until(next) {
            Waited::Cancelled => return Err(failed(Word::TimedOut, "told to stop")),
            Waited::Elapsed if scope.deadline.left().is_none() => return Err(failure),
            Waited::Elapsed => last = Some(failure),
        }
    }
}

/// What one look at a path saw.
enum Look {
    Good(Mount),
    Cancelled,
    /// Something that no other look will mend.
    Lost(Failure),
    /// Something that may pass: the word for it, its cause, and the mount that it is about.
    Wait(Word, String, Option<Mount>),
}

fn look(path: &Path, sync: bool, scope: &Scope<'_>) -> Look {
    // Before the probe too: when it gets no answer, this is what tells of which mount there is none.
    let mounts = Mounts::read().unwrap_or_default();
    let probe = match probe::probe(path, scope.request(), scope.cancel) {
        Ok(probe) => probe,
        Err(Trouble::Cancelled) => return Look::Cancelled,
        Err(trouble) => {
            let mount = mounts
                .around(path)
                .filter(|mount| mount.point != Path::new("/"));
            let word = match trouble {
                Trouble::TimedOut(_) => Word::TimedOut,
                _ => Word::Mount,
            };
            return Look::Wait(word, trouble.to_string(), mount.cloned());
        }
    };
    // Anew, since the probe may have triggered an automount.
    let mounts = match Mounts::read() {
        Ok(mounts) => mounts,
        Err(error) => return Look::Wait(Word::Mount, error.to_string(), None),
    };
    let on = mounts.with_id(probe.mount);
    let Some(mount) = on.filter(|mount| mount.point == probe.canonical) else {
        let cause = "not a mount point (the bare directory under it is there)";
        return Look::Wait(Word::Mount, cause.to_owned(), None);
    };
    if mount.fs_type == "autofs" {
        let cause = "not mounted yet (only its automount is there)";
        return Look::Wait(Word::Mount, cause.to_owned(), None);
    }
    if !sync {
        return Look::Good(mount.clone());
    }
    // What it has flushed stays flushed, so it is not begun anew after each request's time.
    match probe::sync(&probe.canonical, scope.deadline, scope.cancel) {
        Ok(()) => Look::Good(mount.clone()),
        Err(Trouble::Cancelled) => Look::Cancelled,
        Err(Trouble::TimedOut(_)) => {
            let cause = "does not end its flush".to_owned();
            Look::Wait(Word::TimedOut, cause, Some(mount.clone()))
        }
        // The kernel tells of lost writes once; another flush would succeed without them.
        Err(Trouble::Io(error)) => {
            let cause = format!("not everything could be flushed: {error}");
            let failure = Failure::new(Word::Io, path.display().to_string(), cause);
            Look::Lost(failure.passing(false))
        }
    }
}
