//! The files that a configuration consists of, and their order.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::document::{self, Document, Table};
use super::problem::{Problem, Severity};
use crate::sys::{file_trust, files, signals};

/// One file of the configuration.
#[derive(Clone, Debug)]
pub struct Fragment {
    /// Where it is.
    pub path: PathBuf,
    pub text: String,
    /// Its content, as far as it could be parsed.
    pub table: Table,
    /// Whether a syntax error makes further errors in it meaningless.
    pub is_broken: bool,
}

impl Fragment {
    fn parse(path: &Path, text: String, problems: &mut Vec<Problem>) -> Fragment {
        let Document {
            table,
            errors,
            warnings,
        } = document::parse(&text);
        let is_broken = errors.iter().any(|error| error.is_structural);
        let errors = errors.into_iter();
        problems.extend(errors.map(|error| problem(path, error.line, error.message)));
        let warning = |(line, message)| Problem {
            severity: Severity::Warning,
            ..problem(path, line, message)
        };
        problems.extend(warnings.into_iter().map(warning));
        Fragment {
            path: path.to_owned(),
            text,
            table,
            is_broken,
        }
    }
}

/// What to do with installed files that other users could have written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untrusted {
    /// They are errors; for a plain user, for whom nothing runs as root, only warnings.
    Refused,
    /// They are left out, with a warning each; a lower-priority drop-in of the same name counts again.
    LeftOut,
    /// They are read, with a warning each.
    Read,
}

/// Where a configuration comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// This file alone, without drop-ins.
    File(PathBuf),
    /// The installed configuration.
    Installed {
        /// The main file, which may be missing.
        main: PathBuf,
        /// Directories of drop-ins, `*.toml`, lowest priority first: a file replaces one of the same name in an earlier
        /// directory.
        drop_ins: Vec<PathBuf>,
        /// What to do with files that others could have written.
        untrusted: Untrusted,
    },
    /// Texts of files that were kept earlier.
    Kept(Vec<(PathBuf, String)>),
}

impl Source {
    /// The configuration of this machine.
    pub fn installed(untrusted: Untrusted) -> Source {
        let places = ["/usr/lib/farewell", "/run/farewell", "/etc/farewell"];
        Source::Installed {
            main: "/etc/farewell/farewell.toml".into(),
            drop_ins: places
                .iter()
                .map(|place| Path::new(place).join("conf.d"))
                .collect(),
            untrusted,
        }
    }

    /// Reads every file in the order in which their steps follow one another, and tells every file that cannot be
    /// read, every file that is not to be trusted, and every syntax error.
    pub fn load(&self) -> (Vec<Fragment>, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut fragments = Vec::new();
        match self {
            Source::File(path) => {
                if signals::is_root() {
                    warn_of(path, &mut problems);
                }
                match files::read_any(path) {
                    Ok(text) => fragments.push(Fragment::parse(path, text, &mut problems)),
                    Err(error) => problems.push(unreadable(path, &error)),
                }
            }
            Source::Installed {
                main,
                drop_ins,
                untrusted,
            } => {
                let mut reader = Reader::new(*untrusted, &mut problems);
                let main = reader.read(main, true);
                let drop_ins = reader.drop_ins(drop_ins);
                for (path, text) in main.into_iter().chain(drop_ins) {
                    fragments.push(Fragment::parse(&path, text, &mut problems));
                }
            }
            Source::Kept(files) => {
                let parse = |(path, text): &(PathBuf, String)| {
                    Fragment::parse(path, text.clone(), &mut problems)
                };
                fragments = files.iter().map(parse).collect();
            }
        }
        (fragments, problems)
    }
}

/// Reads installed files, as far as they are trusted.
struct Reader<'a> {
    untrusted: Untrusted,
    problems: &'a mut Vec<Problem>,
    told: BTreeSet<String>,
}

