//! The state directory: records, and the lock that admits one run at a time.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{pending, reserved_space};
use crate::sys::clock;
use crate::sys::file_lock::{self, Locked};
use crate::sys::file_trust;
use crate::sys::files;
use crate::sys::host;

/// How many records are kept.
pub const KEPT: usize = 100;

/// How far ahead of this clock another one may be before it counts as wrong.
const LEEWAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The state directory of a process.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
    /// Whether the directory is farewell's default one, not one named on the command line.
    is_own: bool,
}

/// The process that holds the lock.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Holder {
    /// The run's id.
    pub run: String,
    /// The process.
    pub pid: i32,
    /// When that process began, in clock ticks since boot: a pid alone may be reused.
    pub began: Option<u64>,
    /// Whether it is systemd's run, which has priority over all others.
    pub by_systemd: bool,
    /// Whether it is an undo rather than a run.
    #[serde(default)]
    pub is_undo: bool,
}

/// The lock of the state directory, released when dropped.
pub struct RunLock {
    _lock: Locked,
}

/// The result of [`Store::enter`].
pub enum Admission {
    /// This process has the lock.
    Admitted(RunLock),
    /// Another process has it, and may have written who it is.
    Occupied(Option<Holder>),
}

/// A new id for a run: the time in milliseconds, so that ids sort by it, and four random letters.
pub fn new_id(now: SystemTime) -> String {
    let letters: String = (0..4).map(|_| fastrand::lowercase()).collect();
    format!("{}-{letters}", clock::compact(now))
}

impl fmt::Display for Holder {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.is_undo { "undo" } else { "run" };
        write!(out, "{what} {} (process {})", self.run, self.pid)
    }
}

impl Holder {
    /// This process, as the run `run`.
    pub fn this(run: &str, by_systemd: bool) -> Holder {
        let pid = i32::try_from(std::process::id()).unwrap_or_default();
        let began = host::process_began(pid);
        Holder {
            run: run.to_owned(),
            pid,
            began,
            by_systemd,
            is_undo: false,
        }
    }

    /// This process, as an undo, which yields to systemd's run whoever started it.
    pub fn this_undo(id: &str) -> Holder {
        Holder {
            is_undo: true,
            ..Holder::this(id, false)
        }
    }
}

impl Store {
    /// The directory given with `--state`, else `$STATE_DIRECTORY` (systemd.exec(5)), else `/var/lib/farewell` for
    /// root and `$XDG_STATE_HOME/farewell` for a plain user.
    pub fn locate(given: Option<PathBuf>, is_root: bool) -> Store {
        let variable = |name| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let home = || {
            variable("HOME")
                .unwrap_or_else(|| "/".into())
                .join(".local/state")
        };
        // systemd separates several directories with colons; the first one is used.
        let from_systemd = variable("STATE_DIRECTORY").map(|path| {
            match path.to_str().and_then(|it| it.split_once(':')) {
                Some((first, _)) => PathBuf::from(first),
                None => path,
            }
        });
        let is_own = given.is_none();
        let directory = given.or(from_systemd).unwrap_or_else(|| {
            if is_root {
                "/var/lib/farewell".into()
            } else {
                variable("XDG_STATE_HOME")
                    .unwrap_or_else(home)
                    .join("farewell")
            }
        });
        Store { directory, is_own }
    }

