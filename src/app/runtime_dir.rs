//! What `farewell start` saves at boot for the shutdown: this machine's facts, the last good plan, and
//! the interfaces that lead to its peers.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};

use crate::config::facts::Values;
use crate::config::fragments::Source;
use crate::plan::unit_ordering::Learnt;
use crate::sys::clock::rfc3339;
use crate::sys::file_trust;
use crate::sys::small_file::{self, SmallFile};

const FACTS: &str = "facts.json";
const PLAN: &str = "plan.json";
const ORDER: &str = "sequence.conf";
const WAYS: &str = "ways.json";

/// Saved in the state directory too, for the next boot.
const LEARNT: &str = "order.json";

/// The runtime directory. It is gone after a reboot (it survives a soft reboot, which changes nothing that is saved here).
#[derive(Clone, Debug)]
pub struct RuntimeDir {
    directory: PathBuf,
}

/// The configuration of the last good plan.
#[derive(Debug, Serialize, Deserialize)]
pub struct LastGoodPlan {
    /// When it was saved, RFC 3339.
    pub since: String,
    files: Vec<File>,
}

#[derive(Debug, Serialize, Deserialize)]
struct File {
    /// Only shown to people; a name that is not UTF-8 is shown lossily.
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
    /// user. `None` if there is no such directory.
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

    /// The same in the state directory, which outlives the boot. Only what was learnt of units is saved there.
    pub fn for_good(state: &Path) -> RuntimeDir {
        RuntimeDir {
            directory: state.to_owned(),
        }
    }

    /// The directory itself.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The facts; empty if none were saved.
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

    /// The interfaces that led to the addresses of peers over plain HTTP; empty if none were saved.
    pub fn ways(&self) -> BTreeMap<IpAddr, String> {
        self.read(WAYS).unwrap_or_default()
    }

    /// Saves the interfaces that lead to the addresses of peers over plain HTTP.
    pub fn keep_ways(&self, ways: &BTreeMap<IpAddr, String>) -> io::Result<()> {
        self.write_json(WAYS, ways)
    }

    /// What systemd reported of units; `None` if nothing was saved, or another user could have written it.
    pub fn learnt(&self) -> Option<Learnt> {
        self.read(LEARNT)
    }

    /// Saves what systemd reported of units.
    pub fn keep_learnt(&self, learnt: &Learnt) -> io::Result<()> {
        self.write_json(LEARNT, learnt)
    }

    /// Saves facts, and replaces earlier ones.
    pub fn keep_facts(&self, facts: &Values) -> io::Result<()> {
        self.write_json(FACTS, facts)
    }

    /// Saves what farewell-generator makes of a good plan.
    pub fn keep_order(&self, drop_in: &str) -> io::Result<()> {
        self.write(ORDER, drop_in)
    }

    /// Saves the files of a good plan.
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
        // A file that this version cannot read counts as missing.
        serde_json::from_str(&self.text(name)?).ok()
    }

    /// The saved file, unless others than this user and root could have written it.
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
        self.write(
            name,
            &serde_json::to_string(value).map_err(io::Error::other)?,
        )
    }

    /// Writes a file whole or not at all, readable by its owner only: a configuration may hold a password.
    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&self.directory)?;
        let file = SmallFile {
            mode: 0o600,
            ..SmallFile::new(text)
        };
        small_file::replace(&self.directory.join(name), &file)
    }
}
