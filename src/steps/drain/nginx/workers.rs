//! nginx's worker processes: those from before a reload end when their last request has ended.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use crate::model::error::{ErrorKind, Failure};
use crate::sys::process_titles::{Titled, began_at, titled};
use crate::sys::signals;

const MASTER: &str = "nginx: master process";
const WORKER: &str = "nginx: worker process";
const ENDS: &str = "is shutting down";

/// How much younger than a file's last change a worker must be, to be sure that it uses the changed file: the master reads
/// the whole configuration before it starts workers.
const READING: Duration = Duration::from_secs(2);

/// A master process and its workers.
struct Group {
    master: Titled,
    workers: Vec<Titled>,
}

impl Group {
    /// The workers that accept new requests.
    fn active(&self) -> impl Iterator<Item = &Titled> {
        self.workers.iter().filter(|it| !it.title.contains(ENDS))
    }
}

/// A snapshot of nginx's processes.
pub(super) struct Seen {
    groups: Vec<Group>,
}

/// The state of the workers of an earlier snapshot.
pub(super) enum Old {
    /// All have ended.
    Gone,
    /// These are shutting down.
    Ending(Vec<u32>),
    /// These were not told to shut down.
    Untouched(Vec<u32>),
}

/// Finds the master that the command `argv` refers to, and its workers. If there are several masters, those of root or this
/// user are preferred to those of other users. A `-c` in `argv` must be that of the master; without one, masters without
/// `-c` are preferred.
///
/// # Errors
/// `unreachable` if there is no such master.
pub(super) fn look(argv: &[String]) -> Result<Seen, Failure> {
    let all = all()?;
    let file = option(argv.iter().map(String::as_str));
    let is_master = |it: &Titled| it.title.starts_with(MASTER);
    // A worker has its master's title for a moment.
    let is_forked = |it: &Titled| {
        all.iter()
            .any(|other| other.pid == it.parent && is_master(other))
    };
    let mut masters: Vec<&Titled> = all
        .iter()
        .filter(|it| is_master(it) && !is_forked(it))
        .filter(|it| file.is_none() || option(it.title.split(' ')) == file)
        .collect();
    let mut prefer = |is_better: &dyn Fn(&Titled) -> bool| {
        if masters.iter().any(|it| is_better(it)) {
            masters.retain(|it| is_better(it));
        }
    };
    let own = signals::user();
    prefer(&|it| it.user == 0 || it.user == own);
    prefer(&|it| option(it.title.split(' ')) == file);
    let groups: Vec<Group> = masters
        .into_iter()
        .map(|master| Group {
            master: master.clone(),
            workers: of(master, &all).cloned().collect(),
        })
        .collect();
    match groups.is_empty() {
        true => Err(absent(file)),
        false => Ok(Seen { groups }),
    }
}

fn absent(file: Option<&str>) -> Failure {
    let with = file.map_or_else(String::new, |it| format!(" with `-c {it}`"));
    let cause = format!("no master process{with} found on this machine: is nginx running?");
    Failure::new(ErrorKind::Unreachable, "nginx", cause)
}

fn all() -> Result<Vec<Titled>, Failure> {
    titled("nginx: ").map_err(|error| Failure::new(ErrorKind::Io, "/proc", error.to_string()))
}

fn of<'a>(master: &Titled, all: &'a [Titled]) -> impl Iterator<Item = &'a Titled> {
    let pid = master.pid;
    all.iter()
        .filter(move |it| it.parent == pid && it.title.starts_with(WORKER))
}

/// The value of the option `-c`.
fn option<'a>(words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    words.skip_while(|it| *it != "-c").nth(1)
}

impl Seen {
    /// The number of workers.
    pub(super) fn count(&self) -> usize {
        self.groups.iter().map(|it| it.workers.len()).sum()
    }

    /// Whether all workers that accept new requests use the file that was last changed at `changed`.
    pub(super) fn have_read(&self, changed: SystemTime) -> bool {
        let mut active = self.groups.iter().flat_map(Group::active);
        let is_younger = |it: &Titled| {
            let age = began_at(it).and_then(|it| it.duration_since(changed).ok());
            age.is_some_and(|age| age >= READING)
        };
        self.count() > 0 && active.all(is_younger)
    }

    /// The same snapshot with only those workers that are shutting down.
    pub(super) fn ending(mut self) -> Seen {
        for group in &mut self.groups {
            group.workers.retain(|it| it.title.contains(ENDS));
        }
        self
    }

    /// The current state of the workers. If there are several masters, the one that has replaced its workers was reloaded.
    pub(super) fn now(&self) -> Result<Old, Failure> {
        let all = all()?;
        let is_same =
            |one: &Titled, other: &Titled| (one.pid, one.began) == (other.pid, other.began);
        let is_one = self.groups.len() == 1;
        let (mut ending, mut untouched) = (None, Vec::new());
        for group in &self.groups {
            let left = |old: &Titled| all.iter().find(|it| is_same(it, old));
            let left: Vec<&Titled> = group.workers.iter().filter_map(left).collect();
            let before: BTreeSet<u32> = group.active().map(|it| it.pid).collect();
            let goes_on = |it: &&&Titled| before.contains(&it.pid) && !it.title.contains(ENDS);
            let going_on: Vec<u32> = left.iter().filter(goes_on).map(|it| it.pid).collect();
            if !going_on.is_empty() {
                untouched.extend(going_on);
                continue;
            }
            let is_new = |it: &Titled| !group.workers.iter().any(|old| is_same(it, old));
            let mut workers = of(&group.master, &all);
            // Of several masters, one that has ended in the meantime was not reloaded.
            if is_one || workers.any(is_new) {
                let pids = left.iter().map(|it| it.pid);
                ending.get_or_insert_with(Vec::new).extend(pids);
            }
        }
        Ok(match ending {
            Some(pids) if pids.is_empty() => Old::Gone,
            Some(pids) => Old::Ending(pids),
            // All of nginx has ended.
            None if untouched.is_empty() => Old::Gone,
            None => Old::Untouched(untouched),
        })
    }
}