    /// The directory itself.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn runs(&self) -> PathBuf {
        self.directory.join("runs")
    }

    /// Tries to take the lock.
    pub fn enter(&self, holder: &Holder) -> io::Result<Admission> {
        self.prepare()?;
        let path = self.directory.join("run.lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(files::NO_LINK)
            .open(path)?;
        // Anybody who may read it could hold a shared lock on it.
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        match file_lock::try_lock(file)? {
            Ok(mut lock) => {
                // A full disk is no reason not to run: the holder is only informative.
                let _ = write_holder(lock.file(), holder);
                Ok(Admission::Admitted(RunLock { _lock: lock }))
            }
            Err(mut file) => Ok(Admission::Occupied(read_holder(&mut file))),
        }
    }

    /// The run in progress.
    pub fn holder(&self) -> Option<Holder> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(files::NO_LINK)
            .open(self.directory.join("run.lock"))
            .ok()?;
        let mut file = file_lock::is_locked(file)?;
        read_holder(&mut file)
    }

    /// Reserves disk space for the next run's record, unless it is reserved already.
    ///
    /// # Errors
    /// Any I/O error, such as a full disk.
    pub fn make_room(&self) -> io::Result<()> {
        self.prepare_runs()?;
        reserved_space::make(&self.room())?;
        self.mend_modes()?;
        self.sync_names()
    }

    /// The file that reserves the space. It is in the directory of the records, so that renaming it needs no space in
    /// another directory.
    fn room(&self) -> PathBuf {
        self.runs().join("room-for-the-next-record")
    }

    /// Creates the record of a run, in the reserved space if possible.
    pub fn create(&self, run: &str) -> io::Result<File> {
        self.prepare_runs()?;
        if let Some(file) = reserved_space::take(&self.room(), &self.path(run))? {
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
            return Ok(file);
        }
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(self.path(run))?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        Ok(file)
    }

    /// Checks that only this user and root could have written what is in this directory, or can write it.
    ///
    /// # Errors
    /// `PermissionDenied`, with the reason and the command that fixes it.
    pub fn examine(&self) -> io::Result<()> {
        let denied = |reason| io::Error::new(io::ErrorKind::PermissionDenied, reason);
        for place in [&self.directory, &self.runs()] {
            file_trust::own_directory(place).map_err(denied)?;
        }
        Ok(())
    }

    /// Creates the directory if it is missing, readable by this user only.
    fn prepare(&self) -> io::Result<()> {
        self.examine()?;
        make_private(&self.directory, self.is_own)
    }

    fn prepare_runs(&self) -> io::Result<()> {
        self.prepare()?;
        make_private(&self.runs(), true)
    }

    /// Removes read permission for others, which an earlier version gave, from records and their `.undone` files.
    fn mend_modes(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.runs())? {
            let entry = entry?;
            let about = entry.metadata()?;
            if about.is_file() && about.permissions().mode() & 0o077 != 0 {
                fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o600))?;
            }
        }
        Ok(())
    }

    /// Flushes the directory entry of a new record, and that of its directory.
    pub fn sync_names(&self) -> io::Result<()> {
        files::sync_directory(&self.runs())?;
        files::sync_directory(&self.directory)
    }

    /// The path of a run's record.
    pub fn path(&self, run: &str) -> PathBuf {
        self.runs().join(format!("{run}.jsonl"))
    }

    /// The ids of the runs with a record, oldest first. Those from a clock that was far ahead come first: otherwise
    /// they would count as the newest until their time comes.
    ///
    /// # Errors
    /// Any I/O error; a missing directory has no records.
    pub fn ids(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.runs()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let id = |entry: io::Result<fs::DirEntry>| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            name.strip_suffix(".jsonl").map(str::to_owned)
        };
        let mut ids: Vec<String> = entries.filter_map(id).collect();
        ids.sort();
        let latest = clock::compact(SystemTime::now() + LEEWAY);
        let sound = ids.partition_point(|id| *id <= latest);
        ids.rotate_left(sound);
        Ok(ids)
    }

    /// Removes the oldest records beyond [`KEPT`]. That of `run` stays, even if a wrong clock makes the others look
    /// newer, and so do those with a pending undo.
    ///
    /// # Errors
    /// The first file that could not be removed; the others are removed all the same.
    pub fn prune(&self, run: &str) -> io::Result<()> {
        let mut ids = self.ids()?;
        let old = ids.len().saturating_sub(KEPT);
        ids.retain(|id| id != run);
        let paths = ids.iter().take(old).map(|id| self.path(id));
        let removed: Vec<_> = paths
            .filter(|path| !pending::is_pending(path))
            .map(|path| {
                // The record first: without the other file it would be pending again.
                fs::remove_file(&path)?;
                match fs::remove_file(pending::undone(&path)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                    _ => Ok(()),
                }
            })
            .collect();
        removed.into_iter().collect()
    }
}

/// Creates a directory that nobody else can read, whatever the umask; an existing one gets that mode if it `is_own`.
fn make_private(path: &Path, is_own: bool) -> io::Result<()> {
    let private = fs::Permissions::from_mode(0o700);
    match fs::metadata(path) {
        Ok(about) if !is_own || about.permissions().mode() & 0o7777 == 0o700 => Ok(()),
        Ok(_) => fs::set_permissions(path, private),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                let mut builder = fs::DirBuilder::new();
                builder.recursive(true).mode(0o755).create(parent)?;
            }
            match fs::DirBuilder::new().mode(0o700).create(path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                made => made.and_then(|()| fs::set_permissions(path, private)),
            }
        }
        Err(error) => Err(error),
    }
}

fn write_holder(file: &mut File, holder: &Holder) -> io::Result<()> {
    let text = serde_json::to_vec(holder).map_err(io::Error::other)?;
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(&text)
}

fn read_holder(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.take(4096).read_to_string(&mut text).ok()?;
    let holder: Holder = serde_json::from_str(&text).ok()?;
    // It has the previous holder's text until the new one has written its own.
    let is_process = holder.pid > 0 && holder.began.is_some();
    (is_process && host::process_began(holder.pid) == holder.began).then_some(holder)
}