impl Reader<'_> {
    fn new(untrusted: Untrusted, problems: &mut Vec<Problem>) -> Reader<'_> {
        Reader {
            untrusted,
            problems,
            told: BTreeSet::new(),
        }
    }

    /// A file and its text. Reports a file that cannot be read or is not trusted.
    fn read(&mut self, path: &Path, may_be_missing: bool) -> Option<(PathBuf, String)> {
        let owned = path.to_owned();
        let opened = files::within(files::PATIENCE, move || {
            let mut opened = file_trust::open(&owned)?;
            let text = opened.text();
            Ok((text, opened))
        });
        let (text, opened) = match opened {
            Ok(read) => read,
            Err(error) if may_be_missing && error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                self.problems.push(unreadable(path, &error));
                return None;
            }
        };
        if !self.judge(path, &opened) {
            return None;
        }
        text.map_err(|error| self.problems.push(unreadable(path, &error)))
            .ok()
            .map(|text| (path.to_owned(), text))
    }

    /// Reports what is wrong with a file. Returns whether to use it.
    fn judge(&mut self, path: &Path, opened: &file_trust::Opened) -> bool {
        let is_refused = self.untrusted == Untrusted::Refused && signals::is_root();
        let is_used = opened.distrust().is_none() || self.untrusted != Untrusted::LeftOut;
        for finding in &opened.findings {
            // A directory above several files is reported once.
            if !self.told.insert(finding.message.clone()) {
                continue;
            }
            let fate = match (finding.is_untrusted, self.untrusted) {
                (true, Untrusted::LeftOut) => "left out because it is not trusted: ",
                (true, _) => "not trusted: ",
                (false, _) => "",
            };
            let problem = problem(path, 0, format!("{fate}{finding}"));
            self.problems.push(Problem {
                severity: match is_refused && finding.is_untrusted {
                    true => Severity::Error,
                    false => Severity::Warning,
                },
                ..problem
            });
        }
        is_used
    }

    /// The effective drop-ins with their texts, sorted by name. An empty one, or a link to /dev/null, masks what it
    /// replaces.
    fn drop_ins(&mut self, directories: &[PathBuf]) -> Vec<(PathBuf, String)> {
        let mut places: BTreeMap<OsString, Vec<PathBuf>> = BTreeMap::new();
        for directory in directories {
            let looked = directory.clone();
            match files::within(files::PATIENCE, move || file_trust::open(&looked)) {
                Ok(opened) => drop(self.judge(directory, &opened)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    self.problems.push(unreadable(directory, &error));
                    continue;
                }
            }
            match names(directory) {
                Ok(names) => names.into_iter().for_each(|name| {
                    let path = directory.join(&name);
                    places.entry(name).or_default().push(path);
                }),
                Err(error) => self.problems.push(unreadable(directory, &error)),
            }
        }
        let mut read = Vec::new();
        for paths in places.into_values() {
            // The trusted one with the highest priority, or else the one with the highest priority.
            for path in paths.iter().rev() {
                let found = self.read(path, false);
                let is_found = found.is_some();
                read.extend(found);
                if is_found || self.untrusted != Untrusted::LeftOut {
                    break;
                }
            }
        }
        read
    }
}

/// The names of the drop-ins in a directory.
fn names(directory: &Path) -> io::Result<Vec<OsString>> {
    let is_drop_in = |name: &OsString| {
        let is_hidden = name.as_encoded_bytes().starts_with(b".");
        !is_hidden && Path::new(name).extension().is_some_and(|it| it == "toml")
    };
    let entries = std::fs::read_dir(directory)?.flatten();
    Ok(entries
        .map(|entry| entry.file_name())
        .filter(is_drop_in)
        .collect())
}

/// Warns of a file given by hand that others could have written.
fn warn_of(path: &Path, problems: &mut Vec<Problem>) {
    let owned = path.to_owned();
    // A file that cannot be opened is reported when it is read; the owner of a pipe does not matter.
    let opened = files::within(files::PATIENCE, move || file_trust::open(&owned));
    let findings = opened.map(|it| it.findings).unwrap_or_default();
    problems.extend(
        findings
            .into_iter()
            .filter(|it| it.is_untrusted)
            .map(|finding| {
                let message = format!("an installed configuration like this is refused: {finding}");
                Problem {
                    severity: Severity::Warning,
                    ..problem(path, 0, message)
                }
            }),
    );
}

fn unreadable(path: &Path, error: &io::Error) -> Problem {
    problem(path, 0, format!("cannot be read: {error}"))
}

fn problem(path: &Path, line: usize, message: impl Into<String>) -> Problem {
    Problem {
        severity: Severity::Error,
        file: path.to_owned(),
        line,
        step: None,
        key: None,
        message: message.into(),
    }
}
