//! What `farewell start` keeps at boot for the shutdown: this machine's facts, the last good plan, and
//! the interfaces that lead to its peers.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};

use crate::config::facts::Values;
use crate::config::fragments::Source;
use crate::plan::unit_ordering::Learnt;
use crate::sys::clock::rfc3339;
use crate::sys::file_trust;

const FACTS: &str = "facts.json";
const PLAN: &str = "plan.json";
const ORDER: &str = "sequence.conf";
const WAYS: &str = "ways.json";

/// What is kept in the state directory too, for the next boot.
const LEARNT: &str = "order.json";

/// The runtime directory. It is gone with the boot (it survives a soft reboot, which changes nothing that is kept here).
#[derive(Clone, Debug)]
pub struct RuntimeDir {
    directory: PathBuf,
}

/// The configuration of a plan that was good.
#[derive(Debug, Serialize, Deserialize)]
pub struct LastGoodPlan {
    /// When it was, RFC 3339.
    pub since: String,
    files: Vec<File>,
}

#[derive(Debug, Serialize, Deserialize)]
struct File {
    /// Shown to people alone; a name that is no UTF-8 is shown as well as it can be.
    #[serde(serialize_with = "as_text")]
    path: PathBuf,
    text: String,
}

fn as_text<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

impl LastGoodPlan {
    /// The files as they were.
    pub fn source(self) -> Source {
        let file = |file: File| (file.path, file.text);
        Source::Kept(self.files.into_iter().map(file).collect())
    }
}

impl RuntimeDir {
    /// `$RUNTIME_DIRECTORY` (systemd.exec(5)), else `/run/farewell` for root and `$XDG_RUNTIME_DIR/farewell` for a plain
    /// user. `None` where there is no such directory to be had.
    pub fn locate(is_root: bool) -> Option<RuntimeDir> {
        let variable = |name| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let directory = match (variable("RUNTIME_DIRECTORY"), is_root) {
            (Some(directory), _) => directory,
            (None, true) => "/run/farewell".into(),
            (None, false) => variable("XDG_RUNTIME_DIR")?.join("farewell"),
        };
        Some(RuntimeDir { directory })
    }

    /// The same for what outlives the boot: the state directory. Only what was learnt is kept there.
    pub fn for_good(state: &Path) -> RuntimeDir {
        RuntimeDir {
            directory: state.to_owned(),
        }
    }

    /// The directory itself.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The facts; none where nothing was kept.
    pub fn facts(&self) -> Values {
        self.read(FACTS).unwrap_or_default()
    }

    /// The last good plan.
    pub fn plan(&self) -> Option<LastGoodPlan> {
        self.read(PLAN)
    }

    /// What farewell-generator made of the last good plan.
    pub fn order(&self) -> Option<String> {
        self.text(ORDER)
    }

    /// The interfaces that led to the addresses of peers over plain http; none where nothing was kept.
    pub fn ways(&self) -> BTreeMap<IpAddr, String> {
        self.read(WAYS).unwrap_or_default()
    }

    /// Keeps the interfaces that lead to the addresses of peers over plain http.
    ///
    /// # Errors
    /// What the system says.
    pub fn keep_ways(&self, ways: &BTreeMap<IpAddr, String>) -> io::Result<()> {
        self.write_json(WAYS, ways)
    }

    /// What systemd has told of units; `None` where nothing was kept, or where another user than this one could have.
    pub fn learnt(&self) -> Option<Learnt> {
        self.read(LEARNT)
    }

    /// Keeps what systemd has told of units.
    ///
    /// # Errors
    /// What the system says.
    pub fn keep_learnt(&self, learnt: &Learnt) -> io::Result<()> {
        self.write_json(LEARNT, learnt)
    }

    /// Keeps facts in the place of those before them.
    ///
    /// # Errors
    /// What the system says.
    pub fn keep_facts(&self, facts: &Values) -> io::Result<()> {
        self.write_json(FACTS, facts)
    }

    /// Keeps what farewell-generator makes of a plan that is good now.
    ///
    /// # Errors
    /// What the system says.
    pub fn keep_order(&self, drop_in: &str) -> io::Result<()> {
        self.write(ORDER, drop_in.as_bytes())
    }

    /// Keeps the files of a plan that is good now.
    ///
    /// # Errors
    /// What the system says.
    pub fn keep_plan(&self, files: &[(PathBuf, String)]) -> io::Result<()> {
        let file = |(path, text): &(PathBuf, String)| File {
            path: path.clone(),
            text: text.clone(),
        };
        let good = LastGoodPlan {
            since: rfc3339(SystemTime::now()),
            files: files.iter().map(file).collect(),
        };
        self.write_json(PLAN, &good)
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        // What was not written by a farewell like this one is as good as not there.
        serde_json::from_str(&self.text(name)?).ok()
    }

    /// What was kept, unless others than this user and root could have written it.
    fn text(&self, name: &str) -> Option<String> {
        let path = self.directory.join(name);
        let mut opened = file_trust::open(&path).ok()?;
        if let Some(finding) = opened.distrust() {
            log::warn!("{} is not used: {finding}", path.display());
            return None;
        }
        opened.text().ok()
    }

    fn write_json<T: Serialize>(&self, name: &str, value: &T) -> io::Result<()> {
        self.write(name, &serde_json::to_vec(value).map_err(io::Error::other)?)
    }

    /// Whole or not at all, and for nobody else's eyes: a configuration may hold a password.
    fn write(&self, name: &str, text: &[u8]) -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&self.directory)?;
        let new = self
            .directory
            .join(format!("{name}.{}", std::process::id()));
        // What a process of this number has left, or somebody has put there.
        let _ = fs::remove_file(&new);
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)
            .and_then(|mut file| file.write_all(text))
            .and_then(|()| fs::rename(&new, self.directory.join(name)));
        if written.is_err() {
            // Where it cannot be removed either, the directory is gone with the boot.
            let _ = fs::remove_file(&new);
        }
        written
    }
}
