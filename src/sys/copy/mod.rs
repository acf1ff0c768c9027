//! Copying files to a directory, in a child process that can be killed: either side may be on a mount that never answers.
//! For a copy to somewhere else the child lists the files.

mod bandwidth;
mod destination;
mod directory_walk;
mod file_reader;
mod glob;
mod progress;
mod selection;
mod worker;

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use bandwidth::Bandwidth;
pub use file_reader::{Feed, Unread};
pub use glob::Pattern;
pub use worker::serve;

use super::cancel::Cancel;
use super::probe::{ProbeError, Worker};
use crate::model::deadline::Deadline;

/// The argument that starts the copying child; see [`serve`].
pub const VERB: &str = "copy";

/// The prefix of the names of unfinished files.
const PART: &str = ".farewell-part-";

/// The bytes read and written at once.
const CHUNK: usize = 128 << 10;

/// What to copy, and where.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Order {
    /// Absolute globs.
    pub from: Vec<String>,
    /// Globs for names of files and directories to leave out.
    pub exclude: Vec<String>,
    /// The directory; without one the files are listed.
    pub to: Option<PathBuf>,
    /// The rate limit in bytes per second.
    pub rate: Option<u64>,
    /// Files that earlier attempts have copied.
    pub done: Vec<Version>,
    /// Marks the names of this attempt's unfinished files: see [`token`].
    pub token: String,
    /// The tokens of interrupted attempts, whose unfinished files are removed.
    pub cut: Vec<String>,
    /// Whether to count files and check the directory only.
    pub rehearses: bool,
}

/// One file as it was at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Version {
    /// Its device and inode.
    pub inode: (u64, u64),
    /// Its length in bytes.
    pub size: u64,
    /// When it was changed last, in seconds and nanoseconds.
    pub changed: (i64, i64),
}

/// A file that was found.
#[derive(Clone, Debug)]
struct Source {
    base: Arc<Path>,
    name: Box<Path>,
    size: u64,
    inode: (u64, u64),
    changed: (i64, i64),
}

impl Source {
    fn version(&self) -> Version {
        Version {
            inode: self.inode,
            size: self.size,
            changed: self.changed,
        }
    }

    fn path(&self) -> PathBuf {
        self.base.join(&self.name)
    }

    fn listed(&self) -> Listed {
        Listed {
            base: self.base.as_os_str().to_owned(),
            name: self.name.as_os_str().to_owned(),
            version: self.version(),
        }
    }
}

/// A file that is to be copied, as it was when it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    base: OsString,
    name: OsString,
    /// Which version of the file it is, with its length.
    pub version: Version,
}

impl Listed {
    /// Its name at the target, with slashes in it where it is in directories.
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        Path::new(&self.base).join(&self.name)
    }

    fn source(&self) -> Source {
        Source {
            base: Path::new(&self.base).into(),
            name: Path::new(&self.name).into(),
            size: self.version.size,
            inode: self.version.inode,
            changed: self.version.changed,
        }
    }
}

/// What the copying process reports, in this order: what is left out and what was found, then each file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// Something is left out, and why.
    Skipped(String),
    /// Two files would have the same name.
    Collision {
        name: String,
        /// The paths of the two.
        paths: [String; 2],
    },
    /// All there is to copy, without what earlier attempts have copied.
    Found {
        /// The number of files.
        files: usize,
        /// Their bytes.
        bytes: u64,
    },
    /// A file that was found, if files are listed.
    Listed(Listed),
    /// The number of bytes written in this attempt.
    Progress(u64),
    /// A file is complete and has been verified.
    Copied {
        /// The name, relative to the directory.
        name: String,
        /// The length of the copy.
        bytes: u64,
        /// The SHA-256 of it, in hexadecimal.
        sha256: String,
        /// Which version of the file it is.
        version: Version,
    },
    /// A file could not be copied.
    Failed {
        path: String,
        /// Why.
        cause: String,
        /// Whether another attempt may succeed.
        retryable: bool,
    },
    /// Every file was tried, and what was copied is on disk.
    Ended,
}

/// Copies, and calls `hear` with each report.
///
/// # Errors
/// If the process does not end in time, or ends without [`Report::Ended`]; see [`ProbeError`].
pub fn copy(
    order: &Order,
    deadline: Deadline,
    cancel: &Cancel,
    hear: &mut dyn FnMut(Report),
) -> Result<(), ProbeError> {
    let order = serde_json::to_vec(order).map_err(io::Error::other)?;
    let mut copying = Worker::start(VERB, &order)?;
    loop {
        let line = copying.line(deadline, cancel)?;
        match serde_json::from_slice(&line).map_err(io::Error::other)? {
            Report::Ended => return Ok(()),
            told => hear(told),
        }
    }
}

/// A name unique among the attempts of all machines that copy to the same directory.
pub fn token() -> String {
    use std::hash::{BuildHasher as _, Hasher as _};
    // Its keys are random.
    let random = std::collections::hash_map::RandomState::new();
    format!("{:016x}", random.build_hasher().finish())
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
